# SPDX-License-Identifier: GPL-2.0
"""popcornctl kernel restart and nmi: what to do about a kernel that has died or hangs."""

from __future__ import annotations

from pathlib import Path

import click

from popcorn.cli.base import KERNEL, SECONDS, Command, settings
from popcorn.cli.output import print_json
from popcorn.cli.progress import followed
from popcorn.units import format_cpulist


@click.command("restart", cls=Command)
@click.argument("name", type=KERNEL)
@click.option("--force", is_flag=True, help="Reset its CPUs instead of asking it to power off.")
@click.option(
    "--reload", is_flag=True, help="Take kernel image and initramfs as they are now, if changed."
)
@click.option(
    "--kernel",
    "image",
    metavar="PATH|RELEASE",
    help="Another kernel image, or the release of one in /boot.",
)
@click.option("--initrd", type=click.Path(path_type=Path), help="Another initramfs.")
@click.option(
    "--profile",
    type=click.Choice(["light", "shell"]),
    help="Make an initramfs of this profile instead.",
)
@click.option("--append", metavar="WORDS", help="Other kernel parameters than last time.")
@click.option(
    "--stop-timeout",
    type=SECONDS,
    default="30",
    metavar="SECONDS",
    help="How long to wait for it to power off; 30 by default.",
)
@click.option(
    "--timeout",
    type=SECONDS,
    default="60",
    metavar="SECONDS",
    help="How long to wait for the kernel to join; 60 by default.",
)
def restart(
    name: str,
    force: bool,
    reload: bool,
    image: str | None,
    initrd: Path | None,
    profile: str | None,
    append: str | None,
    stop_timeout: float,
    timeout: float,
) -> None:
    """Start a kernel anew on its own CPUs and memory, and wait until it has joined.

    Works in whatever state the kernel is. One that runs is asked to power off first; one that is
    hung is killed. It is started with the kernel image, initramfs and parameters of its last start;
    if a file has changed since, nothing is done unless --reload says to take the new one.
    """
    from popcorn.client import Client
    from popcorn.models import label
    from popcorn.restart import Change, restart_kernel

    if initrd is not None and profile is not None:
        raise click.UsageError("--initrd and --profile exclude each other")
    change = Change(image, initrd, profile, append, reload)
    hint = (
        "kernel '{name}' is {state} and keeps its lease; to go on: popcornctl kernel restart"
        " {name}, to give it back: popcornctl kernel kill {name}"
    )
    with Client() as client, followed(client, name, hint) as progress:
        done = restart_kernel(
            client,
            name,
            change,
            force=force,
            stop_timeout=stop_timeout,
            timeout=timeout,
            progress=progress,
        )
    if settings().json:
        print_json(done.to_json())
        return
    print(f"kernel '{done.kernel.name}' is {label(done.kernel.state)} as node {done.kernel.id}")


@click.command("nmi", cls=Command)
@click.argument("name", type=KERNEL)
def nmi(name: str) -> None:
    """Have the CPUs of a kernel print their backtraces into its log.

    By an interrupt that cannot be turned off, so it works for a kernel that is hung as well. The
    kernel goes on afterwards as if nothing had been.
    """
    from popcorn.client import Client

    with Client() as client:
        found = client.kernel_nmi(client.kernel(name).id)
    if settings().json:
        print_json({"kernel": found.name, "cpus": list(found.cpus)})
        return
    print(
        f"asked CPUs {format_cpulist(found.cpus)} of kernel '{found.name}' for backtraces;"
        f" see: popcornctl kernel dmesg {found.name}"
    )
