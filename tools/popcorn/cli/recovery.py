# SPDX-License-Identifier: GPL-2.0
"""popcornctl kernel nmi: what to do about a kernel that hangs."""

from __future__ import annotations

import click

from popcorn.cli.base import KERNEL, Command, settings
from popcorn.cli.output import print_json
from popcorn.units import format_cpulist


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
