# SPDX-License-Identifier: GPL-2.0
"""Several Linux kernels side by side on one machine: control from Python.

>>> from popcorn import Client, Spec, start_kernel
>>> with Client() as client:
...     started = start_kernel(client, Spec("web", cpus=(2, 3), memory_bytes=512 << 20))
...     result = list(client.ping(started.kernel.id, 1000))[-1]
...     print(result.median, "microseconds")

What is here is public and stays; everything else in the package may change. Names are loaded when
they are first used, so that importing the package costs nothing.

Client
    every operation of the control protocol as a method
start_kernel, restart_kernel, plan_start, Spec, Change, Started, Restarted, Plan
    bring up a kernel, or say what that would do
read_log, follow_log, Log, Lost
    the log of a kernel, alive or dead
dump_kernel, Dumped
    a core file of its memory
watch
    kernel, node, service, CPU and memory events as one stream
Fabric, Node, Kernel, Service, Channel, Queue, Latency, PingResult, Event
    the values that come back
NodeState, KernelState, MemoryBackend, LatencyStage
    what some of their fields are
PopcornError and the classes below it
    everything that is raised on purpose
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from popcorn.client import Client as Client
    from popcorn.dump import Dumped as Dumped
    from popcorn.dump import dump_kernel as dump_kernel
    from popcorn.errors import BusyError as BusyError
    from popcorn.errors import ExistsError as ExistsError
    from popcorn.errors import ImageError as ImageError
    from popcorn.errors import KernelRefusedError as KernelRefusedError
    from popcorn.errors import ModuleMissingError as ModuleMissingError
    from popcorn.errors import NotFoundError as NotFoundError
    from popcorn.errors import PermissionDeniedError as PermissionDeniedError
    from popcorn.errors import PlanError as PlanError
    from popcorn.errors import PopcornError as PopcornError
    from popcorn.errors import PostmortemError as PostmortemError
    from popcorn.errors import TimeoutExpiredError as TimeoutExpiredError
    from popcorn.log import Log as Log
    from popcorn.log import Lost as Lost
    from popcorn.log import follow_log as follow_log
    from popcorn.log import read_log as read_log
    from popcorn.models import Channel as Channel
    from popcorn.models import Event as Event
    from popcorn.models import Fabric as Fabric
    from popcorn.models import Kernel as Kernel
    from popcorn.models import KernelState as KernelState
    from popcorn.models import Latency as Latency
    from popcorn.models import LatencyStage as LatencyStage
    from popcorn.models import MemoryBackend as MemoryBackend
    from popcorn.models import Node as Node
    from popcorn.models import NodeState as NodeState
    from popcorn.models import PingResult as PingResult
    from popcorn.models import Queue as Queue
    from popcorn.models import Service as Service
    from popcorn.monitor import watch as watch
    from popcorn.plan import Plan as Plan
    from popcorn.plan import Spec as Spec
    from popcorn.plan import plan_start as plan_start
    from popcorn.restart import Change as Change
    from popcorn.restart import Restarted as Restarted
    from popcorn.restart import restart_kernel as restart_kernel
    from popcorn.start import Started as Started
    from popcorn.start import start_kernel as start_kernel

__version__ = "0.1.0"

_PUBLIC = {
    "popcorn.client": ("Client",),
    "popcorn.dump": ("Dumped", "dump_kernel"),
    "popcorn.errors": (
        "BusyError",
        "ExistsError",
        "ImageError",
        "KernelRefusedError",
        "ModuleMissingError",
        "NotFoundError",
        "PermissionDeniedError",
        "PlanError",
        "PopcornError",
        "PostmortemError",
        "TimeoutExpiredError",
    ),
    "popcorn.log": ("Log", "Lost", "follow_log", "read_log"),
    "popcorn.models": (
        "Channel",
        "Event",
        "Fabric",
        "Kernel",
        "KernelState",
        "Latency",
        "LatencyStage",
        "MemoryBackend",
        "Node",
        "NodeState",
        "PingResult",
        "Queue",
        "Service",
    ),
    "popcorn.monitor": ("watch",),
    "popcorn.plan": ("Plan", "Spec", "plan_start"),
    "popcorn.restart": ("Change", "Restarted", "restart_kernel"),
    "popcorn.start": ("Started", "start_kernel"),
}
_HOME = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = tuple(sorted(_HOME))


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'popcorn' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
