"""A small made-up run: a search over four groups, and the networks that came of it."""

import pytest

from autoslim.graph import Cost
from autoslim.reporting.network import NetworkResult
from autoslim.slimming.trajectory import Point, Trajectory

GROUPS = (("stem", 8), ("block1|conv", 16), ("block2", 16), ("head", 32))
FULL = Cost(40_000_000, 500_000, 262_144)


def point(widths, group, share, loss, top1, macs):
    flops, params, memory = (round(share * FULL.of(name)) for name in ("flops", "params", "memory"))
    return Point(widths, group, flops, params, memory, share, loss, 0.02, top1, macs)


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
    return Trajectory(names, "flops", FULL.flops, FULL.params, FULL.memory, 200, points)


@pytest.fixture
def results(trajectory):
    names = [name for name, _ in GROUPS]

    def network(kind, target, top1, share, widths):
        files = {"model": f"outputs/{kind}/model.keras", "channels": f"outputs/{kind}/channels.yaml"}
        costs = [round(share * FULL.of(name)) for name in ("flops", "params", "memory")]
        return NetworkResult(
            kind, target, top1, 0.3, *costs, dict(zip(names, widths, strict=True)), f"outputs/{kind}", files
        )

    return [
        network("uniform", 0.5, 0.94, 0.49, (6, 11, 11, 23)),
        network("autoslim", 0.5, 0.93, 0.48, (8, 8, 8, 16)),
        network("autoslim", 0.7, 0.95, 0.65, (8, 8, 16, 16)),
        network("baseline", None, 0.95, 1.0, (8, 16, 16, 32)),
    ]
