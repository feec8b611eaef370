# SPDX-License-Identifier: GPL-2.0
"""Every error that the package raises on purpose.

All derive from :class:`PopcornError`, which carries what went wrong (`message`, one line that names
the thing) and what to do about it (`hint`, may be empty). The command line prints both and exits
with `exit_code`; a program that uses the package catches the class that it can do something about.
"""

from __future__ import annotations

__all__ = (
    "BusyError",
    "ExistsError",
    "HungUpError",
    "ImageError",
    "KernelRefusedError",
    "ModuleMissingError",
    "NotFoundError",
    "PermissionDeniedError",
    "PlanError",
    "PopcornError",
    "PostmortemError",
    "TimeoutExpiredError",
)


class PopcornError(Exception):
    """Root of the tree: `message` names the thing, `hint` the remedy."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ImageError(PopcornError):
    """A kernel image or an initramfs is missing, damaged or not usable here."""


class PlanError(PopcornError):
    """What was asked for does not fit: region too small, command line too long, bad CPU list."""


class ModuleMissingError(PopcornError):
    """A Popcorn kernel module is not loaded."""


class PermissionDeniedError(PopcornError):
    """The caller lacks a capability, or the kernel is locked down."""


class NotFoundError(PopcornError):
    """No kernel, node or service of that name."""


class ExistsError(PopcornError):
    """The name is taken."""


class BusyError(PopcornError):
    """The thing is in use, or in a state that does not allow the request."""


class PostmortemError(PopcornError):
    """The memory of another kernel does not hold what was looked for, or not where it should."""


class HungUpError(PopcornError):
    """The other end of a line went away while it was in use."""


class TimeoutExpiredError(PopcornError):
    """Something that was waited for did not happen in time."""


class KernelRefusedError(PopcornError):
    """The kernel refused a request for another reason; keeps `errno` and the blamed attribute."""

    def __init__(
        self, message: str, hint: str = "", *, errno: int = 0, attribute: str = ""
    ) -> None:
        super().__init__(message, hint)
        self.errno = errno
        self.attribute = attribute
