# SPDX-License-Identifier: GPL-2.0
"""Where things lie in the checkout."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
KMOD = ROOT / "kmod"
KERNELS = BUILD / "kernels"
MODULES = BUILD / "modules"
ROOTFS = BUILD / "rootfs"
LINUX = BUILD / "linux"
APT = BUILD / "apt"
LAB = BUILD / "lab"
