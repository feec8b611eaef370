# SPDX-License-Identifier: GPL-2.0
"""Makes the C, the Python and the reference page of the control protocol from one description.

Only developers need it (``make gen``): what it writes is committed. Upstream's own generator for
such descriptions writes C for headers newer than Linux 6.1, hence this small one.
"""
