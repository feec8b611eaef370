# SPDX-License-Identifier: GPL-2.0
"""The types of keys and values of maps, as bcc describes them.

A description is the name of a scalar, or a structure as `[name, [field, ...], kind]`, whose fields
are `[name, type]` or `[name, type, [length]]` for an array. So only the C source has a structure.
"""

from __future__ import annotations

import ctypes
from typing import Any

__all__ = ("layout",)

SCALARS: dict[str, type[Any]] = {
    "_Bool": ctypes.c_bool,
    "int": ctypes.c_int32,
    "unsigned int": ctypes.c_uint32,
    "long long": ctypes.c_int64,
    "unsigned long long": ctypes.c_uint64,
}


def layout(description: Any) -> type[Any]:
    """The ctypes type of a description; ValueError for one that is none."""
    if isinstance(description, str) and description in SCALARS:
        return SCALARS[description]
    match description:
        case [str(name), list(fields), "struct"]:
            return type(name, (ctypes.Structure,), {"_fields_": [_field(one) for one in fields]})
        # Of equal effect in C: all padding is among the fields.
        case [str(name), list(fields), "struct_packed"]:
            members = {"_pack_": 1, "_fields_": [_field(one) for one in fields]}
            return type(name, (ctypes.Structure,), members)
    raise ValueError(f"no layout of a key or value: {description!r}")


def _field(description: Any) -> tuple[str, type[Any]]:
    match description:
        case [str(name), kind]:
            return name, layout(kind)
        case [str(name), kind, [int(length)]] if length > 0:
            return name, layout(kind) * length
    raise ValueError(f"no layout of a field: {description!r}")
