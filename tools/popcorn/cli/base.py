# SPDX-License-Identifier: GPL-2.0
"""What every command shares: settings, lazy groups, options and parameter types."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import click

from popcorn.units import parse_address, parse_cpulist, parse_rate, parse_size

__all__ = (
    "ADDRESS",
    "CPULIST",
    "KERNEL",
    "LINK",
    "NODE",
    "RATE",
    "SECONDS",
    "SIZE",
    "Command",
    "Group",
    "LazyGroup",
    "Settings",
    "parsed",
    "settings",
)


@dataclass
class Settings:
    """What the global options say; the click context's object."""

    json: bool = False
    debug: bool = False


def settings() -> Settings:
    """The settings of the command that runs."""
    found = click.get_current_context().find_object(Settings)
    return Settings() if found is None else found


def _set(name: str) -> Callable[[click.Context, click.Parameter, bool], bool]:
    def callback(ctx: click.Context, _: click.Parameter, value: bool) -> bool:
        if value:
            setattr(ctx.ensure_object(Settings), name, True)
        return value

    return callback


def _common_options() -> list[click.Parameter]:
    """--json and --debug, which every command and group takes."""
    return [
        click.Option(
            ["--json"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_set("json"),
            help="Print JSON.",
        ),
        click.Option(
            ["--debug"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_set("debug"),
            help="Show a traceback with errors.",
        ),
    ]


def _help_too(context_settings: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"help_option_names": ["-h", "--help"], **(context_settings or {})}


class Command(click.Command):
    """A command that takes --json, --debug and -h."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["context_settings"] = _help_too(kwargs.get("context_settings"))
        super().__init__(*args, **kwargs)
        self.params.extend(_common_options())


class Group(click.Group):
    """A group of such commands."""

    command_class = Command

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["context_settings"] = _help_too(kwargs.get("context_settings"))
        super().__init__(*args, **kwargs)
        self.params.extend(_common_options())


class LazyGroup(Group):
    """A group whose commands are imported when they are run.

    `lazy` maps a command's name to where it is (`module:attribute`) and its line in the help.
    """

    def __init__(self, *args: Any, lazy: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = dict(lazy)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of the table, which is that of first use."""
        return [*self.lazy, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command."""
        if cmd_name not in self.lazy:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self.lazy[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in --help, made without importing a command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self.lazy.items()])


class _Parsed(click.ParamType):
    """A parameter that a parser of popcorn.units reads; its ValueError is wrong usage."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse; a value that is not text is one already."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _parse_seconds(text: str) -> float:
    try:
        value = float(text.removesuffix("s"))
    except ValueError:
        value = -1.0
    if not 0 <= value <= 86400:
        raise ValueError(f"'{text}' is not a time: write seconds, like 60 or 0.5")
    return value


class _Known(click.ParamType):
    """A name that the shell can complete from what the module knows."""

    def __init__(self, name: str, method: str) -> None:
        self.name = name
        self._method = method

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[Any]:
        """Names that begin with `incomplete`; none if the module cannot be asked."""
        from click.shell_completion import CompletionItem

        from popcorn.client import Client
        from popcorn.errors import PopcornError

        try:
            with Client() as client:
                names = [item.name for item in getattr(client, self._method)()]
        except (PopcornError, OSError):
            return []
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


class _KnownLink(click.ParamType):
    """The name of a link, which the shell can complete."""

    name = "name"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[Any]:
        """Links whose name begins with `incomplete`; none if the kernel cannot be asked."""
        from click.shell_completion import CompletionItem

        from popcorn.errors import PopcornError
        from popcorn.link import Links

        try:
            with Links() as links:
                names = [link.name for link in links.list()]
        except (PopcornError, OSError):
            return []
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def parsed(name: str, parse: Callable[[str], Any]) -> click.ParamType:
    """A parameter type of a parser whose ValueError is wrong usage."""
    return _Parsed(name, parse)


SIZE = _Parsed("size", parse_size)
ADDRESS = _Parsed("address", parse_address)
CPULIST = _Parsed("list", parse_cpulist)
SECONDS = _Parsed("seconds", _parse_seconds)
RATE = _Parsed("rate", parse_rate)
KERNEL = _Known("name", "kernels")
NODE = _Known("node", "nodes")
LINK = _KnownLink()
