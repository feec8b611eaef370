# SPDX-License-Identifier: GPL-2.0
"""Start of a secondary against the primary's own, in the lab.

`start.x_primary`: from the first INIT to the registration on the fabric (the module measures it),
divided by what the primary itself took from its kernel's entry to its first user-space process in
the same run. The secondary's time has more in it: its initramfs, loading the module, joining.

A kernel's entry is that of its compressed image, and its clock begins to count only after it has
unpacked itself. So the primary's log lacks that part. It is measured on the secondary, which is the
same image on the same machine in the same run: what passed from INIT to the registration, less the
secondary's own uptime then (read a little later, which makes the part look shorter and the ratio
larger, never smaller).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 5
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "lab")]

from figures import figure  # noqa: E402

from guest import memory_of  # noqa: E402
from popcorn import Client  # noqa: E402
from popcorn.models import Kernel  # noqa: E402
from popcorn.plan import Spec  # noqa: E402
from popcorn.start import start_kernel  # noqa: E402


def primary_seconds() -> float:
    """Kernel entry to user space, by the kernel's own clock."""
    log = subprocess.run(["dmesg"], check=True, capture_output=True, text=True).stdout
    found = re.search(r"^\[ *(\d+\.\d+)\] Run \S+ as init process", log, re.M)
    if found is None:
        raise RuntimeError("the primary's log does not say when it ran init")
    return float(found[1])


def build_image(directory: Path) -> Path:
    """An initramfs that leaves its uptime in memory once it has joined."""
    script, image = directory / "uptime.sh", directory / "uptime.img"
    script.write_text("#!/bin/sh\nread up idle </proc/uptime\necho UPTIME=$up= >/dev/kmsg\n")
    subprocess.run(
        ["popcornctl", "image", "build", "--profile", "light", "--run", script, "-o", image],
        check=True,
    )
    return image


def uptime_after_join(kernel: Kernel) -> float:
    """The uptime that the secondary wrote, out of its memory."""
    deadline = time.monotonic() + 30
    with memory_of(kernel) as memory:
        while time.monotonic() < deadline:
            found = re.search(rb"UPTIME=(\d+\.\d+)=", memory)
            if found is not None:
                return float(found[1])
            time.sleep(0.2)
    raise RuntimeError("the secondary never told its uptime")


def main() -> int:
    log_seconds = primary_seconds()
    subprocess.run(["modprobe", "popcorn_host"], check=True)
    ratios = []
    with tempfile.TemporaryDirectory() as directory, Client() as client:
        image = build_image(Path(directory))
        for _round in range(ROUNDS):
            spec = Spec("bench", cpus=(2, 3), memory_bytes=512 << 20, initrd=image)
            kernel = start_kernel(client, spec).kernel
            joined = kernel.join_us / 1e6
            unpacking = max(0.0, joined - uptime_after_join(kernel))
            ratio = joined / (log_seconds + unpacking)
            print(
                f"joined after {joined:.2f} s, {unpacking:.2f} of it before the kernel's clock;"
                f" the primary: {log_seconds:.2f} s by its log; ratio {ratio:.2f}"
            )
            ratios.append(ratio)
            client.kernel_kill(kernel.id)
            client.kernel_del(kernel.id)
    figures = {"start.x_primary": figure(ratios)}
    (Path(os.environ["LAB_OUT"]) / "bench-start.json").write_text(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
