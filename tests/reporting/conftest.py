"""A small made-up run: a search over four groups, and the networks that came of it."""

import pytest

from autoslim.graph import Cost
from autoslim.reporting.network import NetworkResult
from autoslim.slimming.trajectory import Point, Trajectory

GROUPS = (("stem", 8), ("block1|conv", 16), ("block2", 16), ("head", 32))
FULL = Cost({"flops": 40_000_000, "params": 500_000, "memory": 262_144})


def point(widths, group, share, loss, top1, macs):
    return Point(widths, group, costing(share), share, loss, 0.02, top1, macs)


def costing(share):
    return Cost({name: round(share * amount) for name, amount in FULL.items()})


@pytest.fixture
def full():
    return FULL


@pytest.fixture
def groups():
    return list(GROUPS)


@pytest.fixture
def trajectory():
    per_pass = FULL.flops * 200
    points = (
        point((8, 16, 16, 32), None, 1.0, 0.3, 0.92, per_pass),
        point((8, 16, 16, 16), 3, 0.8, 0.32, 0.91, 3 * per_pass),
        point((8, 8, 16, 16), 1, 0.65, 0.35, 0.90, 2 * per_pass),
        point((8, 8, 8, 16), 2, 0.48, 0.41, 0.87, 2 * per_pass),
    )
    names = tuple(name for name, _ in GROUPS)
    return Trajectory(names, "flops", FULL, 200, points)


@pytest.fixture
def results(trajectory):
    names = [name for name, _ in GROUPS]

    def network(kind, target, top1, share, widths):
        files = {"model": f"outputs/{kind}/model.keras", "channels": f"outputs/{kind}/channels.yaml"}
        channels = dict(zip(names, widths, strict=True))
        return NetworkResult(kind, target, top1, 0.3, costing(share), channels, f"outputs/{kind}", files)

    return [
        network("uniform", 0.5, 0.94, 0.49, (6, 11, 11, 23)),
        network("autoslim", 0.5, 0.93, 0.48, (8, 8, 8, 16)),
        network("autoslim", 0.7, 0.95, 0.65, (8, 8, 16, 16)),
        network("baseline", None, 0.95, 1.0, (8, 16, 16, 32)),
    ]
