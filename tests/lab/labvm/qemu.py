# SPDX-License-Identifier: GPL-2.0
"""The machine that a run of the lab needs, as a QEMU command line."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from .options import Options

OVMF_CODE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
OVMF_VARS = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")

# Virtio ports between guest and lab; the names appear in /sys/class/virtio-ports/*/name.
PORTS = ("out", "err", "status")

# What makes a failure end the run at once (a panic resets the machine, which QEMU reports), and
# what keeps an emulated machine on a busy host from crying wolf. Nothing here helps Popcorn itself.
CMDLINE = (
    "console=ttyS0",
    "panic=-1",
    "oops=panic",
    "printk.devkmsg=on",
    "watchdog_thresh=60",
    "rcupdate.rcu_cpu_stall_timeout=120",
)


@dataclass(frozen=True)
class Emulator:
    """A QEMU: its program, and what `-L` and LD_LIBRARY_PATH need when it is not the system's."""

    program: Path = Path("/usr/bin/qemu-system-x86_64")
    data: tuple[Path, ...] = ()
    libraries: tuple[Path, ...] = ()
    modules: Path | None = None

    def environment(self) -> dict[str, str]:
        """Return the variables that this QEMU must be started with."""
        values = {}
        if self.libraries:
            values["LD_LIBRARY_PATH"] = ":".join(map(str, self.libraries))
        if self.modules:
            values["QEMU_MODULE_DIR"] = str(self.modules)
        return values


# Fast string instructions make kernels clear pages with `rep stosb`, which emulation does byte by
# byte: five times slower than what they do without.
CPU = "max,-erms,-fsrm"


@dataclass(frozen=True)
class Files:
    """What a run reads and writes on this machine. The guest may write `shared` only.

    `view`: a directory over which the root's own file system can be mounted, without those that
    are mounted in it; None where that cannot be done or would hide something.
    """

    image: Path
    initrd: Path
    serial: Path
    shared: Path
    firmware_vars: Path
    view: Path | None = None


def command(options: Options, emulator: Emulator, files: Files, fds: dict[str, int]) -> list[str]:
    """Return QEMU's argument list.

    `fds` maps "qmp" and, unless the run is a shell, each of PORTS to a connected socket that QEMU
    inherits.
    """
    line = [str(emulator.program)]
    for directory in emulator.data:
        line += ["-L", str(directory)]
    line += ["-nodefaults", "-no-user-config", "-display", "none"]
    # -no-reboot turns a reset into a shutdown, whose reason QMP tells; panic=none leaves a panic to
    # the kernel, so that all it has to say still reaches the serial log.
    line += ["-no-reboot", "-action", "panic=none"]
    line += _machine(options)
    line += ["-smp", str(options.cpus), "-m", options.memory]
    if options.firmware == "uefi":
        line += ["-drive", f"if=pflash,format=raw,readonly=on,file={_value(OVMF_CODE)}"]
        line += ["-drive", f"if=pflash,format=raw,file={_value(files.firmware_vars)}"]
    line += ["-kernel", str(files.image), "-initrd", str(files.initrd)]
    line += ["-append", " ".join([*CMDLINE, options.append]).strip()]
    line += ["-serial", f"file:{files.serial}"]
    if options.serial2:
        line += ["-serial", f"file:{options.serial2}"]
    line += ["-device", "pvpanic-pci"]
    line += _share("root", files.view or Path("/"), alone=bool(files.view), writable=False)
    line += _share("shared", files.shared, alone=True, writable=True)
    line += [*_socket("qmp", fds["qmp"]), "-mon", "chardev=qmp,mode=control"]
    line += ["-device", "virtio-serial-pci"]
    if options.interactive:
        line += [
            "-chardev",
            "stdio,id=tty,mux=off,signal=off",
            "-device",
            "virtconsole,chardev=tty",
        ]
    for name in PORTS:
        if name in fds:
            line += [
                *_socket(name, fds[name]),
                "-device",
                f"virtserialport,chardev={name},name={name}",
            ]
    return line


def _machine(options: Options) -> list[str]:
    # Always emulation: KVM may be there and yet not run a distribution kernel, and a result must
    # not depend on whether it does.
    accelerator = ["-accel", "tcg,thread=multi"]
    if options.icount:
        # An instruction takes a nanosecond of the machine's time, and of its TSC, whatever it does.
        accelerator = ["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off"]
    if options.machine == "x2apic":
        return [
            *accelerator,
            *("-machine", "q35,kernel-irqchip=split"),
            *("-device", "intel-iommu,intremap=on,eim=on"),
            *("-cpu", f"{CPU},+x2apic"),
        ]
    # OVMF needs the flash of q35 in any case; with SeaBIOS the older chip set adds variety.
    return [*accelerator, "-machine", "q35" if options.firmware == "uefi" else "pc", "-cpu", CPU]


def in_view(line: list[str], view: Path) -> list[str]:
    """Run `line` where `view` shows the root's own file system, and nobody else sees that."""
    script = 'mount --bind / "$0" && exec "$@"'
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, str(view), *line]


def _share(tag: str, path: Path, *, alone: bool, writable: bool) -> list[str]:
    access = "" if writable else ",readonly=on"
    # Inode numbers of several file systems have to be told apart. It costs a stat() of each entry
    # in every directory that the guest lists, and a Python program lists large ones at its start.
    devices = "forbid" if alone else "remap"
    return [
        "-fsdev",
        f"local,id={tag},path={_value(path)},security_model=none,multidevs={devices}{access}",
        "-device",
        f"virtio-9p-pci,fsdev={tag},mount_tag={tag}",
    ]


def _socket(name: str, fd: int) -> list[str]:
    return ["-chardev", f"socket,id={name},fd={fd}"]


def _value(path: Path) -> str:
    """Quote a comma as QEMU's option parser wants it."""
    return str(path).replace(",", ",,")


def show(line: list[str]) -> str:
    """Return a command line as a person could type it."""
    return shlex.join(line)
