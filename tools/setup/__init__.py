# SPDX-License-Identifier: GPL-2.0
"""What the tests need besides the source: kernels, build root file systems, modules, a newer QEMU.

Everything lands below build/ and is made once. `python3 -m setup` (with tools/ on the path) is the
command line; the lab imports the functions. This package is for developers and is not installed.
"""
