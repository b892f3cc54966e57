"""How well latency is predicted, whether targets are met when measured, and what a divisor is worth.

    python scripts/benchmark_latency.py --arch resnet20 --folder /tmp/latency
    python scripts/benchmark_latency.py --arch model.keras --folder /tmp/latency --parts divisors

Part `fit`: random networks that the fit has not seen. Part `target`: networks drawn to be just within the
target as predicted, corrected by measuring as the search does, and the uniform one. Part `divisors`: networks
of equal FLOPs whose widths are multiples of 4, 8 and 16. All ratios are of networks measured in the same
rounds. Exit status 1: a bar was not met.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import benchmark_common as common
import numpy as np

from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.slimming.budget import Budget
from autoslim.slimming.latency import LatencyModel
from autoslim.slimming.latency_fit import rank_correlation
from autoslim.slimming.levels import Levels
from autoslim.slimming.rivals.pool import fitted
from autoslim.slimming.rivals.uniform import uniform_widths

ERROR, RANK, OVER = 0.10, 0.95, 1.10  # the bars: median error, rank correlation, measured share / target
DIVISORS = (4, 8, 16)
DRAWN = 6  # networks of each divisor
SHAPE, CLASSES = (32, 32, 3), 10


def main() -> int:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--arch", default="resnet20", help="resnet20, mobilenet_v2 or a .keras file")
    parser.add_argument("--folder", default=None, help="keeps the measurements")
    parser.add_argument("--runtime", default="litert")
    parser.add_argument("--target", type=float, default=0.5)
    parser.add_argument("--networks", type=int, default=20, help="random networks not used in the fit")
    parser.add_argument("--parts", nargs="+", default=["fit", "target", "divisors"])
    arguments = parser.parse_args()
    common.introduce()
    graph = ChannelGraph(network(arguments.arch))
    passed = [PARTS[part](graph, arguments) for part in arguments.parts]
    return 0 if all(passed) else 1


def network(arch: str) -> Any:
    """The Keras model of an architecture's name or a file."""
    import keras

    from autoslim import archs

    builders = {
        "resnet20": lambda: archs.resnet(SHAPE, CLASSES, depth=20),
        "mobilenet_v2": lambda: archs.mobilenet_v2(SHAPE, CLASSES),
    }
    return builders[arch]() if arch in builders else keras.saving.load_model(arch, compile=False)


def predictor(graph: ChannelGraph, arguments: argparse.Namespace, levels: Levels) -> LatencyModel:
    """The fit as a run makes it."""
    from autoslim.exporting import NetworkClock

    folder = None if arguments.folder is None else Path(arguments.folder)
    clock = NetworkClock(arguments.runtime)
    return LatencyModel(graph, levels, clock, folder=folder, targets=[arguments.target])


def fit_part(graph: ChannelGraph, arguments: argparse.Namespace) -> bool:
    """Error and rank correlation on random networks that were not used in the fit."""
    levels = Levels.spaced(graph)
    latency = predictor(graph, arguments, levels)
    generator = np.random.default_rng(12345)
    networks = [levels.random(generator) for _ in range(arguments.networks)]
    predicted = np.asarray(latency(np.array(networks))) / latency(graph.full)
    measured = np.array([one.share for one in latency.compare(networks)[1:]])
    error = float(np.median(np.abs(predicted / measured - 1)))
    rank = rank_correlation(predicted, measured)
    print(f"fit: {latency.summary}", flush=True)
    print(
        f"fit: {len(networks)} networks of {measured.min():.3f} to {measured.max():.3f} of the full one's "
        f"latency: median error {100 * error:.1f} % (bar {100 * ERROR:.0f} %), largest "
        f"{100 * np.abs(predicted / measured - 1).max():.1f} %, rank correlation {rank:.3f} (bar {RANK})",
        flush=True,
    )
    return error <= ERROR and rank >= RANK


def target_part(graph: ChannelGraph, arguments: argparse.Namespace) -> bool:
    """Measured shares of networks that are within the target as predicted."""
    levels, target = Levels.spaced(graph), arguments.target
    latency = predictor(graph, arguments, levels)
    budget = Budget(graph, "latency", latency=latency)
    try:
        budget.refuse_unreachable(levels.smallest, target)
    except AutoslimError as message:
        (smallest,) = latency.compare([levels.smallest])[1:]
        print(f"target: {message}\ntarget: measured now: {smallest.share:.3f}", flush=True)
        return smallest.share > target
    networks = [uniform_widths(budget, levels, target)]
    for seed in range(4):
        for _ in range(4):
            generator = np.random.default_rng(seed)
            found = fitted(budget, levels, levels.random(generator), target, generator)
            if found is None or latency.learn([found], target)[0] <= 1.02 * target:
                break
        assert found is not None
        networks.append(found)
    shares = [one.share for one in latency.compare(networks)[1:]]
    print(
        f"target {target:g}: measured uniform {shares[0]:.3f}, chosen "
        f"{', '.join(f'{share:.3f}' for share in shares[1:])} (bar {OVER * target:.3f})",
        flush=True,
    )
    return max(shares) <= OVER * target


def divisors_part(graph: ChannelGraph, arguments: argparse.Namespace) -> bool:
    """Latency at equal FLOPs of networks whose widths are multiples of each divisor."""
    from autoslim.exporting import NetworkClock

    budget = Budget(graph)
    networks: dict[int, list[np.ndarray]] = {}
    for divisor in DIVISORS:
        try:
            levels = Levels.spaced(graph, divisor=divisor)
        except AutoslimError as message:
            print(f"divisor {divisor}: {message}")
            continue
        networks[divisor] = equal_flops(budget, levels, arguments.target)
    flat = [network for some in networks.values() for network in some]
    latency = LatencyModel(graph, Levels.spaced(graph), NetworkClock(arguments.runtime))
    measured = iter(latency.compare(flat)[1:])
    times = {divisor: [next(measured) for _ in some] for divisor, some in networks.items()}
    base = np.median([one.share for one in times[DIVISORS[0]]])
    for divisor, some in networks.items():
        flops = [budget.share(budget.cost(network)) for network in some]
        shares = [one.share for one in times[divisor]]
        print(
            f"divisor {divisor}: FLOPs {np.median(flops):.3f} of full, latency {np.median(shares):.3f} "
            f"({min(shares):.3f} to {max(shares):.3f}), {np.median(shares) / base:.3f} of divisor 4's; "
            f"spread {100 * np.median([one.spread for one in times[divisor]]):.1f} %; levels of a group: "
            f"{sorted({len(w) for w in Levels.spaced(graph, divisor=divisor).widths})}",
            flush=True,
        )
    return True


def equal_flops(budget: Budget, levels: Levels, target: float) -> list[np.ndarray]:
    """Random networks just within a share of the FLOPs."""
    found = []
    for seed in range(50 * DRAWN):
        generator = np.random.default_rng(seed)
        network = fitted(budget, levels, levels.random(generator), target, generator)
        if network is not None and budget.share(budget.cost(network)) >= 0.97 * target:
            found.append(network)
        if len(found) == DRAWN:
            break
    return found


PARTS = {"fit": fit_part, "target": target_part, "divisors": divisors_part}

if __name__ == "__main__":
    sys.exit(main())
