# SPDX-License-Identifier: GPL-2.0
"""popcornctl image: the initramfs of a kernel."""

from __future__ import annotations

from pathlib import Path

import click

from popcorn.cli.base import Group, settings
from popcorn.cli.output import pairs, print_json
from popcorn.errors import ImageError


@click.group(cls=Group)
def image() -> None:
    """Build and inspect initramfs images."""


@image.command("build")
@click.option(
    "--profile",
    type=click.Choice(["light", "shell", "full"]),
    default="light",
    show_default=True,
    help="light: joins and stays. shell: all of busybox besides. full: on to a root by the link.",
)
@click.option("--release", help="Kernel release it is for; the running one by default.")
@click.option(
    "--run",
    "script",
    type=click.Path(path_type=Path),
    help="A script that the kernel runs when it has joined.",
)
@click.option(
    "--module",
    "modules",
    metavar="NAME",
    multiple=True,
    help="Load this module of Popcorn's too, without .ko, after what it needs; may be repeated.",
)
@click.option("--busybox", type=click.Path(path_type=Path), help="A static busybox to use.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="File to write."
)
def build_command(
    profile: str,
    release: str | None,
    script: Path | None,
    modules: tuple[str, ...],
    busybox: Path | None,
    output: Path,
) -> None:
    """Build an initramfs: busybox, Popcorn's modules for a release, and an init."""
    from popcorn.initrd import make_initrd
    from popcorn.sysfs import System

    release = release or System().release()
    run = None if script is None else _read(script, "script")
    made = make_initrd(profile, release, busybox=busybox, run_script=run, extra_modules=modules)
    try:
        output.write_bytes(made.data)
    except OSError as error:
        raise ImageError(f"{output}: can't write the image: {error.strerror}") from error
    if settings().json:
        shown = {
            "output": str(output),
            "profile": profile,
            "release": release,
            "bytes": made.size,
        }
        print_json(shown)
    else:
        print(f"{output}: profile {profile} for {release}, {made.size} bytes")


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: can't read the {what}: {error.strerror}") from error


@image.command("inspect")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--files", is_flag=True, help="List the files in it too.")
def inspect_command(file: Path, files: bool) -> None:
    """Show what is in an initramfs that was built here."""
    from popcorn.image import inspect

    info = inspect(_read(file, "image"), str(file))
    if settings().json:
        print_json(
            {
                "file": str(file),
                "profile": info.profile,
                "release": info.release,
                "modules": [
                    {"name": m.name, "vermagic": m.vermagic, "bytes": m.size} for m in info.modules
                ],
                "bytes": info.size,
                "unpacked_bytes": info.unpacked_size,
                "runs": info.runs,
                "files": list(info.files),
            }
        )
        return
    modules = ", ".join(f"{m.name} ({m.size} bytes)" for m in info.modules)
    pairs(
        (
            ("profile", info.profile),
            ("release", info.release),
            ("modules", modules or "-"),
            ("size", f"{info.size} bytes, {info.unpacked_size} unpacked"),
            ("script", "yes" if info.runs else "no"),
            ("files", len(info.files)),
        )
    )
    if files:
        print("\n".join(info.files))
