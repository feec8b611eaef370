# SPDX-License-Identifier: GPL-2.0
"""The lab's command line; tests/lab/run starts it."""

from __future__ import annotations

import logging
import os
import sys

from popcorn.errors import PopcornError

from . import lab, options


def main(argv: list[str]) -> int:
    """Run the lab once and return the status to exit with."""
    logging.basicConfig(format="setup: %(message)s", level=logging.INFO)
    try:
        result = lab.run(options.parse(argv))
    except PopcornError as error:
        print(f"lab: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"lab: hint: {error.hint}", file=sys.stderr)
        return lab.LOST
    except KeyboardInterrupt:
        return 130
    if os.environ.get("LAB_TIMES"):
        print(f"lab: command started after {result.outcome.started_after} s", file=sys.stderr)
    return result.status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
