# SPDX-License-Identifier: GPL-2.0
"""How a kernel was started, as the module keeps it, so that it can be started so again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from popcorn.models import Kernel
from popcorn.plan import Plan

RECIPE_TEXT_MAX = 2047
"""The module keeps this many bytes of it (attribute `recipe`)."""


def image_digest(plan: Plan) -> str:
    """Of the kernel image, SHA-256 in hex."""
    return plan.image.digest().hex()


def initrd_digest(plan: Plan) -> str:
    """Of the initramfs, SHA-256 in hex."""
    return hashlib.sha256(plan.initrd.data).hexdigest()


def write_recipe(plan: Plan) -> str:
    """How to load it again, for the module to keep; empty if that is too much to be kept."""
    spec = plan.spec
    text = json.dumps(
        {
            "kernel": str(Path(plan.image.name).absolute()),
            "kernel_sha256": image_digest(plan),
            "initrd": None if spec.initrd is None else str(spec.initrd.absolute()),
            "initrd_sha256": initrd_digest(plan),
            "profile": spec.image_profile,
            "append": spec.append,
            "root": spec.root,
        },
        separators=(",", ":"),
        ensure_ascii=True,
    )
    return text if len(text) <= RECIPE_TEXT_MAX else ""


def read_recipe(kernel: Kernel) -> dict[str, Any]:
    """What :func:`write_recipe` wrote; empty if this is nothing of the kind."""
    try:
        found = json.loads(kernel.recipe)
        if not all(isinstance(found[key], str) for key in ("kernel", "profile", "append")):
            return {}
    except (ValueError, TypeError, KeyError):
        return {}
    return dict(found)
