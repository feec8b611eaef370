# SPDX-License-Identifier: GPL-2.0
"""popcornctl doctor: can this machine do it."""

from __future__ import annotations

import click

from popcorn.cli.base import Command, settings
from popcorn.cli.output import print_json, state


@click.command(cls=Command)
@click.pass_context
def doctor(ctx: click.Context) -> None:
    """Check whether this machine can run Popcorn.

    Says for each thing that is not as it should be what to do about it. Exit status 1 if something
    makes it impossible, 0 otherwise.
    """
    from popcorn.doctor import Status, examine

    checks = examine()
    failed = [check for check in checks if check.status is Status.FAIL]
    if settings().json:
        print_json({"ok": not failed, "checks": [check.to_json() for check in checks]})
        ctx.exit(1 if failed else 0)
    width = max(len(check.name) for check in checks)
    for check in checks:
        status = check.status.value
        print(f"{state(status, status.ljust(4))}  {check.name.ljust(width)}  {check.detail}")
        if check.hint:
            print(f"{' ' * (width + 8)}hint: {check.hint}")
    if failed:
        print(f"\nthis machine cannot run Popcorn: {', '.join(check.name for check in failed)}")
    ctx.exit(1 if failed else 0)
