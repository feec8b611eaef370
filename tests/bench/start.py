# SPDX-License-Identifier: GPL-2.0
"""Start of a secondary against the primary's own, in the lab.

`start.x_primary`: from the first INIT to the registration on the fabric (the module measures it),
divided by what the primary itself took from its entry to its first user-space process in the same
run. The secondary's time has more in it: its initramfs, loading the module, joining.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

ROUNDS = 5
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from popcorn import Client  # noqa: E402
from popcorn.start import Spec, start_kernel  # noqa: E402


def primary_seconds() -> float:
    """Kernel entry to user space, by the kernel's own clock."""
    log = subprocess.run(["dmesg"], check=True, capture_output=True, text=True).stdout
    found = re.search(r"^\[ *(\d+\.\d+)\] Run \S+ as init process", log, re.M)
    if found is None:
        raise RuntimeError("the primary's log does not say when it ran init")
    return float(found[1])


def main() -> int:
    own = primary_seconds()
    subprocess.run(["modprobe", "popcorn_host"], check=True)
    ratios = []
    with Client() as client:
        for _round in range(ROUNDS):
            spec = Spec("bench", cpus=(2, 3), memory_bytes=512 << 20)
            kernel = start_kernel(client, spec).kernel
            ratios.append(kernel.join_us / 1e6 / own)
            client.kernel_kill(kernel.id)
            client.kernel_del(kernel.id)
    figures = {
        "start.x_primary": {
            "median": statistics.median(ratios),
            "min": min(ratios),
            "max": max(ratios),
            "n": len(ratios),
        }
    }
    (Path(os.environ["LAB_OUT"]) / "bench-start.json").write_text(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
