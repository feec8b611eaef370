# SPDX-License-Identifier: GPL-2.0
"""`python3 -m popcorn.cli` is popcornctl."""

import sys

from popcorn.cli import main

sys.exit(main())
