# SPDX-License-Identifier: GPL-2.0
"""popcornctl completion: what a shell needs to complete popcornctl's words.

The scripts are files of the package, which are also installed where the shells look for them. Those
that click makes need one more key press in zsh and do not know bash's `--option=value`.
"""

from __future__ import annotations

from importlib.resources import files

import click

from popcorn.cli.base import Command, settings
from popcorn.cli.output import print_json

#: The script of each shell below `shell/`, called as the shell wants it.
SCRIPTS = {"bash": "popcornctl", "zsh": "_popcornctl", "fish": "popcornctl.fish"}


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(list(SCRIPTS)))
def completion(shell: str) -> None:
    """Print a shell completion script.

    For example: popcornctl completion bash > /etc/bash_completion.d/popcornctl
    """
    script = files("popcorn.cli").joinpath("shell", SCRIPTS[shell]).read_text("utf-8")
    if settings().json:
        print_json({"shell": shell, "script": script})
    else:
        print(script, end="")
