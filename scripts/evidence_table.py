"""What the evidence suite says: differences to uniform slimming by cell and seed, and how sure they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from benchmark_common import BAR_TITLES, Bar
from evidence_cells import CELLS, COMMON, JUDGED
from scipy import stats

from autoslim.kinds import KINDS
from autoslim.reporting.markdown_table import table

OURS, UNIFORM, WHOLE = "predictor", "uniform", "baseline"  # kinds of networks
SEEDS = 5  # of each cell, at least
SURE = 0.01  # p of the pooled difference that the suite asks for
KEPT = 0.5  # points of top-1 that half of the FLOPs may cost
ECONOMY = 0.75  # baseline trainings
Records = Mapping[str, Mapping[str, Any]]  # "CELL SEED KIND" -> figures of a network
Agreement = Callable[[Records, str], float | None]

INTRODUCTION = f"""# AutoSlim against uniform slimming on photographs

    python scripts/evidence.py --tiny50 FOLDER --cifar10 FOLDER --page docs/evidence.md

Cells, recipe and what is judged were declared before anything was measured: `scripts/evidence_cells.py`. For
each seed a baseline and a supernet are trained, every method chooses channels from the same supernet under
the same budget, and what it finds is retrained by the same recipe, as is the uniform network, which never has
less of the budget: both from the trained baseline's most important channels. Top-1 is of the last epoch, on
all test images (Tiny-50: 2,500; CIFAR-10: 10,000). The primary outcome is the top-1 of `slimming={OURS}` less
that of uniform slimming, seed by seed: a t-test over the seeds' means of the cells {JUDGED[0]} to
{JUDGED[-1]}, and Holm's adjustment over single cells. A bill is what finding and training a network took, in
baseline trainings.

What came after the first figures, and is no part of what was declared: the cells g and h, which ask other
questions and count in no test, their bars, and the second bar of d; batch-norm statistics after training over
augmented images, as in training, where plain ones had cost all networks 0.4 to 2.5 points; and small networks
that begin with the weights of the trained baseline in place of the supernet's (`retrain.init=baseline`; h
keeps the supernet's), after another tool that does so was ahead in cell a. What was measured before is
measured anew, as far as the tables below go. `{OURS}` less uniform, it said, with the supernet's
weights: a +3.00, +1.16 and +1.52 points, b +0.40 (seed 1) and +1.08 (2), d +1.24 (2), e +0.65 and
+0.48 (0 and 1).

In d the uniform network is the network itself, which goes on from its own weights for as long as the others
are trained: to be ahead of it is the gain, not to be ahead of the baseline, which had half of the epochs. It
was measured when the new channels of a wider network were copies of old ones; at the same widths, with new
channels that have weights of their own, the network that was found ended at 41.92 %.
"""


def key(cell: str, seed: int, kind: str) -> str:
    """Under which the figures of a network stand."""
    return f"{cell} {seed} {kind}"


def called(kind: str) -> str:
    """What networks of a kind are called here: by the method that found them.

    >>> called("autoslim"), called("baseline")
    ('greedy', 'baseline')
    """
    method = KINDS[kind].method
    return method.name if method else KINDS[kind].label


@dataclass(frozen=True)
class Difference:
    """Top-1 of a kind of networks less that of another kind, in points."""

    seeds: tuple[int, ...]
    points: np.ndarray  # float64 [seeds]

    @property
    def mean(self) -> float:
        return float(self.points.mean())

    @property
    def deviation(self) -> float:
        """Sample standard deviation over the seeds; NaN: one seed."""
        return float(self.points.std(ddof=1)) if len(self.points) > 1 else float("nan")

    @property
    def effect(self) -> float:
        """Cohen's d of paired differences: the mean in standard deviations."""
        return self.mean / self.deviation if self.deviation > 0 else float("nan")

    @property
    def p(self) -> float:
        """Of Student's paired t-test, two-sided; NaN: fewer than two seeds, or no spread."""
        return float(stats.ttest_1samp(self.points, 0.0).pvalue) if self.deviation > 0 else float("nan")


def difference(records: Records, cell: str, kind: str = OURS, than: str = UNIFORM) -> Difference | None:
    """Top-1 of a kind less that of another, over the seeds that have both networks; None: none has."""
    seeds = sorted(
        {int(name.split()[1]) for name in records if name.split()[0] == cell and name.split()[2] == kind}
    )
    both = [seed for seed in seeds if key(cell, seed, than) in records]
    if not both:
        return None
    points = [100 * (_top1(records, cell, s, kind) - _top1(records, cell, s, than)) for s in both]
    return Difference(tuple(both), np.array(points))


def pooled(differences: Iterable[Difference]) -> Difference | None:
    """The mean over cells of each seed that all of them have: one value a seed, so that seeds are blocks."""
    cells = list(differences)
    if not cells:
        return None
    seeds = sorted(set.intersection(*(set(d.seeds) for d in cells)))
    if not seeds:
        return None
    points = [np.mean([d.points[d.seeds.index(seed)] for d in cells]) for seed in seeds]
    return Difference(tuple(seeds), np.array(points))


def holm(values: Sequence[float]) -> list[float]:
    """Adjusted p values (Holm 1979); NaN stays.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = [i for i in np.argsort(values) if not np.isnan(values[i])]
    found, largest = [float("nan")] * len(values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * values[i]))
        found[i] = largest
    return found


def bars(records: Records) -> list[Bar]:
    """What the suite asks for, measured or not."""
    measured = _compared(records)
    every = pooled(measured.values()) if len(measured) == len(JUDGED) else None
    wider, half = difference(records, "d", than=WHOLE), difference(records, "g", than=WHOLE)
    on = measured.get("d")  # the uniform network is the network itself, and begins with its trained weights
    bills = [figures["bill"] for name, figures in records.items() if name.split()[::2] == ["h", OURS]]
    below = sum(d.mean < 0 and p < 0.05 for d, p in zip(measured.values(), _adjusted(measured), strict=True))
    return [
        Bar(f"{OURS} less uniform, all cells, points", every.mean if every else None, 0.0, True),
        Bar("p of that difference", every.p if every else None, SURE),
        Bar("cells in which it is below 0, p < 0.05 after Holm", float(below) if measured else None, 0.0),
        Bar(f"d: {OURS} less the network itself, points", wider.mean if wider else None, 0.0, True),
        Bar(f"d: {OURS} less the network itself, trained as long", on.mean if on else None, 0.0, True),
        Bar(f"g: {OURS} less the full network, points", half.mean if half else None, -KEPT, True),
        Bar("h: bill, baseline trainings", float(np.mean(bills)) if bills else None, ECONOMY),
    ]


def page(records: Records, kinds: Sequence[str], hardware: str, agree: Agreement = lambda *_: None) -> str:
    """What was declared, the table of every cell, and what the cells say together, in Markdown.

    Args:
        records: "CELL SEED KIND" -> figures of a network.
        kinds: in their order in the tables.
        hardware: on which it was measured.
        agree: (records, cell) -> how far the seeds agree on the widths, in [-1, 1]; None: not known.
    """
    measured = _compared(records)
    rows = [
        [
            cell,
            f"{d.mean:+.2f}",
            _number(d.deviation),
            _number(d.effect),
            _number(d.p, 4),
            _number(p, 4),
            _each(d),
        ]
        for (cell, d), p in zip(measured.items(), _adjusted(measured), strict=True)
    ]
    if len(measured) > 1 and (every := pooled(measured.values())):
        name = f"all {len(measured)}"
        rows.append([name, f"{every.mean:+.2f}", _number(every.deviation), _number(every.effect)])
        rows[-1] += [_number(every.p, 4), "", _each(every)]
    titles = ("cell", f"{OURS} - uniform, points", "sd", "effect", "p", "p (Holm)", "seed: points")
    parts = [INTRODUCTION, table(("key", "all cells"), [[f"`{key}`", value] for key, value in _recipe()])]
    parts += ["## What the cells say"]
    parts += [table(titles, rows)] if rows else ["Nothing is measured yet."]
    few = {cell: len(measured[cell].seeds) if cell in measured else 0 for cell in JUDGED}
    few = {cell: seeds for cell, seeds in few.items() if seeds < SEEDS}
    parts += [_unfinished(few)] if rows and few else []
    parts += ["What is asked for:", table(BAR_TITLES, [bar.row for bar in bars(records)])]
    there = {name.split()[0] for name in records}
    parts += [_cell(records, cell, kinds, agree(records, cell)) for cell in CELLS if cell in there]
    return "\n\n".join([*parts, f"Measured on: {hardware}."]) + "\n"


def _compared(records: Records) -> dict[str, Difference]:
    """The judged cells that are measured -> how far AutoSlim is ahead of uniform slimming."""
    return {cell: d for cell in JUDGED if (d := difference(records, cell)) is not None}


def _unfinished(few: Mapping[str, int]) -> str:
    """Which cells have too few seeds for a verdict."""
    there = ", ".join(f"{cell} {count}" for cell, count in few.items())
    return f"The suite is unfinished. Seeds measured, of {SEEDS}: {there}. This is no verdict yet."


def _recipe() -> list[tuple[str, str]]:
    return [(key, str(value)) for key, value in COMMON.items()]


def _cell(records: Records, cell: str, kinds: Sequence[str], alike: float | None) -> str:
    """Every kind of networks in a cell: means and standard deviations over its seeds."""
    rows = []
    for kind in kinds:
        found = [figures for name, figures in records.items() if name.split()[::2] == [cell, kind]]
        if found:
            apart = difference(records, cell, kind)
            shown = "" if kind == UNIFORM or apart is None else f"{apart.mean:+.2f} (p {_number(apart.p, 3)})"
            figures = [
                _spread([100 * f["top1"] for f in found]),
                _spread([f["loss"] for f in found], 3),
                shown,
            ]
            costs = [_spread([f[name] / 1e6 for f in found], 3) for name in ("flops", "params")]
            latency = _spread([f["latency"] for f in found if f.get("latency") is not None] or [np.nan])
            rows.append(
                [
                    called(kind),
                    str(len(found)),
                    *figures,
                    *costs,
                    latency,
                    _spread([f["bill"] for f in found]),
                ]
            )
    titles = ("networks", "seeds", "top-1 %", "loss", "minus uniform")
    costs_of = ("MFLOPs", "parameters, M", "latency / baseline", "bill")
    said = "" if alike is None else f"\n\nWidths found agree over seeds: mean rank correlation {alike:.2f}."
    return f"### {cell}: {CELLS[cell].about}\n\n{table((*titles, *costs_of), rows)}{said}"


def _adjusted(measured: Mapping[str, Difference]) -> list[float]:
    return holm([d.p for d in measured.values()])


def _top1(records: Records, cell: str, seed: int, kind: str) -> float:
    return float(records[key(cell, seed, kind)]["top1"])


def _each(found: Difference) -> str:
    return ", ".join(f"{seed}: {points:+.2f}" for seed, points in zip(found.seeds, found.points, strict=True))


def _number(value: float, digits: int = 2) -> str:
    return "-" if np.isnan(value) else f"{value:.{digits}f}"


def _spread(values: Sequence[float], digits: int = 2) -> str:
    """Mean, and sample standard deviation where there are several."""
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {np.std(values, ddof=1):.{digits}f}"
