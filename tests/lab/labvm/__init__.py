# SPDX-License-Identifier: GPL-2.0
"""The lab: a QEMU machine that boots a distribution kernel on this machine's own root file system.

options → the command line; qemu → the machine it describes; initramfs and guest-init.sh → how the
guest gets to the command; machine → running it and telling how it ended; suites → whole test runs.
"""
