# SPDX-License-Identifier: GPL-2.0
"""`python3 -m setup WHAT [NAME...]`: make ready what the tests need."""

from __future__ import annotations

import argparse
import logging
import sys

from popcorn.errors import PopcornError

from . import kernels
from .shell import LOG


def main(argv: list[str]) -> int:
    """Run one command; return the exit status."""
    logging.basicConfig(format="setup: %(message)s", level=logging.INFO)
    parser = argparse.ArgumentParser(prog="setup", description=__doc__)
    parser.add_argument("what", choices=("kernels", "modules", "untraced", "perfetto", "qemu"))
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(kernels.NAMES))
    options = parser.parse_args(argv)
    try:
        if options.what == "kernels":
            for name in options.names:
                kernels.ensure(name)
        elif options.what == "modules":
            from . import modules

            for name in options.names:
                modules.build(name)
        elif options.what == "untraced":
            from . import modules

            for name in options.names:
                modules.build_untraced(name)
        elif options.what == "perfetto":
            from . import perfetto

            perfetto.ensure()
        else:
            from . import qemu

            qemu.ensure()
    except PopcornError as error:
        LOG.error("%s", error.message)
        if error.hint:
            LOG.error("hint: %s", error.hint)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
