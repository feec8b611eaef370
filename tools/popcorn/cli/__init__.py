# SPDX-License-Identifier: GPL-2.0
"""popcornctl: the command line.

Here is the top level alone: which commands there are, and the one place where errors become words
and exit codes (0 done, 1 refused or failed, 2 wrong usage, 130 interrupted). A command's module is
imported when the command is run, and imports what is heavy when it needs it, so that `--help` and
the shell's completion stay quick.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Sequence

import click

from popcorn import __version__
from popcorn.cli.base import LazyGroup, Settings
from popcorn.errors import PopcornError

__all__ = ("cli", "main")

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


@click.group(
    cls=LazyGroup,
    lazy={
        "doctor": ("popcorn.cli.doctor:doctor", "Check whether this machine can run Popcorn."),
        "kernel": ("popcorn.cli.kernel:kernel", "Start, stop, show and examine kernels."),
        "console": ("popcorn.cli.console:console", "Open a terminal on a kernel."),
        "node": ("popcorn.cli.node:node", "Show the members of the fabric, and set up this one."),
        "channel": ("popcorn.cli.channel:channel", "Show the channels of this kernel."),
        "queue": ("popcorn.cli.queue:queue", "Show the queues of this kernel."),
        "service": ("popcorn.cli.service:service", "Show the services of the nodes."),
        "link": ("popcorn.cli.link:link", "Make and show the network between the kernels."),
        "ping": ("popcorn.cli.ping:ping", "Measure round trips to a node."),
        "image": ("popcorn.cli.image:image", "Build and inspect initramfs images."),
        "metrics": (
            "popcorn.cli.metrics:metrics",
            "Print metrics of the kernels as OpenMetrics text.",
        ),
        "monitor": ("popcorn.cli.monitor:monitor", "Print events as they come."),
        "trace": ("popcorn.cli.trace:trace", "Trace what the kernels do, with eBPF."),
        "completion": ("popcorn.cli.completion:completion", "Print a shell completion script."),
    },
)
@click.version_option(__version__, prog_name="popcornctl", message="%(prog)s %(version)s")
def cli() -> None:
    """Run several Linux kernels side by side on one machine.

    Options --json and --debug can be given before or after the command.
    """


def _report(settings: Settings, code: int, message: str, hint: str = "") -> int:
    """Say what went wrong on standard error; returns the exit code."""
    if settings.json:
        text = json.dumps({"error": message, "hint": hint, "exit": code}, ensure_ascii=False)
    else:
        text = f"popcornctl: {message}" + (f"\nhint: {hint}" if hint else "")
    print(text, file=sys.stderr, flush=True)
    return code


def _json_wanted(arguments: Sequence[str]) -> bool:
    """Whether --json was given, for errors that come before the options are read."""
    before_dashes = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in before_dashes


def _usage(settings: Settings, error: click.ClickException) -> int:
    hint = ""
    if isinstance(error, click.UsageError) and error.ctx is not None:
        hint = f"see: {error.ctx.command_path} --help"
    return _report(settings, error.exit_code, error.format_message(), hint)


def _quiet_pipe() -> int:
    """Nobody reads our output any more: let the interpreter's last flush go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_FAILED


def main(arguments: Sequence[str] | None = None) -> int:
    """Run popcornctl with `arguments`, those of the process by default; returns the exit code."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    settings = Settings(json=_json_wanted(argv))
    try:
        result = cli.main(argv, prog_name="popcornctl", standalone_mode=False, obj=settings)
        sys.stdout.flush()
    except BrokenPipeError:
        return _quiet_pipe()
    except click.exceptions.Exit as done:
        return done.exit_code
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except Exception as error:
        if settings.debug:
            traceback.print_exc()
        if isinstance(error, click.ClickException):
            return _usage(settings, error)
        if isinstance(error, PopcornError):
            return _report(settings, error.exit_code, error.message, error.hint)
        if isinstance(error, OSError) and error.strerror:
            where = f"{error.filename}: " if error.filename else ""
            return _report(settings, EXIT_FAILED, f"{where}{error.strerror}")
        return _report(
            settings,
            EXIT_FAILED,
            f"internal error: {type(error).__name__}: {error}",
            "this is a bug; --debug shows where",
        )
    return result if isinstance(result, int) else 0
