"""Several devices score what one would: two logical devices in a process of their own, and two workers."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def started(**environment):
    return subprocess.Popen(
        [sys.executable, str(HERE / "searching.py")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", **environment},
    )


def printed(process):
    """What a process prints; it is killed if it takes too long."""
    try:
        text, errors = process.communicate(timeout=400)
    finally:
        process.kill()
    assert process.returncode == 0, errors[-3000:]
    return json.loads(text.splitlines()[-1])


@pytest.fixture(scope="module")
def found():
    return printed(started())


def assert_same(paths, expected):
    """The same networks, scores and spending."""
    assert len(paths) == len(expected) == 3
    for name, path in paths.items():
        one = expected[name]
        assert len(one["points"]) > 4
        assert [p["widths"] for p in path["points"]] == [p["widths"] for p in one["points"]]
        for mine, theirs in zip(path["points"], one["points"], strict=True):
            for spent in ("macs", "scored", "images", "naive_macs", "metric"):
                assert mine[spent] == theirs[spent]
            assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-6)
        kept = [[p["widths"] for e in each["exchanges"] for p in e["points"]] for each in (path, one)]
        assert kept[0] == kept[1]


@pytest.mark.slow
@pytest.mark.parametrize("where", ["two", "given later"])
def test_the_same_path_on_two_devices(found, where):
    assert found["replicas"] == 2
    assert_same(found[where], found["one"])


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.mark.long
def test_the_same_path_on_two_workers(found):
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}
    configs = [json.dumps({"cluster": cluster, "task": {"type": "worker", "index": i}}) for i in (0, 1)]
    processes = [started(TF_CONFIG=config) for config in configs]
    try:
        one, other = (printed(process) for process in processes)
    finally:
        for process in processes:
            process.kill()
    assert one["replicas"] == 2 and one == other
    assert_same(one["workers"], found["one"])
