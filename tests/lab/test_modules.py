# SPDX-License-Identifier: GPL-2.0
"""Without the modules, and loading and unloading them."""

from __future__ import annotations

import subprocess

from guest import ctl, ctl_json, look
from popcorn import Client


def test_without_the_module_the_remedy_is_told() -> None:
    with Client() as client:
        before = look(client)
    subprocess.run(["modprobe", "-r", "popcorn_host"], check=True)
    try:
        for args in (
            ("kernel", "start", "bad", "--cpus", "2", "--memory", "256M"),
            ("kernel", "list"),
            ("node", "list"),
        ):
            done = ctl(*args)
            assert done.returncode == 1
            assert "modprobe popcorn_host" in done.stderr
    finally:
        subprocess.run(["modprobe", "popcorn_host"], check=True)
    assert ctl_json("kernel", "list") == []
    with Client() as client:
        after = look(client)
    assert (after.online, after.present) == (before.online, before.present)


def test_module_in_use_stays(client: Client) -> None:
    kernel = client.kernel_new("held", (2,), 256 << 20)
    done = subprocess.run(["modprobe", "-r", "popcorn_host"], capture_output=True, text=True)
    assert done.returncode != 0
    assert [k.name for k in client.kernels()] == ["held"]
    client.kernel_del(kernel.id)
