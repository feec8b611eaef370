# SPDX-License-Identifier: GPL-2.0
"""What the kernel modules promise to programs, mirrored in Python: numbers and layouts only."""
