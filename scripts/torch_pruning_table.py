"""The page of the comparison with Torch-Pruning: a table for each cell and budget."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch_pruning_cells import CELLS, LONGER, PRUNERS, SCOPES, TORCH

from autoslim.errors import AutoslimError
from autoslim.reporting.markdown_table import table

Records = Mapping[str, Mapping[str, Any]]  # "CELL TARGET SEED NETWORK" -> figures of a network
Found = dict[int, Mapping[str, Any]]  # seed -> figures

FULL = "baseline"
LABELS = {
    FULL: "the full network",
    "autoslim": "autoslim, greedy",
    "predictor": "autoslim, predictor",
    "taylor": "autoslim, taylor",
    "magnitude": "autoslim, magnitude",
    "uniform": "autoslim, uniform",
    **{f"{name}{LONGER}": f"autoslim, {name}, longer" for name in ("taylor", "magnitude", "uniform")},
    **{f"tp-{pruner}-{scope}": f"Torch-Pruning, {pruner}, {scope}" for pruner in PRUNERS for scope in SCOPES},
}
"""Network -> its row."""

INTRODUCTION = """\
# Beside Torch-Pruning

[Torch-Pruning](https://github.com/VainF/Torch-Pruning) (Fang et al., CVPR 2023) prunes PyTorch networks by
importance. Here both tools get the same trained network, the same budget and the same fine-tuning.

`scripts/benchmark_torch_pruning.py` wrote this page. autoslim trains the full network in Keras; its weights
go to PyTorch, where it must give the same logits (within 1e-4) and have the same FLOPs and parameters. What
is made of it is fine-tuned on both sides for the same epochs, with the same batch size, rates, weight decay,
shifts and flips, and tested on the same images after the last epoch, batch-norm statistics recomputed.

- **Torch-Pruning**: `magnitude` is GroupNormPruner, `bn-scale` BNScalePruner after as many epochs with its
  penalty on the scales as the fine-tuning takes, `taylor` BasePruner with GroupTaylorImportance. `global`
  ranks all channels together, `local` removes the same ratio everywhere. All go down in 400 steps, as in its
  own benchmark; other options are its defaults.
- **autoslim**: `greedy` and `predictor` make a supernet of the network, search in it, and fine-tune the
  network's own channels at the widths found (`retrain.init=baseline`); `taylor` and `magnitude` prune by
  importance, solving for the widths; `uniform` is one ratio everywhere, channels chosen by magnitude;
  `longer` fine-tunes for twice the epochs, as many as `bn-scale` takes in all. All begin
  with the same full network. In the cells `a` and `c` the figures are the evidence suite's, whose
  supernets begin with fresh weights; there too the small networks begin with the baseline's.

On both sides a channel group keeps at least about a twelfth of its channels (`max_pruning_ratio`,
`slim.min_width`). Without this, `taylor, global` left 2 of 64 units in the hidden layer of `vgg`, and ended
at 49.4 % (0.5 of the FLOPs) and 43.7 % (0.25) with seed 0.

Epochs are passes over the training images after the full network is trained; those of a supernet, on four
fifths of the images and with four widths a step, count once each. Seconds were taken on a machine with other
work to do, and are no measure of speed. "Ahead" is the mean top-1 less that of Torch-Pruning's best row, in
points, over the seeds that both have; that row is picked by the same test images, which flatters it.
"""


def key(cell: str, target: float, seed: int, network: str) -> str:
    """Under which the figures of a network stand.

    >>> key("vgg", 0.25, 1, "tp-taylor-global"), key("a", 1.0, 0, "baseline")
    ('vgg 0.25 1 tp-taylor-global', 'a 1 0 baseline')
    """
    return f"{cell} {target:g} {seed} {network}"


def of_evidence(path: Path) -> dict[str, Mapping[str, Any]]:
    """The figures of the evidence suite's file that are compared with, by the keys of this page.

    Raises:
        AutoslimError: if it is another kind of file.
    """
    if not path.exists():
        return {}
    try:
        records = json.loads(path.read_text())["records"]
    except (ValueError, KeyError, TypeError) as error:
        raise AutoslimError(
            f"{path} holds no figures of the evidence suite ({error!r}). Name another file with --evidence."
        ) from error
    found = {}
    for name, figures in records.items():
        cell, seed, kind = name.split()
        if cell in CELLS and kind in LABELS:
            target = 1.0 if kind == FULL else CELLS[cell].targets[0]
            found[key(cell, target, int(seed), kind)] = figures
    return found


def page(records: Records) -> str:
    """All that is measured, in Markdown."""
    parts = [INTRODUCTION.rstrip(), _progress(records)]
    for cell, chosen in CELLS.items():
        if not any(name.split()[0] == cell and name.split()[3] in TORCH for name in records):
            continue
        parts += [
            f"## {cell}: {chosen.about}",
            "\n\n".join(_budget(records, cell, t) for t in chosen.targets),
        ]
    hardware = sorted({f["environment"] for f in records.values() if "environment" in f})
    torch = sorted({f["torch"] for f in records.values() if "torch" in f})
    if torch:
        parts.append(f"Measured on: {'; '.join(hardware)}, PyTorch {'; '.join(torch)}.")
    return "\n\n".join(parts) + "\n"


def _progress(records: Records) -> str:
    """For how many seeds there are networks of Torch-Pruning's, in a sentence."""
    seeds: dict[str, set[str]] = {cell: set() for cell in CELLS}
    for cell, _, seed, network in (name.split() for name in records):
        if network in TORCH:
            seeds[cell].add(seed)
    counts = ", ".join(f"`{cell}` {len(found)}" for cell, found in seeds.items())
    return (
        f"Seeds measured so far: {counts}. With few seeds, small differences mean little: chance in 10,000\n"
        "test images alone moves a top-1 near 63 % by 0.5 points (standard error)."
    )


def networks(records: Records, cell: str, target: float) -> dict[str, Found]:
    """What is measured under a budget, in the order of tables: network -> its seeds, ascending."""
    found: dict[str, Found] = {}
    for network in LABELS:
        share = 1.0 if network == FULL else target
        keys = {name: name.split() for name in records}
        mine = {
            int(seed): records[name]
            for name, (c, t, seed, kind) in keys.items()
            if (c, t, kind) == (cell, f"{share:g}", network) and "failed" not in records[name]
        }
        if mine:
            found[network] = dict(sorted(mine.items()))
    return found


def ahead(one: Found, other: Found) -> float | None:
    """Mean top-1 of a network less another's over the seeds that both have, in points; None: none."""
    both = one.keys() & other.keys()
    return float(np.mean([100 * (one[s]["top1"] - other[s]["top1"]) for s in both])) if both else None


def _budget(records: Records, cell: str, target: float) -> str:
    """The table of a cell under one budget."""
    chosen, found = CELLS[cell], networks(records, cell, target)
    pruned = {name: seeds for name, seeds in found.items() if name in TORCH}
    best = max(pruned, key=lambda name: _mean(pruned[name], "top1"), default=None)
    full = found.get(FULL, {})
    rows = []
    for network, seeds in found.items():
        points = None if best is None or network == FULL else ahead(seeds, pruned[best])
        rows.append(
            [
                LABELS[network],
                str(len(seeds)),
                _spread([100 * f["top1"] for f in seeds.values()]),
                ", ".join(f"{seed}: {100 * f['top1']:.2f}" for seed, f in seeds.items()),
                "" if points is None else f"{points:+.2f}",
                f"{_mean(seeds, 'loss'):.3f}",
                *(_share(seeds, full, resource) for resource in ("flops", "params")),
                _whole(seeds, "epochs"),
                _whole(seeds, "seconds"),
            ]
        )
    titles = ("network", "seeds", "top-1 %", "seed: top-1", "ahead", "loss", "FLOPs", "parameters")
    what = "FLOPs" if chosen.resource == "flops" else "parameters"
    parts = [f"**{target:g} of the {what}**", table((*titles, "epochs", "seconds"), rows)]
    return "\n\n".join([*parts, *_failed(records, cell, target)])


def _failed(records: Records, cell: str, target: float) -> list[str]:
    """A sentence for each network that could not be made."""
    keys = {name: name.split() for name, figures in records.items() if "failed" in figures}
    return [
        f"{LABELS[network]}, seed {seed}: {records[name]['failed']}."
        for name, (c, t, seed, network) in keys.items()
        if (c, t) == (cell, f"{target:g}")
    ]


def _mean(seeds: Found, name: str) -> float:
    return float(np.mean([figures[name] for figures in seeds.values()]))


def _share(seeds: Found, full: Found, resource: str) -> str:
    """Mean share of the full network's; where that is not measured, the mean itself, in millions."""
    if not full:
        return f"{_mean(seeds, resource) / 1e6:.3f} M"
    return f"{_mean(seeds, resource) / _mean(full, resource):.4f}"


def _whole(seeds: Found, name: str) -> str:
    """The mean of a figure that not all records have."""
    values = [figures[name] for figures in seeds.values() if name in figures]
    return f"{np.mean(values):.0f}" if values else "-"


def _spread(values: Sequence[float]) -> str:
    """Mean, and sample standard deviation where there are several."""
    mean = f"{np.mean(values):.2f}"
    return mean if len(values) < 2 else f"{mean} ± {np.std(values, ddof=1):.2f}"
