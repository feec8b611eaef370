# SPDX-License-Identifier: GPL-2.0
"""popcornctl metrics: its texts are read back by the parsers of prometheus_client."""

from __future__ import annotations

import configparser
import errno
import json
import math
import os
import re
import resource
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus

from popcorn import client as client_module
from popcorn.cli import main
from popcorn.models import KernelState, LatencyStage, NodeState, label
from popcorn.uapi.netlink_gen import LATENCY_BUCKETS, Cmd

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "monitoring"

LATENCY = "popcorn_message_latency_seconds"


@pytest.fixture
def ctl(module, monkeypatch, capsys):
    """Run popcornctl against the fake module: (exit code, stdout, stderr)."""
    real = client_module.Client
    monkeypatch.setattr(client_module, "Client", lambda: real(module.transport))

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def histogram(**counts):
    """A bucket for each, by number: `_3=7` are seven that took 8 to 15 cycles."""
    return [counts.get(f"_{number}", 0) for number in range(LATENCY_BUCKETS)]


@pytest.fixture
def busy(module):
    """A module in which every number that is told is another one."""
    module.tsc_khz = 2_500_000
    module.nodes[0] |= {"epoch": 1, "window-max": 40, "threaded": 1, "doorbell-cost": 20_500}
    module.nodes[1] = {"id": 1, "name": "web", "state": int(NodeState.UP), "epoch": 7}
    module.nodes[1] |= {"release": "6.12.1", "machine": "x86_64", "nr-cpus": 3, "unanswered": 11}
    module.nodes[1] |= {"heartbeat-age": 125, "sent": 9, "received": 9}
    module.nodes[2] = {"id": 2, "name": "old", "state": int(NodeState.HUNG), "shut": True}
    module.nodes[2] |= {"reason": 'panic: "no\\more"\nsecond line'}
    module.add_kernel("web", KernelState.RUNNING, image="6.12.1", **{"join-time": 1_250_000})
    module.add_kernel("old", KernelState.CRASHED, reason="panic")
    names = ["sent", "sent-bytes", "received", "received-bytes", "doorbells-sent"]
    names += ["room-doorbells", "full", "waits", "rejected", "answered"]
    names += ["ring-slots", "ring-slots-from", "area-bytes"]
    module.channels = [
        {"node-id": node, "queue": queue, "armed": bool(queue)}
        | {name: 100_000 * node + 10_000 * queue + 9973 + at for at, name in enumerate(names)}
        for node in (1, 2)
        for queue in (0, 1)
    ]
    names = ["polls", "poll-messages", "doorbell-irqs", "spurious", "sleeps", "window-hits"]
    module.queues = [
        {"queue": queue, "cpu": 1, "irq": 33 + queue, "window": 12_500}
        | {name: 1000 * queue + 57 + at for at, name in enumerate(names)}
        for queue in (0, 1)
    ]
    module.latencies = [
        {"src": 0, "dst": 1, "queue": 0, "stage": 0, "count": histogram(_10=9000, _12=973)},
        {"src": 1, "dst": 0, "queue": 0, "stage": 1, "count": histogram(_0=2, _31=3)},
        {"src": 1, "dst": 2, "queue": 1, "stage": 2, "count": histogram(_20=1 << 40)},
    ]
    module.services = [
        {"node-id": 0, "name": "popcorn.echo", "version": 1, "id": 1},
        {"node-id": 1, "name": "popcorn.echo", "version": 1, "id": 1, "peer": True},
        {"node-id": 2, "name": "popcorn.echo", "version": 2, "id": 1},
    ]
    return module


@pytest.fixture
def shown(ctl, busy):
    """What is printed for it."""
    code, out, err = ctl("metrics")
    assert (code, err) == (0, "")
    return out


@pytest.fixture
def filed(ctl, busy, tmp_path):
    """What is written for it."""
    path = tmp_path / "popcorn.prom"
    assert ctl("metrics", "--textfile", path) == (0, "", "")
    return path.read_text("utf-8")


def samples(families):
    """Values by name and labels; each occurs once."""
    found = {}
    for family in families:
        for sample in family.samples:
            key = (sample.name, *sorted(sample.labels.items()))
            assert key not in found and sample.timestamp is None
            found[key] = sample.value
    return found


class Samples:
    """Values by name and some labels, of which there is one."""

    def __init__(self, families):
        self.all = samples(families)

    def __call__(self, metric, **labels):
        wanted = set(labels.items())
        found = [v for (name, *has), v in self.all.items() if name == metric and wanted <= set(has)]
        assert len(found) == 1, f"{metric} {labels}: {len(found)}"
        return found[0]

    def count(self, metric):
        return sum(name == metric for name, *_ in self.all)


# the numbers


def test_channels_are_what_the_module_counts(shown, busy):
    value = Samples(parse_openmetrics(shown))
    names = {
        "sent": "sent_messages_total",
        "sent-bytes": "sent_bytes_total",
        "received": "received_messages_total",
        "received-bytes": "received_bytes_total",
        "doorbells-sent": "doorbells_total",
        "room-doorbells": "room_doorbells_total",
        "full": "full_total",
        "waits": "waits_total",
        "rejected": "rejected_messages_total",
        "answered": "answered_calls_total",
        "ring-slots": "sent_slots",
        "ring-slots-from": "received_slots",
        "area-bytes": "area_bytes",
        "armed": "armed",
    }
    for channel in busy.channels:
        assert set(channel) - {"node-id", "queue"} == set(names)
        peer = {"node": "primary", "node_id": "0", "peer_id": str(channel["node-id"])}
        peer |= {"peer": {1: "web", 2: "old"}[channel["node-id"]], "queue": str(channel["queue"])}
        for given, name in names.items():
            assert value(f"popcorn_channel_{name}", **peer) == channel[given], given
    assert value.count("popcorn_channel_full_total") == len(busy.channels)


def test_queues_are_what_the_module_counts(shown, busy):
    value = Samples(parse_openmetrics(shown))
    names = {
        "polls": "polls_total",
        "poll-messages": "messages_total",
        "doorbell-irqs": "doorbells_total",
        "spurious": "spurious_doorbells_total",
        "sleeps": "sleeps_total",
        "window-hits": "window_hits_total",
    }
    for queue in busy.queues:
        here = {"node": "primary", "node_id": "0", "queue": str(queue["queue"])}
        for given, name in names.items():
            assert value(f"popcorn_queue_{name}", **here) == queue[given], given
        assert value("popcorn_queue_window_seconds", **here) == 12.5e-6
        assert value("popcorn_queue_info", **here, cpu="1", irq=str(queue["irq"])) == 1


def test_nodes(shown):
    value = Samples(parse_openmetrics(shown))
    for node, state in (("primary", "up"), ("web", "up"), ("old", "hung")):
        for known in map(label, NodeState):
            labels = {"node": node, "popcorn_node_state": known}
            assert value("popcorn_node_state", **labels) == (known == state)
    assert value("popcorn_node_epoch", node="web", node_id="1") == 7
    assert value("popcorn_node_cpus", node="web") == 3
    assert value("popcorn_node_shut", node="web") == 0
    assert value("popcorn_node_shut", node="old") == 1
    assert value("popcorn_node_heartbeat_age_seconds") == 0.125, "of web alone"
    assert value("popcorn_node_poll_window_max_seconds", node="primary") == 40e-6
    assert value("popcorn_node_doorbell_cost_seconds", node_id="0") == 20.5e-6
    assert value("popcorn_node_threaded") == 1
    assert value("popcorn_ping_unanswered_total", node="primary", peer="web", peer_id="1") == 11
    assert value("popcorn_node_info", release="6.12.1", machine="x86_64", here="false") == 1
    assert value("popcorn_node_info", node="old", reason='panic: "no\\more"\nsecond line') == 1


def test_kernels(shown):
    value = Samples(parse_openmetrics(shown))
    for name, state in (("web", "running"), ("old", "crashed")):
        for known in map(label, KernelState):
            labels = {"kernel": name, "popcorn_kernel_state": known}
            assert value("popcorn_kernel_state", **labels) == (known == state)
        assert value("popcorn_kernel_cpus", kernel=name) == 2
        assert value("popcorn_kernel_memory_bytes", kernel=name) == 512 << 20
        assert value("popcorn_kernel_state_age_seconds", kernel=name) == 1.5
    assert value("popcorn_kernel_join_seconds", kernel="web", kernel_id="1") == 1.25
    assert value.count("popcorn_kernel_join_seconds") == 1, "the other one has not joined"
    assert value("popcorn_kernel_info", image="6.12.1") == 1
    assert value("popcorn_kernel_info", kernel="old", reason="panic") == 1


def test_the_fabric_and_the_services(shown, busy):
    value = Samples(parse_openmetrics(shown))
    assert value("popcorn_fabric_info", node="primary", version="1.2", loopback="false") == 1
    assert value("popcorn_fabric_size_bytes") == 16 << 20
    assert value("popcorn_fabric_tsc_hertz") == 2.5e9
    assert value("popcorn_service_talks", service="popcorn.echo", peer="web", version="1") == 1
    assert value("popcorn_service_talks", service="popcorn.echo", peer="old", version="2") == 0
    assert value.count("popcorn_service_talks") == 2, "not with itself"


def check_histograms(value, busy, stages):
    """Each bucket against the module's: so many took less than 2^(i+1) cycles."""
    names = {0: "primary", 1: "web", 2: "old"}
    for item in busy.latencies:
        labels = {
            "node": names[item["dst"]],
            "node_id": str(item["dst"]),
            "peer": names[item["src"]],
            "peer_id": str(item["src"]),
            "queue": str(item["queue"]),
            "stage": stages[item["stage"]],
        }
        found = {
            dict(has)["le"]: number
            for (name, *has), number in value.all.items()
            if name == f"{LATENCY}_bucket" and set(labels.items()) < set(has)
        }
        bounds = [float(bound) for bound in found]
        assert bounds == sorted(set(bounds)) and len(bounds) == LATENCY_BUCKETS
        assert bounds[-1] == math.inf
        for number, (bound, upto) in enumerate(zip(bounds, found.values(), strict=True)):
            assert upto == sum(item["count"][: number + 1])
            if bound < math.inf:
                cycles = bound * busy.tsc_khz * 1000
                assert math.isclose(cycles, 2 ** (number + 1), rel_tol=1e-12)


STAGES = {0: "deliver", 1: "doorbell", 2: "poll"}


def test_histograms(shown, busy):
    assert {stage: label(LatencyStage(stage)) for stage in STAGES} == STAGES
    value = Samples(parse_openmetrics(shown))
    check_histograms(value, busy, STAGES)
    assert value(f"{LATENCY}_bucket", stage="deliver", le="+Inf") == 9973
    assert not value.count(f"{LATENCY}_sum") and not value.count(f"{LATENCY}_count")


def test_histograms_are_in_the_file_complete(filed, busy):
    value = Samples(parse_prometheus(filed))
    check_histograms(value, busy, STAGES)
    for item in busy.latencies:
        stage = STAGES[item["stage"]]
        assert value(f"{LATENCY}_count", stage=stage) == sum(item["count"])
        assert math.isnan(value(f"{LATENCY}_sum", stage=stage)), "nobody knows it"


# the texts


def test_openmetrics_is_as_it_should_be(shown):
    families = list(parse_openmetrics(shown))
    assert shown.endswith("\n# EOF\n") and shown.count("# EOF") == 1
    assert len(families) > 35
    for family in families:
        assert family.name.startswith("popcorn_")
        assert family.samples, "without a sample it says nothing"
        assert family.documentation.endswith("."), family.name
        assert family.type in ("counter", "gauge", "histogram", "info", "stateset")
        unit = next((u for u in ("seconds", "bytes", "hertz") if family.name.endswith(u)), "")
        assert family.unit == unit, family.name
        assert ("\n" + f"# UNIT {family.name} {unit}\n" in "\n" + shown) == bool(unit)
        for sample in family.samples:
            if family.type == "counter":
                assert sample.name == f"{family.name}_total"
            assert all("node" not in name or f"{name}_id" in sample.labels
                       for name in sample.labels if name in ("node", "peer", "kernel"))  # fmt: skip


def test_the_file_is_in_prometheus_own_format(filed):
    # node_exporter takes "# EOF" and "# UNIT" for comments, but no type it does not know.
    kinds = [line.split() for line in filed.splitlines() if line.startswith("#")]
    assert {words[1] for words in kinds} == {"HELP", "TYPE"}
    types = {words[3] for words in kinds if words[1] == "TYPE"}
    assert types == {"counter", "gauge", "histogram"}
    counters = [words[2] for words in kinds if words[1:4:2] == ["TYPE", "counter"]]
    assert counters and all(name.endswith("_total") for name in counters)
    assert filed.endswith("\n")


def test_both_texts_have_the_same_samples(shown, filed):
    extra = {f"{LATENCY}_count", f"{LATENCY}_sum"}
    written = samples(parse_prometheus(filed))
    assert {key: v for key, v in written.items() if key[0] not in extra} == samples(
        parse_openmetrics(shown)
    )


def test_json_has_the_same_samples(ctl, shown):
    code, out, _ = ctl("metrics", "--json")
    assert code == 0
    listed = json.loads(out)
    assert {family["name"]: (family["type"], family["unit"]) for family in listed} == {
        family.name: (family.type, family.unit) for family in parse_openmetrics(shown)
    }
    assert {
        (sample["name"], *sorted(sample["labels"].items())): sample["value"]
        for family in listed
        for sample in family["samples"]
    } == samples(parse_openmetrics(shown))


def test_a_kernel_that_is_alone(ctl, module):
    code, out, _ = ctl("metrics")
    assert code == 0
    value = Samples(parse_openmetrics(out))
    assert value("popcorn_node_state", node="primary", popcorn_node_state="up") == 1
    assert not value.count("popcorn_kernel_state") and not value.count(f"{LATENCY}_bucket")


def test_a_secondary_has_no_kernels(ctl, busy):
    busy.host = False
    code, out, _ = ctl("metrics")
    assert code == 0
    value = Samples(parse_openmetrics(out))
    assert not value.count("popcorn_kernel_state")
    assert value.count("popcorn_channel_full_total") == len(busy.channels)
    assert Cmd.KERNEL_GET not in busy.commands()


def test_what_a_newer_kernel_may_send(ctl, module):
    module.nodes[1] = {"id": 1, "name": "web", "state": 99}
    module.channels = [{"node-id": 9, "queue": 0, "sent": 1}]
    module.latencies = [
        {"src": 9, "dst": 0, "queue": 0, "stage": 7, "count": histogram(_1=1)},
        {"src": 9, "dst": 1, "queue": 0, "stage": 0, "count": []},
    ]
    code, out, _ = ctl("metrics")
    assert code == 0
    value = Samples(parse_openmetrics(out))
    assert value("popcorn_node_state", node="web", popcorn_node_state="unknown-99") == 1
    assert value("popcorn_node_state", node="web", popcorn_node_state="up") == 0
    assert value("popcorn_channel_sent_messages_total", peer="9", peer_id="9") == 1
    assert value(f"{LATENCY}_bucket", stage="unknown-7", le="+Inf") == 1
    assert value(f"{LATENCY}_bucket", node="web", le="+Inf") == 0


# the file


def test_the_file_is_replaced_and_for_everybody_to_read(ctl, busy, tmp_path):
    path = tmp_path / "popcorn.prom"
    path.write_text("old\n")
    path.chmod(0o600)
    old = path.open()
    mask = os.umask(0o077)
    try:
        assert ctl("metrics", "--textfile", path)[0] == 0
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert old.read() == "old\n", "who had it open reads on"
    assert [found.name for found in tmp_path.iterdir()] == ["popcorn.prom"]


def test_the_file_in_json(ctl, busy, tmp_path):
    path = tmp_path / "popcorn.prom"
    code, out, _ = ctl("--json", "metrics", "--textfile", path)
    assert (code, json.loads(out)) == (
        0,
        {"textfile": str(path), "size_bytes": path.stat().st_size},
    )


def refused(ctl, path):
    code, out, err = ctl("metrics", "--textfile", path)
    assert (code, out) == (1, "")
    return err


def test_no_directory(ctl, module, tmp_path):
    path = tmp_path / "not/there/popcorn.prom"
    assert refused(ctl, path) == (
        f"popcornctl: cannot write {path}: there is no directory {path.parent}\n"
        "hint: name the one that node_exporter was given as --collector.textfile.directory\n"
    )
    assert not list(tmp_path.iterdir())


def test_a_directory_that_is_a_file(ctl, module, tmp_path):
    (tmp_path / "file").touch()
    assert "file: Not a directory" in refused(ctl, tmp_path / "file/popcorn.prom")


def test_a_directory_that_may_not_be_written_to(ctl, module, monkeypatch, tmp_path):
    from popcorn import metrics

    def mkstemp(**_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    # Root may write everywhere, and tests may be run as root.
    monkeypatch.setattr(metrics.tempfile, "mkstemp", mkstemp)
    assert refused(ctl, tmp_path / "popcorn.prom") == (
        f"popcornctl: cannot write to the directory {tmp_path}: Permission denied\n"
        "hint: run it as a user who may\n"
    )


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_stays(ctl, module, tmp_path, make):
    path = tmp_path / "popcorn.prom"
    make(path)
    before = path.stat()
    assert "it is there and is no file" in refused(ctl, path)
    assert path.stat() == before and list(tmp_path.iterdir()) == [path]


def test_a_disk_that_is_full_leaves_the_old_file(ctl, busy, tmp_path):
    path = tmp_path / "popcorn.prom"
    path.write_text("old\n")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        err = refused(ctl, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert err == f"popcornctl: cannot write {path}: File too large\n"
    assert path.read_text() == "old\n" and list(tmp_path.iterdir()) == [path]


def test_interrupted_while_writing(ctl, busy, tmp_path, monkeypatch):
    from popcorn import metrics

    def fchmod(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(metrics.os, "fchmod", fchmod)
    assert ctl("metrics", "--textfile", tmp_path / "popcorn.prom")[0] == 130
    assert not list(tmp_path.iterdir())


def test_a_name_that_node_exporter_does_not_read(ctl, tmp_path):
    code, out, err = ctl("metrics", "--textfile", tmp_path / "popcorn.txt")
    assert (code, out) == (2, "")
    assert "popcorn.txt' does not end in .prom" in err


def test_without_the_module_the_file_stays(ctl, module, tmp_path):
    module.loaded = False
    path = tmp_path / "popcorn.prom"
    path.write_text("old\n")
    assert "popcorn is not loaded\nhint: load it: modprobe popcorn_host" in refused(ctl, path)
    assert path.read_text() == "old\n" and list(tmp_path.iterdir()) == [path]


# what it needs


def test_without_prometheus_client(ctl, module, monkeypatch, tmp_path):
    for name in [name for name in sys.modules if name.split(".")[0] == "prometheus_client"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "popcorn.metrics", raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    code, out, err = ctl("metrics")
    assert (code, out) == (1, "")
    assert err.startswith("popcornctl: prometheus_client is not available to this Python (")
    assert "hint: apt-get install python3-prometheus-client" in err


# what is made of them

DASHBOARD = json.loads((MONITORING / "grafana-dashboard.json").read_text("utf-8"))
PANELS = DASHBOARD["panels"]
VARIABLES = {item["name"]: item for item in DASHBOARD["templating"]["list"]}
TARGETS = [
    pytest.param(target["expr"], target["legendFormat"], id=f"{panel['title']}-{target['refId']}")
    for panel in PANELS
    for target in panel.get("targets", ())
]
#: What Prometheus adds to everything.
SCRAPED = {"instance", "job"}


@pytest.fixture
def known(filed):
    """Values of each label of each name in the file."""
    found = {}
    for name, *labels in samples(parse_prometheus(filed)):
        for label_name, value in labels:
            found.setdefault(name, {}).setdefault(label_name, set()).add(value)
    return found


def check_selectors(expression, known):
    """Names, labels and values of an expression; returns the labels of each of its metrics."""
    found = []
    for name, matchers in re.findall(r"\b(popcorn_\w+)(?:\{([^}]*)\})?", expression):
        assert name in known, f"{name} is not exported"
        for matcher in filter(None, re.split(r",\s*", matchers)):
            key, value = re.fullmatch(r'(\w+)=~?"(.*)"', matcher).groups()
            assert key in {*known[name], *SCRAPED}, f"{name} has no label {key}"
            if "$" not in value:
                assert set(value.split("|")) <= known[name][key], matcher
        found.append({*known[name], *SCRAPED})
    assert found, expression
    return found


@pytest.mark.parametrize(("expression", "legend"), TARGETS)
def test_the_dashboard_asks_for_what_there_is(known, expression, legend):
    grouped = [set(re.split(r",\s*", by)) for by in re.findall(r"by \(([^)]*)\)", expression)]
    labels = check_selectors(re.sub(r"by \([^)]*\)", "", expression), known)
    for by in grouped:
        assert all(by <= has for has in labels), by
    left = set.intersection(*(grouped or labels))
    assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= left
    variables = set(re.findall(r"\$(\w+)", expression)) - {"__rate_interval"}
    assert variables <= set(VARIABLES)
    assert 'instance=~"$instance"' in expression


def test_the_variables_of_the_dashboard(known):
    for variable in VARIABLES.values():
        if variable["type"] == "query":
            query = variable["definition"]
            assert variable["query"]["query"] == query
            selector, name = re.fullmatch(r"label_values\((.*), (\w+)\)", query).groups()
            assert all(name in labels for labels in check_selectors(selector, known))
    assert VARIABLES["datasource"]["type"] == "datasource"


def test_the_dashboard_shows_its_panels_side_by_side():
    assert len({panel["id"] for panel in PANELS}) == len(PANELS) > 20
    taken = set()
    for panel in PANELS:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not taken & cells and at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells
        assert panel["title"] and (panel["type"] == "row" or panel["description"])
        refs = [target["refId"] for target in panel.get("targets", ())]
        assert len(set(refs)) == len(refs)


def test_the_dashboard_has_histograms_and_every_counter_that_should_stay_small():
    text = json.dumps(PANELS)
    for name in ("full", "rejected_messages", "doorbells", "answered_calls"):
        assert f"popcorn_channel_{name}_total" in text
    for stage in STAGES.values():
        assert f'stage=\\"{stage}\\"' in text


def unit(name):
    """A unit's sections."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str
    parser.read_string((MONITORING / name).read_text("utf-8"))
    return parser


def test_the_service_runs_right_usage(ctl, busy, tmp_path):
    service = unit("popcorn-metrics.service")["Service"]
    path = tmp_path / "popcorn.prom"
    program, *words = service["ExecStart"].replace("${TEXTFILE}", str(path)).split()
    assert program == "popcornctl"
    assert ctl(*words) == (0, "", "")
    assert path.exists()
    assert service["Environment"].startswith("TEXTFILE=/") and "$" not in service["Environment"]


@pytest.mark.parametrize(("result", "stays"), [("success", True), ("exit-code", False)])
def test_the_service_leaves_no_old_metrics(tmp_path, result, stays):
    path = tmp_path / "popcorn.prom"
    path.write_text("old\n")
    command = shlex.split(unit("popcorn-metrics.service")["Service"]["ExecStopPost"])
    environment = {**os.environ, "SERVICE_RESULT": result, "TEXTFILE": str(path)}
    for _ in range(2):
        subprocess.run(command, env=environment, check=True)
    assert path.exists() == stays


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_likes_the_units(tmp_path):
    # What it runs need not be installed here.
    for name in ("popcorn-metrics.service", "popcorn-metrics.timer"):
        text = (MONITORING / name).read_text("utf-8")
        (tmp_path / name).write_text(text.replace("ExecStart=popcornctl", "ExecStart=/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *sorted(tmp_path.iterdir())],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_installed_of_them():
    places = configparser.ConfigParser(interpolation=None)
    places.read(ROOT / "setup.cfg")
    installed = {
        place: [ROOT / name for name in names.split()]
        for place, names in places["options.data_files"].items()
    }
    assert installed["lib/systemd/system"] == sorted(MONITORING.glob("popcorn-metrics.*"))
    assert installed["share/popcorn"] == [MONITORING / "grafana-dashboard.json"]


DOCS = (ROOT / "docs/metrics.md").read_text("utf-8")


def test_the_documentation_has_every_metric_with_its_labels(known):
    rows = {
        name: set(re.findall(r"`(\w+)`", labels))
        for name, labels in re.findall(r"^\| `(popcorn_\w+)` \| ([^|]*)\|", DOCS, re.M)
    }
    exported = {}
    for name, labels in known.items():
        plain = re.sub(f"({LATENCY})_(bucket|count|sum)", r"\1", name)
        ids = {label_name for label_name in labels if label_name.endswith("_id")}
        exported.setdefault(plain, set()).update(set(labels) - ids - {"le"})
    assert rows == exported


def test_the_example_of_the_documentation_is_real(shown):
    (example,) = re.findall(r"^```\n(# HELP .*?)^```", DOCS, re.M | re.S)
    assert set(example.splitlines()) <= set(shown.splitlines())


def test_the_expressions_of_the_documentation(known):
    (rules,) = re.findall(r"^```yaml\n(.*?)^```", DOCS, re.M | re.S)
    rules = [rule for group in yaml.safe_load(rules)["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) == 5
    (questions,) = re.findall(r"^```\n(# messages in.*?)^```", DOCS, re.M | re.S)
    asked = [line for line in questions.splitlines() if line and not line.startswith("#")]
    for expression in [*asked, *(rule["expr"] for rule in rules if "popcorn_" in rule["expr"])]:
        check_selectors(re.sub(r"by \([^)]*\)", "", expression), known)
