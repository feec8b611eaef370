# SPDX-License-Identifier: GPL-2.0
"""popcornctl kernel: plan, start, stop, kill, list, show, wait, ssh; others are added."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from popcorn.cli.base import ADDRESS, CPULIST, KERNEL, SECONDS, SIZE, Group, settings
from popcorn.cli.dmesg import dmesg
from popcorn.cli.dump import dump
from popcorn.cli.execute import exec_command
from popcorn.cli.output import pairs, print_json, table
from popcorn.cli.progress import followed
from popcorn.cli.recovery import nmi, restart
from popcorn.units import format_cpulist, format_duration, format_size

if TYPE_CHECKING:
    from popcorn.client import Client
    from popcorn.models import Fabric, Kernel
    from popcorn.plan import Plan, Spec

_F = TypeVar("_F", bound=Callable[..., Any])

STATES = ("leased", "starting", "running", "stopping", "stopped", "crashed", "killed", "hung")


@click.group(cls=Group)
def kernel() -> None:
    """Start, stop, show and examine kernels."""


def _spec_options(command: _F) -> _F:
    """What `plan` and `start` are told alike."""
    for option in reversed(
        (
            click.argument("name"),
            click.option("--cpus", type=CPULIST, help="CPUs to take, like 2-3,5; the first boots."),
            click.option("--memory", type=SIZE, help="Memory to take, like 512M; multiple of 2M."),
            click.option(
                "--memory-at",
                type=ADDRESS,
                help="Physical start of memory that this kernel was booted without (memmap=).",
            ),
            click.option(
                "--kernel",
                "image",
                metavar="PATH|RELEASE",
                help="Kernel image, or the release of one in /boot; the running one by default.",
            ),
            click.option(
                "--initrd",
                type=click.Path(path_type=Path),
                help="Initramfs; by default one is made for the kernel.",
            ),
            click.option(
                "--profile",
                type=click.Choice(["light", "shell", "full"]),
                help="What is in an initramfs that is made; light by default, full with --root.",
            ),
            click.option(
                "--root",
                type=click.Choice(["host"]),
                help="Root file system: host is that of this kernel, read-only, by the link.",
            ),
            click.option("--append", default="", metavar="WORDS", help="More kernel parameters."),
        )
    ):
        command = option(command)
    return command


def _spec(
    name: str,
    cpus: tuple[int, ...] | None,
    memory: int | None,
    memory_at: int | None,
    image: str | None,
    initrd: Path | None,
    profile: str | None,
    root: str | None,
    append: str,
) -> Spec:
    from popcorn.plan import Spec

    return Spec(
        name=name,
        cpus=cpus,
        memory_bytes=memory,
        memory_start=memory_at,
        kernel=image,
        initrd=initrd,
        profile=profile,
        root=root,
        append=append,
    )


@kernel.command("plan")
@_spec_options
def plan_command(**options: Any) -> None:
    """Show what start would do, and do nothing.

    Needs no root and no modules. What is only known once the memory is leased is assumed, and the
    output says what that is.
    """
    _print_plan(_spec(**options))


@kernel.command("start")
@_spec_options
@click.option(
    "--timeout",
    type=SECONDS,
    default="60",
    metavar="SECONDS",
    help="How long to wait for the kernel to join; 60 by default.",
)
@click.option("--dry-run", is_flag=True, help="Only show the plan.")
def start_command(timeout: float, dry_run: bool, **options: Any) -> None:
    """Start a kernel and wait until it has joined.

    A new NAME needs --cpus and --memory. A kernel that was stopped, crashed or killed and kept its
    lease is started on it again. One that joined counts as started even if it has powered off again
    by then, and one that crashed does not.

    With --root host the kernel runs on the file systems of this one: it reads them over the link,
    and what it writes stays in its memory. They are served by diod, to that kernel alone, for as
    long as it runs. The files that this kernel keeps secret are in them.
    """
    from dataclasses import replace

    from popcorn.client import Client
    from popcorn.models import label
    from popcorn.start import start_kernel

    spec = replace(_spec(**options), timeout=timeout)
    if dry_run:
        _print_plan(spec)
        return
    hint = "kernel '{name}' is {state} and stays; to undo it: popcornctl kernel kill {name}"
    with Client() as client, followed(client, spec.name, hint) as progress:
        started = start_kernel(client, spec, progress=progress)
    if settings().json:
        print_json(started.to_json())
        return
    print(f"kernel '{spec.name}' is {label(started.kernel.state)} as node {started.kernel.id}")


def _print_plan(spec: Spec) -> None:
    from popcorn.plan import plan_start

    plan = plan_start(spec)
    if settings().json:
        print_json(plan.to_json())
        return
    _show_plan(plan)


def _fabric(fabric: Fabric | None) -> str:
    if fabric is None:
        return "not known without popcorn_host"
    return (
        f"{format_size(fabric.size)} at {fabric.phys:#x}: {fabric.nr_nodes} nodes with"
        f" {format_size(fabric.area_bytes)} each for long messages, {fabric.nr_queues} queues of"
        f" {fabric.ring_slots} messages between each two"
    )


def _show_plan(plan: Plan) -> None:
    target = plan.target
    cpus = plan.spec.cpus or ()
    ids = ", ".join(str(apic_id) for apic_id in target.apic_ids)
    pairs(
        (
            ("name", plan.spec.name),
            ("CPUs", f"{format_cpulist(cpus)} (APIC IDs {ids})"),
            (
                "memory",
                f"{format_size(target.region_bytes)} at {target.region_start:#x}, at least"
                f" {format_size(plan.memory_minimum)} needed",
            ),
            ("kernel", f"{plan.image.name} ({plan.image.release or 'release unknown'})"),
            ("initramfs", f"{plan.initrd.name}, {plan.initrd.size} bytes"),
            ("root", "the initramfs" if plan.spec.root is None else "this kernel's, by the link"),
            ("entry", f"{plan.layout.entry:#x}"),
            ("fabric", _fabric(plan.fabric)),
        )
    )
    print("\nsegments")
    table(
        ("START", "END", "BYTES", "WHAT"),
        ((f"{p.start:#x}", f"{p.end - 1:#x}", p.size, p.name) for p in plan.layout.placements),
    )
    print("\nmemory map of the kernel (e820)")
    table(
        ("START", "END", "SIZE", "TYPE"),
        (
            (f"{e.start:#x}", f"{e.start + e.size - 1:#x}", format_size(e.size), e.type.name)
            for e in plan.layout.e820
        ),
    )
    print(f"\ncommand line\n{plan.layout.command_line}")
    if plan.assumed:
        print("\nassumed, known only with the lease")
        for what in plan.assumed:
            print(f"- {what}")


@kernel.command("stop")
@click.argument("name", type=KERNEL)
@click.option(
    "--timeout",
    type=SECONDS,
    default="30",
    metavar="SECONDS",
    help="How long to wait for it to power off; 30 by default.",
)
@click.option("--keep", is_flag=True, help="Keep its CPUs and memory for another start.")
def stop_command(name: str, timeout: float, keep: bool) -> None:
    """Ask a kernel to power off, wait for it, and take its CPUs and memory back.

    A kernel that does not run any more only gives back what it has.
    """
    from popcorn.client import RESTING, Client
    from popcorn.errors import TimeoutExpiredError
    from popcorn.models import KernelState, label

    with Client() as client:
        found = client.kernel(name)
        if found.state not in RESTING:
            if found.state != KernelState.STOPPING:
                client.kernel_stop(found.id)
            try:
                found = client.wait_kernel(found.id, RESTING, timeout)
            except TimeoutExpiredError:
                raise TimeoutExpiredError(
                    f"kernel '{found.name}' did not power off within {timeout:g} s:"
                    f" it is {label(client.kernel(found.id).state)}",
                    f"to end it all the same: popcornctl kernel kill {found.name}",
                ) from None
        _release(client, found, keep)


@kernel.command("kill")
@click.argument("name", type=KERNEL)
@click.option("--keep", is_flag=True, help="Keep its CPUs and memory for another start.")
def kill_command(name: str, keep: bool) -> None:
    """Reset the CPUs of a kernel, whatever it does, and take them and its memory back.

    Also undoes a start that was interrupted.
    """
    from popcorn.client import RESTING, Client

    with Client() as client:
        found = client.kernel(name)
        if found.state not in RESTING:
            client.kernel_kill(found.id)
            found = client.kernel(found.id)
        _release(client, found, keep)


def _release(client: Client, found: Kernel, keep: bool) -> None:
    """Give the lease of a kernel that rests back, unless it is to be kept, and say so."""
    from popcorn.models import label
    from popcorn.root import stop_server

    stop_server(found.id)
    if not keep:
        client.kernel_del(found.id)
    if settings().json:
        print_json({"kernel": found.to_json(), "released": not keep})
        return
    because = f" ({found.reason})" if found.reason not in ("", label(found.state)) else ""
    what = f"CPUs {format_cpulist(found.cpus)} and {format_size(found.memory_size)}"
    done = f"keeps {what}" if keep else f"gave back {what}"
    print(f"kernel '{found.name}' is {label(found.state)}{because}, {done}")


@kernel.command("list")
def list_command() -> None:
    """List the kernels that have CPUs and memory of this one.

    With --json, the last lines of the log are told of one that crashed or is hung.
    """
    from popcorn.client import Client
    from popcorn.models import label

    with Client() as client:
        kernels = client.kernels()
    if settings().json:
        print_json([_with_log(k) for k in kernels])
        return
    table(
        ("NAME", "ID", "STATE", "CPUS", "MEMORY", "KERNEL", "AGE"),
        (
            (
                k.name,
                k.id,
                label(k.state),
                format_cpulist(k.cpus),
                format_size(k.memory_size),
                k.image or "-",
                format_duration(k.age_ms / 1000),
            )
            for k in kernels
        ),
    )


def _with_log(found: Kernel) -> dict[str, Any]:
    """A kernel as JSON, with its root and, if it is dead, the end of its log."""
    from popcorn.log import DEAD, last_lines
    from popcorn.root import describe

    lines = last_lines(found) if found.state in DEAD else None
    tail = None if lines is None else list(lines)
    return {**found.to_json(), "root": describe(found), "log_tail": tail}


def _root(found: Kernel) -> str:
    """Where the kernel has its root from, for people."""
    from popcorn.client import RESTING
    from popcorn.root import describe

    root = describe(found)
    if root is None:
        return "its initramfs"
    if root["served"] is None:
        return "this kernel's"
    if root["served"]:
        return (
            f"this kernel's, served at {root['address']}:{root['port']} to {root['peer']},"
            f" {root['connections']} connections"
        )
    if found.state in RESTING:
        return "this kernel's, not served now"
    return (
        "this kernel's, but the server has ended: what is not in its memory cannot be read there;"
        f" popcornctl kernel restart {found.name}"
    )


@kernel.command("show")
@click.argument("name", type=KERNEL)
def show_command(name: str) -> None:
    """Show all about one kernel, by name or id.

    Of one that crashed or is hung, also the last lines of its log.
    """
    import time

    from popcorn.client import Client
    from popcorn.log import DEAD, last_lines
    from popcorn.models import label

    with Client() as client:
        found = client.kernel(name)
    if settings().json:
        print_json(_with_log(found))
        return
    when = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(found.since))
    joined = f"{found.join_us / 1e6:.3f} s after its first INIT" if found.join_us else "-"
    pairs(
        (
            ("name", found.name),
            ("id", found.id),
            ("state", label(found.state)),
            ("reason", found.reason or "-"),
            ("since", f"{when} ({format_duration(found.age_ms / 1000)} ago)"),
            ("joined", joined),
            ("kernel", found.image or "-"),
            ("root", _root(found)),
            ("CPUs", format_cpulist(found.cpus)),
            ("boot CPU", found.cpus[0] if found.cpus else "-"),
            ("APIC IDs", ", ".join(map(str, found.apic_ids))),
            ("memory", _range(found.memory_start, found.memory_size)),
            ("backend", label(found.memory_backend)),
            ("low slice", _range(found.slice_start, found.slice_size)),
            ("fabric", _range(found.fabric_start, found.fabric_size)),
            ("epoch", found.epoch),
            ("entry", f"{found.entry:#x}" if found.entry else "-"),
        )
    )
    if found.state in DEAD and (lines := last_lines(found)):
        print("\nlast lines of its log")
        print("\n".join(lines))


def _range(start: int, size: int) -> str:
    return f"{start:#x}-{start + size - 1:#x} ({format_size(size)})" if size else "-"


@kernel.command("wait")
@click.argument("name", type=KERNEL)
@click.option(
    "--state",
    "wanted",
    type=click.Choice(STATES),
    default="running",
    show_default=True,
    help="State to wait for.",
)
@click.option(
    "--timeout",
    type=SECONDS,
    default="60",
    metavar="SECONDS",
    help="How long to wait; 60 by default.",
)
def wait_command(name: str, wanted: str, timeout: float) -> None:
    """Wait until a kernel is in a state."""
    from popcorn.client import Client
    from popcorn.models import KernelState, label

    with Client() as client:
        found = client.wait_kernel(name, (KernelState[wanted.upper()],), timeout)
    if settings().json:
        print_json(found.to_json())
    else:
        print(f"kernel '{found.name}' is {label(found.state)}")


@kernel.command("ssh", context_settings={"ignore_unknown_options": True})
@click.argument("name", type=KERNEL)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("--address", help="Where it is, if it was given an address of its own.")
@click.option(
    "--identity", type=click.Path(path_type=Path), help="Private key, instead of ssh's own choice."
)
def ssh_kernel(
    name: str, command: tuple[str, ...], address: str | None, identity: Path | None
) -> None:
    """Log in to a kernel, or run a command there.

    Over the link, which this kernel must have too. Images of profile shell (and full) have an ssh
    server if dropbear is installed where they are made; it lets in the keys that the user had then.
    """
    import os

    from popcorn.client import Client
    from popcorn.link import Links
    from popcorn.ssh import ssh_address, ssh_command

    if address is None:
        with Client() as client, Links() as links:
            address = ssh_address(client.node(name), links)
    line = ssh_command(address, command, identity=None if identity is None else str(identity))
    sys.stdout.flush()
    os.execvp(line[0], line)


kernel.add_command(dmesg)
kernel.add_command(dump)
kernel.add_command(exec_command)
kernel.add_command(restart)
kernel.add_command(nmi)
