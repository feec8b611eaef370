# SPDX-License-Identifier: GPL-2.0
"""The eBPF tools behind ``popcornctl trace``: one module and one BPF program each.

Importable as ``popcorn_tracing``, which is a link to this directory in the source tree. Nothing
here prints or parses a command line, and bcc is imported only when a trace begins.
"""
