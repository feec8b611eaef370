# SPDX-License-Identifier: GPL-2.0
"""popcornctl kernel dump: a core file of a kernel's memory."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from popcorn.cli.base import KERNEL, Command, settings
from popcorn.cli.output import Progress, print_json


@click.command("dump", cls=Command)
@click.argument("name", type=KERNEL)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="File to write; must not exist.",
)
@click.option(
    "--compress",
    "compression",
    type=click.Choice(["zstd"]),
    help="Compress the file with this program.",
)
def dump(name: str, output: Path, compression: str | None) -> None:
    """Write a core file of a kernel's memory, alive, hung or dead.

    The file is an ELF core as /proc/vmcore is one: makedumpfile(8) and drgn read it. Pages
    that are zero are holes in it. It has all secrets of the kernel, so only its owner may read it.

    The kernel is not disturbed. If it runs, parts of the file are from different moments; meanwhile
    it cannot be given back or started anew. Registers of its CPUs are not known and are zero.
    """
    from popcorn.client import Client
    from popcorn.dump import dump_kernel

    progress = Progress(silent=settings().json and not sys.stderr.isatty())
    begin = time.monotonic()

    def follow(done: int, total: int) -> None:
        finished = time.monotonic() - begin if done == total else None
        progress("dump", f"{done >> 20} of {total >> 20} MiB", finished)

    try:
        with Client() as client:
            dumped = dump_kernel(client, name, output, compression=compression, progress=follow)
    finally:
        progress.close()
    if settings().json:
        print_json(dumped.to_json())
        return
    kept = dumped.file_bytes >> 20
    print(f"{output}: {dumped.release}, {dumped.core_bytes >> 20} MiB, {kept} MiB on the disk")
    if dumped.ran:
        print(f"kernel '{dumped.kernel.name}' ran meanwhile: parts may not fit together")
