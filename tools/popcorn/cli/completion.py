# SPDX-License-Identifier: GPL-2.0
"""popcornctl completion: what a shell needs to complete popcornctl's words."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from popcorn.cli.base import Command, settings
from popcorn.cli.output import print_json
from popcorn.errors import PopcornError


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a shell completion script.

    For example: popcornctl completion bash > /etc/bash_completion.d/popcornctl
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise PopcornError(f"this version of click cannot complete for {shell}")
    root = ctx.find_root().command
    try:
        script = kind(root, {}, "popcornctl", "_POPCORNCTL_COMPLETE").source()
    except (RuntimeError, OSError) as error:
        raise PopcornError(f"cannot make the {shell} completion: {error}") from error
    if settings().json:
        print_json({"shell": shell, "script": script})
    else:
        print(script)
