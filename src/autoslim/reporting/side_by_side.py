"""The report's section on methods: the networks of one method next to those of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from autoslim.kinds import KINDS
from autoslim.reporting import units
from autoslim.reporting.markdown_table import table
from autoslim.reporting.network import NetworkResult, measure_of
from autoslim.reporting.statistics import Paired, mcnemar, paired
from autoslim.resources import RESOURCES, Cost

MCNEMAR = "exact two-sided McNemar test on the images that just one of the two answers correctly"
PAIRED = "two-sided paired t-test over the images"
UNIFORM = "Uniform: the same target with every group at the same share of its channels. "


def side_by_side(
    results: Sequence[NetworkResult],
    full: Cost,
    resource: str,
    values: Mapping[str, Any],
    kind: str = "autoslim",
    passes: Mapping[str, float] | None = None,
) -> str:
    """A section that shows one method's networks next to the others' of the same targets; "": there are none.

    Args:
        results: the trained networks, in order.
        full: what the full network costs.
        resource: what the targets limit.
        values: label of a network -> its metric on each test image, [test images].
        kind: of the networks that the others are compared with, a key of `kinds.KINDS`.
        passes: kind -> what its search spent, in full-network passes over the held-out images.
    """
    rows, sentences, measure = [], [], measure_of(results)
    pairs = [(ours, other) for ours in results for other in results if _compared(ours, other, kind)]
    for ours, other in pairs:
        found = None
        if ours.label in values and other.label in values:
            test = mcnemar if measure.binary else partial(paired, higher=measure.higher)
            found = test(values[ours.label], values[other.label])
        tested = [f"{found.only_first:,}", f"{found.only_second:,}", _p(found.p)] if found else ["-"] * 3
        shares = [units.percent(r.share(resource, full), 2) for r in (ours, other)]
        difference = measure.difference(ours.metric - other.metric)
        rows.append([f"{ours.target:g}", KINDS[other.kind].label, difference, *shares, *tested])
        sentences.append(_verdict(ours, other, found))
    if not rows:
        return ""
    name, cost = KINDS[kind].label, RESOURCES[resource].label
    head = [
        "target",
        "other",
        measure.difference_head(f"{name} minus other"),
        f"{name}'s {cost}",
        f"other's {cost}",
    ]
    head += (
        [f"only {name} correct", "only other correct", "p"]
        if measure.binary
        else [f"{name} better", "other better", "p"]
    )
    kinds = list(dict.fromkeys(other.kind for _, other in pairs))
    notes = (UNIFORM if "uniform" in kinds else "") + (
        f"p: {MCNEMAR if measure.binary else PAIRED}; like the intervals it knows one seed."
    )
    if len(rows) > 1:
        notes += f" Each of the {len(rows)} tests stands alone: nothing corrects for their number."
    notes += _spent(passes or {}, [kind, *kinds])
    listed = "\n".join(f"- {sentence}" for sentence in sentences)
    title = (
        f"{name[0].upper()}{name[1:]} against {KINDS[kinds[0]].label if len(kinds) == 1 else 'other methods'}"
    )
    return f"## {title}\n\n{listed}\n\n{table(head, rows, 2)}\n\n{notes}"


def _compared(ours: NetworkResult, other: NetworkResult, kind: str) -> bool:
    apart = other.kind != kind and not KINDS[other.kind].full
    return ours.kind == kind and apart and ours.target == other.target


def _spent(passes: Mapping[str, float], kinds: Sequence[str]) -> str:
    """What each method's search spent."""
    known = [f"{KINDS[kind].label} {passes[kind]:,.1f}" for kind in kinds if kind in passes]
    if not known:
        return ""
    return f" Spent on searching, in full-network passes over the held-out images: {', '.join(known)}."


def _p(p: float) -> str:
    return "<0.0001" if p < 1e-4 else f"{p:.4f}" if p < 0.01 else f"{p:.2f}"


def _verdict(ours: NetworkResult, other: NetworkResult, paired: Paired | None) -> str:
    """One sentence on who is ahead, and whether that means anything."""
    name, rival, ahead = KINDS[ours.kind].label, KINDS[other.kind].label, ours.gain(other)
    if ahead == 0:
        return f"At {ours.target:g}: {name} and {rival} are equal, {ours.reached}."
    word = "better" if ahead > 0 else "worse"
    text = (
        f"At {ours.target:g}: {name} is {ours.measure.size(ahead)} {word} than {rival} "
        f"({ours.reached} against {other.reached})"
    )
    if paired is None:
        return text + "; not tested."
    if paired.p < 0.05:
        return text + f", more than the choice of test images is likely to make (p {_relation(paired.p)})."
    return text + f", a difference that the choice of test images may well make (p {_relation(paired.p)})."


def _relation(p: float) -> str:
    text = _p(p)
    return text.replace("<", "< ") if text.startswith("<") else f"= {text}"
