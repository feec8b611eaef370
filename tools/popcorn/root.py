# SPDX-License-Identifier: GPL-2.0
"""This kernel's root file system as that of another kernel: served by 9p over the link.

diod, of Debian's package of that name, serves one connection each. A keeper, a process of
:mod:`popcorn.keeper`, takes the connections of one kernel and ends with it, whoever ended it: so
there is nothing that a popcornctl which is killed could leave. What it does it writes to a file
below `DIRECTORY` which it holds a lock on; a file that nobody holds is a dead one's.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from popcorn.errors import BusyError, NotFoundError, PlanError, PopcornError, TimeoutExpiredError
from popcorn.link import private_address
from popcorn.sysfs import System

if TYPE_CHECKING:
    from popcorn.link import Link
    from popcorn.models import Kernel

__all__ = (
    "PROFILE",
    "ROOTS",
    "SERVER",
    "Export",
    "RootServer",
    "describe",
    "find_export",
    "find_server",
    "mounts_to_export",
    "read_server",
    "root_words",
    "start_server",
    "state_path",
    "stop_server",
    "wait_mounted",
)

ROOTS = ("host",)
"""What a root can be: `host` is this kernel's."""
PROFILE = "full"
"""The image profile that mounts it."""
SERVER = "diod"
PORT = 5640
"""To which a node's id is added: each kernel has a server of its own."""
DIRECTORY = Path("/run/popcorn/root")
START_SECONDS = 30.0
STOP_SECONDS = 10.0
POLL_SECONDS = 0.05
WORDS_MAX = 512
"""Bytes of the list of file systems, which goes by the command line."""

# What has no place in another kernel, or that it has of its own.
OWN_PLACES = ("/dev", "/proc", "/run", "/sys", "/tmp")
# File systems without a device of their own that are worth to be seen, too.
KEPT_TYPES = frozenset(("bcachefs", "btrfs", "tmpfs", "zfs"))
# An image of each package; there can be hundreds.
LEFT_OUT_TYPES = frozenset(("squashfs",))

Which = Callable[[str], str | None]


@dataclass(frozen=True)
class Export:
    """What a keeper serves: `mounts` at `address` and `port`, to `peer` alone."""

    kernel_id: int
    name: str
    address: str
    peer: str
    port: int
    mounts: tuple[str, ...]
    program: str = SERVER


@dataclass(frozen=True)
class RootServer:
    """A keeper that runs. `connections` it has now; `mounted` once the kernel said that it is on
    that root, or why it is not."""

    pid: int
    address: str
    port: int
    peer: str
    connections: int = 0
    mounted: str = ""
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        """Stable JSON form."""
        return {
            "address": self.address,
            "port": self.port,
            "peer": self.peer,
            "connections": self.connections,
        }


def state_path(kernel_id: int, directory: Path = DIRECTORY) -> Path:
    """Where the keeper of a kernel says what it does."""
    return directory / f"{kernel_id}.json"


def config_path(kernel_id: int, directory: Path = DIRECTORY) -> Path:
    """What the server of a kernel's connections reads."""
    return directory / f"{kernel_id}.conf"


def unit_name(kernel_id: int) -> str:
    """Of the transient unit of systemd that a keeper is."""
    return f"popcorn-root-{kernel_id}.service"


def mounts_to_export(system: System) -> tuple[str, ...]:
    """Mount points of the file systems to serve, `/` first and each after those it is in.

    The server does not cross from one to the other. Left out are file systems that the kernel
    makes up, images of packages, and all where the other kernel has its own.
    """
    made_up = {
        line.split()[-1]
        for line in (system.read("/proc/filesystems") or "").splitlines()
        if line.startswith("nodev")
    } - KEPT_TYPES
    found = set()
    for place, kind in _mounts(system):
        mine = any(place == own or place.startswith(f"{own}/") for own in OWN_PLACES)
        # Blanks and the like come as octal numbers; they could not be passed on.
        plain = re.fullmatch(r"/[\w./+@:-]*", place, re.ASCII)
        if kind not in made_up | LEFT_OUT_TYPES and not mine and plain and ":" not in place:
            found.add(place)
    return ("/", *sorted(found - {"/"}))


def _mounts(system: System) -> Iterator[tuple[str, str]]:
    """Place and type of each mount, a later one over an earlier one."""
    for line in (system.read("/proc/self/mountinfo") or "").splitlines():
        before, _, after = line.partition(" - ")
        yield before.split()[4], after.split()[0]


def find_server(system: System, which: Which = shutil.which) -> str:
    """Path of the server. NotFoundError if it is not installed."""
    found = which(SERVER) or next(
        (str(p) for p in (system.path(f"/usr/sbin/{SERVER}"),) if p.exists()), None
    )
    if found is None:
        raise NotFoundError(
            f"a root from this kernel needs {SERVER}, which is not here",
            f"apt-get install {SERVER}",
        )
    return found


def find_export(
    name: str,
    node: int,
    links: Sequence[Link],
    append: str,
    *,
    system: System | None = None,
    which: Which = shutil.which,
) -> Export:
    """What to serve to node `node`, and where. Nothing is changed.

    NotFoundError without a link or a server; PlanError if the link is off, or is not in the subnet
    of the address that the kernel gets, and for a root that the server could not serve.
    """
    system = system or System()
    program = find_server(system, which)
    _check_devices(system)
    if not links:
        raise NotFoundError(
            "a root from this kernel goes over the link, and this kernel has none",
            "make it: popcornctl link add",
        )
    link = links[0]
    if link.state == "down":
        raise PlanError(
            f"a root from this kernel goes over the link, and {link.name} is off",
            f"popcornctl link set {link.name} --up",
        )
    peer = ipaddress.ip_interface(_peer(append) or private_address(link.machine, node))
    for text in link.addresses:
        own = ipaddress.ip_interface(text)
        if own.version == peer.version and own.ip in peer.network and peer.ip in own.network:
            mounts = mounts_to_export(system)
            _check_words(mounts)
            return Export(node, name, str(own.ip), str(peer.ip), PORT + node, mounts, program)
    raise PlanError(
        f"{link.name} has no address in {peer.network}, where kernel '{name}' will be",
        f"popcornctl link set {link.name} --add-address"
        f" {private_address(link.machine, link.node_id)}, or --append popcorn_link.address=",
    )


def _device(path: Path) -> int:
    return path.lstat().st_dev


def _check_devices(system: System) -> None:
    """PlanError for an overlay whose files have not the device number of its directories.

    The server tells one file system from another by that, and would not open them. Asked for is not
    xino=on: an overlay whose layers are in one file system does without.
    """
    kinds = [kind for place, kind in _mounts(system) if place == "/"]
    place = system.path("/etc")
    if kinds[-1:] != ["overlay"] or not place.is_dir():
        return
    if _device(place) != _device(system.path("/")):  # another file system
        return
    # Containers have other file systems' files mounted on some of them.
    files = [path for path in place.iterdir() if path.is_file() and not path.is_symlink()]
    if files and all(_device(path) != _device(place) for path in files):
        raise PlanError(
            "this kernel's root is an overlay whose files and directories have different device"
            f" numbers: {SERVER} would take the files for those of another file system",
            "it has to be mounted with xino=on, from the start: a remount does not change that",
        )


def _peer(append: str) -> str | None:
    """The IPv4 address that the kernel is given on its command line."""
    prefix = "popcorn_link.address="
    given = [word.removeprefix(prefix) for word in append.split() if word.startswith(prefix)]
    for text in given:
        with contextlib.suppress(ValueError):
            if ipaddress.ip_interface(text).version == 4:
                return text
    if given:
        raise PlanError(
            "a root from this kernel goes over the link by IPv4, and the kernel has no address",
            "give it one: --append popcorn_link.address=ADDRESS/PREFIX",
        )
    return None


def _check_words(mounts: Iterable[str]) -> None:
    length = len(",".join(mounts))
    if length > WORDS_MAX:
        raise PlanError(
            f"the names of the file systems mounted here have {length} bytes, at most {WORDS_MAX}"
            " can be told to another kernel",
            "see: findmnt",
        )


def root_words(export: Export) -> str:
    """The words for the kernel's command line: where its root is, and what is mounted on it."""
    words = f"popcorn_root={export.address}:{export.port}"
    more = ",".join(export.mounts[1:])
    return f"{words} popcorn_root.mounts={more}" if more else words


def read_server(kernel_id: int, directory: Path = DIRECTORY) -> RootServer | None:
    """The keeper of a kernel if it runs, None if there is none; PermissionError for others than
    root."""
    path = state_path(kernel_id, directory)
    for _ in range(20):
        try:
            with path.open("rb") as file:
                if not _is_held(file.fileno()):
                    return None
                text = file.read()
        except FileNotFoundError:
            return None
        with contextlib.suppress(ValueError, TypeError):
            return RootServer(**json.loads(text))
        time.sleep(POLL_SECONDS)  # it is just being written
    return None


def describe(kernel: Kernel, directory: Path = DIRECTORY) -> dict[str, Any] | None:
    """How a kernel's root is served, as JSON: None if it has none from here; `served` is false when
    that has ended, and None if it is not for this user to see."""
    with contextlib.suppress(ValueError, TypeError, AttributeError):
        root = json.loads(kernel.recipe).get("root")
        if root in ROOTS:
            try:
                server = read_server(kernel.id, directory)
            except PermissionError:
                return {"root": root, "served": None}
            more = {} if server is None else server.to_json()
            return {"root": root, "served": server is not None, **more}
    return None


def _is_held(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def keeper_command(export: Export, directory: Path = DIRECTORY) -> list[str]:
    """The program that serves, for systemd or as it is."""
    return [sys.executable, "-m", "popcorn.keeper", json.dumps(asdict(export)), str(directory)]


def has_systemd(system: System) -> bool:
    """As sd_booted(3) finds it."""
    return system.path("/run/systemd/system").is_dir()


def _spawn(export: Export, system: System, directory: Path) -> subprocess.Popen[bytes]:
    """Start the keeper: as a transient unit, which outlives the user's session, or as a process."""
    environment = {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    command = keeper_command(export, directory)
    if has_systemd(system):
        settings = (f"--setenv={key}={value}" for key, value in environment.items())
        command = [
            "systemd-run", "--quiet", "--collect", f"--unit={unit_name(export.kernel_id)}",
            f"--description=Root of Popcorn kernel {export.name}", *settings, *command,
        ]  # fmt: skip
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE if has_systemd(system) else subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, **environment},
    )


def start_server(
    export: Export, *, system: System | None = None, directory: Path = DIRECTORY
) -> RootServer:
    """Serve; returns when connections are taken.

    The kernel must have its lease, and what served to one of that id before is ended. BusyError if
    the port is in use.
    """
    system = system or System()
    stop_server(export.kernel_id, directory=directory)
    process = _spawn(export, system, directory)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        found = read_server(export.kernel_id, directory)
        if found is not None and not found.error:
            return found
        if found is not None:
            _reap(process)
            raise BusyError(
                f"{export.address}:{export.port} cannot be served on: {found.error}",
                f"see: ss -ltnp sport = :{export.port}",
            )
        if process.poll() and process.stderr:
            reason = process.stderr.read().decode("utf-8", "replace").strip()
            raise PopcornError(f"systemd-run failed: {reason}")
        if process.poll():
            break
        time.sleep(POLL_SECONDS)
    raise PopcornError(f"the server of the root of kernel '{export.name}' did not start")


def _reap(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)


def stop_server(kernel_id: int, *, directory: Path = DIRECTORY) -> bool:
    """End the server of a kernel's root; whether there was one. Returns when it is gone.

    It ends by itself when its kernel does: this is to be sure of it.
    """
    found = read_server(kernel_id, directory)
    sent = 0
    deadline = time.monotonic() + STOP_SECONDS
    while (now := read_server(kernel_id, directory)) is not None:
        late = time.monotonic() > deadline
        wanted = signal.SIGKILL if late else signal.SIGTERM
        if sent != wanted:
            # Who holds the lock lives, so its pid is nobody else's.
            with contextlib.suppress(ProcessLookupError):
                os.kill(now.pid, wanted)
            sent = wanted
        with contextlib.suppress(ChildProcessError):
            os.waitpid(now.pid, os.WNOHANG)
        time.sleep(POLL_SECONDS)
    # Of one that was killed these are left.
    for path in (state_path(kernel_id, directory), config_path(kernel_id, directory)):
        path.unlink(missing_ok=True)
    return found is not None


def wait_mounted(kernel_id: int, name: str, timeout: float, directory: Path = DIRECTORY) -> None:
    """Wait until the kernel says that it is on its root. PopcornError if it says that it is not."""
    deadline = time.monotonic() + timeout
    see = f"to see why: popcornctl kernel dmesg {name}"
    while True:
        found = read_server(kernel_id, directory)
        if found is None:
            raise PopcornError(f"the server of the root of kernel '{name}' has ended", see)
        if found.mounted == "yes":
            return
        if found.mounted:
            raise PopcornError(f"kernel '{name}' has no root: {found.mounted}", see)
        if time.monotonic() > deadline:
            raise TimeoutExpiredError(
                f"kernel '{name}' did not mount its root within {timeout:g} s", see
            )
        time.sleep(POLL_SECONDS)
