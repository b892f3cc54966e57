"""The figures of the benchmark on the table of trained networks: means, bars, and the page."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from benchmark_common import BAR_TITLES, Bar
from channel_bench_networks import NETWORKS
from channel_bench_replay import GREEDY, METHODS, OWN, PREDICTOR, TARGETS, Condition
from channel_bench_table import RESOURCES, TRUTHS

from autoslim.reporting.markdown_table import table

Records = Mapping[str, Mapping[str, Any]]
BELIEFS = (PREDICTOR, OWN)  # the predictor pulled towards alike groups, as it is unless asked, and as fitted
JUDGED = (0.5, 0.3, 0.2)  # the targets that bars are about
CLOSE = 0.02  # points behind the optimum
NAMES = {"flops": "FLOPs", "params": "parameters"}

INTRODUCTION = """# Found networks, judged by a table of trained ones

Channel-Bench-Macro is a public table: the CIFAR-10 top-1 of all 16,384 networks of a MobileNet-like and of
a ResNet-like kind, each trained three times. They have seven channel groups of four widths each. So what a
method finds can be looked up, and compared with the best network that there is.

`scripts/benchmark_channel_bench.py` wrote this page. The table is not part of this project; the script's
first lines say what the file must hold. It is refused unless the FLOPs and parameters of all its networks
are exactly those that `ChannelGraph.cost` gives.

**Gain** is the true top-1 of a network less that of the uniform network *of its own cost*, in points.
Between the four uniform networks of the table top-1 is interpolated in the ratio of the widths. "Possible"
is the gain of the best network within the budget.

**The truth.** The mean of three runs errs by about 0.1 points, and the best of thousands of such means is
the luckiest. So the truth is a least-squares fit to all networks of a kind: "additive" has a term for each
width of each group, "pairs" one for each pair of widths of two groups too; "runs" are the means as they
are. A fit that leaves no more than the runs' own error is right. The predictor is additive itself, so that
it finds the additive optimum more easily than that with pairs.

"predictor" pulls each group's drops half of the way to what they are in the mean over the groups
(`slim.trust=0.5`, the default), "predictor, trust 0" takes them as fitted.
"""

REPLAY = """
## Replay: scores from the table

    python scripts/benchmark_channel_bench.py --table channel_bench_macro.npz --page docs/channel_bench.md

Each method is the library's own (`autoslim.search`); its scores are the truth ("perfect"), or the truth
with an error of each network's own ("error": one standard deviation in points, the same whenever a network is
scored), or with a bias of each group ("bias": at its narrowest a group is judged too good or too bad by so
much, one standard deviation, in proportion in between). Methods that draw networks may spend 100
full-network passes. Figures are mean gains over draws of the errors, in points.
"""

SUPERNET = """
## Search by a supernet

    python scripts/benchmark_channel_bench.py --table channel_bench_macro.npz --supernet --path cifar10 \\
        --page docs/channel_bench.md

The MobileNet-like network at full width is trained as a supernet on {images:,} CIFAR-10 training images (here
of a JPEG copy), averaged down to {side}x{side}, for {epochs} epochs: sandwich rule with 4 arms, in-place
distillation: {distill}, batches of {batch_size}, learning rate {learning_rate}. The table's networks were
trained on 32x32 images for 60 epochs. Networks are scored on {scored} held-out training images.
"""


def mean(records: Records, key: str, what: str = "gains") -> np.ndarray | None:
    """Mean over the draws of a record: float64 [targets], or None where there is none."""
    return np.mean(records[key][what], 0) if key in records else None


def line(found: Mapping[str, Any]) -> str:
    """A record of a replay in a line."""
    values = {name: np.mean(np.atleast_2d(found[name]), 0) for name in ("gains", "behind") if name in found}
    return ", ".join(f"{name} {np.array2string(value, precision=3)}" for name, value in values.items())


def at(values: np.ndarray | None, targets: Iterable[float] = JUDGED) -> np.ndarray | None:
    """Those of some targets."""
    return None if values is None else np.asarray(values)[[TARGETS.index(target) for target in targets]]


def bars(records: Records) -> list[Bar]:
    """All of them, measured or not."""
    return [*_perfect(records), *_errors(records), *_bias(records), *_supernet(records)]


def _perfect(records: Records) -> Iterable[Bar]:
    for method, truth in itertools.product(BELIEFS, ("additive", "pairs")):
        keys = [f"{truth}/{net}/{r}/perfect/{method}" for net in NETWORKS for r in RESOURCES]
        cells = [at(mean(records, key, "behind")) for key in keys]
        close = sum(int((cell <= CLOSE).sum()) for cell in cells if cell is not None)
        yield Bar(
            f"perfect evaluator, {truth}: cells of 12 within {CLOSE} of the optimum, {method}",
            None if any(cell is None for cell in cells) else close,
            12,
            True,
        )


def _errors(records: Records) -> Iterable[Bar]:
    for method, (resource, least) in itertools.product(BELIEFS, (("params", 0.9), ("flops", 0.8))):
        cell = f"additive/mobilenet/{resource}"
        gains, figure = mean(records, f"{cell}/error:0.3/{method}"), None
        if gains is not None:
            place = TARGETS.index(0.3)
            figure = float(gains[place] / records[f"{cell}/possible"]["gains"][place])
        yield Bar(
            f"error 0.3, MobileNet, 0.3 of {NAMES[resource]}: share of the possible, {method}",
            figure,
            least,
            True,
        )


def _total(cells: Iterable[np.ndarray | None]) -> float | None:
    """The sum over cells; None where one was not measured."""
    found = [None if cell is None else float(np.sum(cell)) for cell in cells]
    return None if None in found else sum(x for x in found if x is not None)


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _bias(records: Records) -> Iterable[Bar]:
    for belief, network in itertools.product(BELIEFS, NETWORKS):
        one, other = (
            _total(at(mean(records, f"additive/{network}/{r}/bias:0.2/{method}")) for r in RESOURCES)
            for method in (belief, GREEDY)
        )
        name = f"bias 0.2, {network}: sum of gains, {belief} less greedy by cost"
        yield Bar(name, _less(one, other), 0.0, True)


def _supernet(records: Records) -> Iterable[Bar]:
    def total(method: str, resources: Sequence[str]) -> float | None:
        return _total(at(over_seeds(records, resource, method, "additive")) for resource in resources)

    best, own = records.get("additive/mobilenet/params/possible"), total(PREDICTOR, ["params"])
    possible = _total([at(np.array(best["gains"]))]) if best else None
    share = None if own is None or possible is None else own / possible
    yield Bar("supernet, parameters: mean gain / mean possible gain, predictor", share, 0.5, True)
    every, other = total(PREDICTOR, RESOURCES), total(GREEDY, RESOURCES)
    yield Bar("supernet: sum of gains over six cells, predictor", every, 0.0, True)
    yield Bar("supernet: the same less greedy by cost's", _less(every, other), 0.0, True)
    for teller in ("supernet's loss", *BELIEFS):
        ranks = [found["flops 0.3"][teller]["additive"][0] for _, found in _ranks(records)]
        figure = float(np.mean(ranks)) if ranks else None
        yield Bar(f"supernet, within 5 % of 0.3 of the FLOPs: Kendall's, {teller}", figure, 0.4, True)


def _ranks(records: Records) -> list[tuple[str, Mapping[str, Any]]]:
    return [(key, found) for key, found in records.items() if key.startswith("supernet/") and "/ranks" in key]


def over_seeds(records: Records, resource: str, method: str, truth: str) -> np.ndarray | None:
    """Mean gain by the supernets of all seeds: float64 [targets], or None."""
    ending = f"/{resource}/{method}"
    rows = [
        found[truth] for key, found in records.items() if key.startswith("supernet/") and key.endswith(ending)
    ]
    return np.mean(rows, 0) if rows else None


def page(records: Records, recipe: Mapping[str, Any]) -> str:
    """All figures in Markdown; `recipe` is the supernets'."""
    fits = [records[f"fit/{network}"] for network in NETWORKS if f"fit/{network}" in records]
    parts = [INTRODUCTION]
    if fits:
        rows = [[f"{fit[name]:.3f}" for name in (*TRUTHS[:-1], "runs")] for fit in fits]
        names = [name for name in NETWORKS if f"fit/{name}" in records]
        titles = ("left by a fit, points", *TRUTHS[:-1], "the runs' own error")
        parts += [table(titles, [[name, *row] for name, row in zip(names, rows, strict=True)])]
    parts += ["## Bars", table(BAR_TITLES, [bar.row for bar in bars(records)]), REPLAY]
    for truth in TRUTHS:
        for network in NETWORKS:
            lines = list(_replay_rows(records, truth, network))
            if lines:
                parts += [f"### {network}, truth: {truth}", table(_titles("evaluator, method"), lines)]
    if _ranks(records):
        parts += [
            SUPERNET.format(**recipe),
            "Rank correlation with the truth, mean over seeds: Kendall's (Spearman's).",
        ]
        parts += [table(("networks", "by", *TRUTHS), _rank_rows(records))]
        parts += ["Gains over uniform of what is found, mean over seeds (additive truth)."]
        parts += [table(_titles("method"), _gain_rows(records))]
    machines = sorted({str(found["environment"]) for found in records.values() if "environment" in found})
    parts += [f"Measured on: {'; '.join(machines)}."]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _titles(first: str) -> tuple[str, ...]:
    cells = [f"{NAMES[resource]} {target:g}" for resource in RESOURCES for target in TARGETS]
    return first, "draws or seeds", *cells


def _cells(values: Iterable[np.ndarray | None]) -> list[str]:
    return [
        cell
        for row in values
        for cell in (["-"] * len(TARGETS) if row is None else [f"{x:.3f}" for x in row])
    ]


def _replay_rows(records: Records, truth: str, network: str) -> Iterable[tuple[str, ...]]:
    cells = [f"{truth}/{network}/{resource}" for resource in RESOURCES]
    best = [records.get(f"{cell}/possible") for cell in cells]
    if all(best):
        yield "possible", "", *_cells(np.array(b["gains"]) for b in best if b)
    names = {key.split("/")[3] for key in records if key.startswith(f"{truth}/{network}/")} - {"possible"}
    for condition in sorted(
        names, key=lambda name: (-len(Condition.named(name).kind), Condition.named(name).size)
    ):
        for method in METHODS:
            keys = [f"{cell}/{condition}/{method}" for cell in cells]
            draws = [len(records[key]["gains"]) for key in keys if key in records]
            if draws:
                name = f"{condition.replace(':', ' ')}, {method}"
                yield name, str(min(draws)), *_cells(mean(records, key) for key in keys)


def _rank_rows(records: Records) -> Iterable[tuple[str, ...]]:
    every = [found for _, found in _ranks(records)]
    for networks in ("all", *(f"{resource} 0.3" for resource in RESOURCES)):
        for teller in ("supernet's loss", *BELIEFS, "FLOPs"):
            cells = []
            for truth in TRUTHS:
                tau, rho = np.mean([found[networks][teller][truth] for found in every], 0)
                cells.append(f"{tau:.2f} ({rho:.2f})")
            count = every[0][networks]["count"]
            yield f"{count}, {networks}", teller, *cells


def _gain_rows(records: Records) -> Iterable[tuple[str, ...]]:
    best = [records.get(f"additive/mobilenet/{resource}/possible") for resource in RESOURCES]
    if all(best):
        yield "possible", "", *_cells(np.array(b["gains"]) for b in best if b)
    for method in METHODS:
        found = [over_seeds(records, resource, method, "additive") for resource in RESOURCES]
        if any(row is not None for row in found):
            seeds = sum(key.endswith(f"/flops/{method}") for key in records if key.startswith("supernet/"))
            yield method, str(seeds), *_cells(found)
