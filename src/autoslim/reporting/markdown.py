"""report.md: what came out, how sure it is, what it cost, and how to use it."""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autoslim.kinds import KINDS
from autoslim.metrics import Metric
from autoslim.reporting import units
from autoslim.reporting.bill import UNIT, Bill
from autoslim.reporting.headline import headlines
from autoslim.reporting.latency import LatencyRow, latency_section
from autoslim.reporting.markdown_table import table
from autoslim.reporting.network import NetworkResult, in_order, measure_of, reference
from autoslim.reporting.side_by_side import side_by_side
from autoslim.reporting.trust import Judged, trust
from autoslim.resources import COUNTED, RESOURCES, Cost, notes

if TYPE_CHECKING:
    from autoslim.slimming.trajectory import Trajectory

CLEAR = 2.0  # standard errors: a lead on all other candidates that is hardly chance


@dataclass(frozen=True)
class Facts:
    """What a report is about; parts that nothing is known about are left out of it."""

    results: Sequence[NetworkResult]  # the trained networks
    full: Cost  # of the full network
    arch: str
    dataset: str
    seed: int
    test_images: int  # on which the metric was measured
    resource: str = "flops"  # what the targets limit
    convention: str = "macs"  # how FLOPs and parameters are counted, as in `ChannelGraph.cost`
    training: str = ""  # sentences on how the networks were trained, where that differs
    trajectory: Trajectory | None = None  # of the search
    kind: str = "autoslim"  # of the networks that it found, a key of `kinds.KINDS`
    passes: Mapping[str, float] = field(default_factory=dict)  # kind -> what its search spent, in full passes
    judged: tuple[Sequence[Judged], int] = ((), 0)  # retrained from the supernet; its held-out images
    latency: tuple[Sequence[LatencyRow], Mapping[str, Any]] = ((), {})  # as `latency_section` takes them
    values: Mapping[str, Any] = field(default_factory=dict)  # label -> metric of each test image
    bill: Bill = field(default_factory=lambda: Bill({}))  # of the stages
    warnings: Sequence[str] = ()  # of the stages
    groups: Sequence[tuple[str, int]] = ()  # (name, channels at full width) in the network's order
    not_known: Sequence[str] = ()  # sentences on layers that stay whole, or that costs leave out
    figures: Mapping[str, str | os.PathLike[str]] = field(default_factory=dict)  # title -> path of a PNG file
    program: Callable[[str], str] | None = None  # expression for a network's path -> program that runs it
    command: str = ""  # the command line that made all this
    folder: str | os.PathLike[str] | None = None  # of the report, from which figures are embedded


def report_markdown(facts: Facts) -> str:
    """The text of report.md."""
    f, ordered = facts, in_order(list(facts.results))
    unknown = ["## Layers that are not known", "", *(f"- {line}" for line in f.not_known)]
    parts = [
        "  \n".join(headlines(ordered, f.full, f.test_images, f.resource, f.kind)),
        _warnings(f.warnings),
        f"# {f.arch} on {f.dataset}, seed {f.seed}",
        _results(f, ordered),
        side_by_side(ordered, f.full, f.resource, f.values, f.kind, f.passes),
        latency_section(*f.latency),
        _figures(f.figures, f.folder),
        _search(f.trajectory, f.kind, measure_of(ordered)),
        trust(f.judged[0], f.resource, f.judged[1], measure_of(ordered)),
        _bill(f.bill),
        _channels(f.groups, ordered),
        "\n".join(unknown if f.not_known else []),
        _loading(ordered, f.program, f.kind),
        _command(f.command),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _warnings(warnings: Sequence[str]) -> str:
    return "\n>\n".join(f"> **Warning**, {text}" for text in warnings)


def _results(facts: Facts, results: Sequence[NetworkResult]) -> str:
    full, images, resource = facts.full, facts.test_images, facts.resource
    other, measure = reference(results), measure_of(results)
    rows = []
    for r in results:
        low, high = r.interval(images)
        rows.append(
            [
                r.label,
                "-" if r.target is None else f"{r.target:g}",
                measure.number(r.metric),
                f"{measure.number(low)} to {measure.number(high)}",
                "-" if other is None or r is other else measure.difference(r.metric - other.metric),
                *(text for name in COUNTED for text in _amount_and_share(r, name, full)),
            ]
        )
    head = [
        "network",
        "target",
        measure.head,
        "95 % interval",
        measure.difference_head(f"minus {other.label if other else 'baseline'}"),
    ]
    head += [text for name in COUNTED for text in (RESOURCES[name].label, "of full")]
    about = (
        f"{measure.label[0].upper()}{measure.label[1:]} on {images:,} test images that neither training nor "
        f"search saw, with {_interval_of(measure)} for "
        "the choice of test images. All is of one seed: what another seed would change is not in the "
        f"intervals. Target: the share of the full network's {RESOURCES[resource].label} to keep at most. "
        f"{notes(facts.convention)}"
    )
    training = f"\n\n{facts.training}" if facts.training else ""
    return f"## Results\n\n{table(head, rows)}\n\n{about}{training}"


def _amount_and_share(result: NetworkResult, resource: str, full: Cost) -> tuple[str, str]:
    amount = result.cost.get(resource)
    share = "-" if amount is None or not full.get(resource) else units.percent(result.share(resource, full))
    return units.exact_amount(amount, resource), share


def _interval_of(measure: Metric) -> str:
    return "Wilson's interval" if measure.binary else "1.96 standard errors to either side"


def _figures(figures: Mapping[str, str | os.PathLike[str]], folder: str | os.PathLike[str] | None) -> str:
    if not figures:
        return ""
    embedded = []
    for title, path in figures.items():
        relative = Path(path) if folder is None else Path(os.path.relpath(path, folder))
        embedded.append(f"![{title}]({urllib.parse.quote(relative.as_posix())})")
    return "## Figures\n\n" + "\n\n".join(embedded)


def _search(trajectory: Trajectory | None, kind: str, measure: Metric) -> str:
    if trajectory is None:
        return ""
    steps = len(trajectory.points) - 1
    last = trajectory.points[-1]
    return (
        "## The search\n\n"
        f"{KINDS[kind].label}: {steps:,} steps from the full network down to {units.percent(last.share)} of "
        f"its {RESOURCES[trajectory.resource].label}, candidates scored on "
        f"{'' if trajectory.on_all_images else 'at most '}{trajectory.images:,} "
        f"held-out training images. It computed as much as {trajectory.passes:,.1f} passes of the full "
        f"network over these images. With the supernet's own weights the held-out {measure.label} went from "
        f"{measure.text(trajectory.points[0].metric)} to {measure.text(last.metric)}"
        f"{f' (on {last.images:,} of the images)' if 0 < last.images < trajectory.images else ''}."
        f"{_sure(trajectory)}{_given_back(trajectory)}{_exchanged(trajectory)}"
    )


def _sure(trajectory: Trajectory) -> str:
    """How many steps the held-out images decided."""
    leads = trajectory.leads
    if not leads:
        return ""
    clear = sum(lead >= CLEAR for lead in leads)
    return (
        f" In {clear:,} of {len(leads):,} steps the group that was narrowed was ahead of every other one by "
        f"{CLEAR:g} standard errors of their difference or more (median lead: {np.median(leads):.1f}); in "
        "the others the images that were scored do not tell the best candidates apart. A larger slim.first "
        "or dataset.holdout scores more images in a step."
    )


def _given_back(trajectory: Trajectory) -> str:
    """How many levels of what the way down left of each target's budget were given back."""
    kept = ", ".join(f"{len(w.points)} for {w.target:g}" for w in trajectory.widenings if w.points)
    return f" Levels given back, as the budget had room for them: {kept}." if kept else ""


def _exchanged(trajectory: Trajectory) -> str:
    """How many exchanges were kept for each target."""
    kept = ", ".join(f"{len(e.points)} for {e.target:g}" for e in trajectory.exchanges)
    return f" Exchanges that were kept, one group wider and another narrower: {kept}." if kept else ""


def _bill(bill: Bill) -> str:
    if not bill.stages:
        return ""
    rows = [[stage, f"{spent:.3f}", bill.time([stage])] for stage, spent in bill.stages.items()]
    stages = list(bill.stages)
    rows.append(["**all**", f"**{bill.total(stages):.3f}**", bill.time(stages)])
    found = [
        f"- {' + '.join(labels)}: {bill.total(labels):.3f} (time {bill.time(labels)})"
        for labels in bill.networks().values()
    ]
    text = f"{UNIT} {bill.about_time()}"
    if found:
        text += " To find and train a slim network; a baseline costs 1:\n\n" + "\n".join(found)
    return f"## The bill\n\n{table(['stage', 'baseline trainings', 'time'], rows)}\n\n{text}"


def _channels(groups: Sequence[tuple[str, int]], results: Sequence[NetworkResult]) -> str:
    if not groups:
        return ""
    slim = [r for r in results if not KINDS[r.kind].full]
    rows = [[name, str(size), *(str(r.channels.get(name, size)) for r in slim)] for name, size in groups]
    rows.append(["**sum**", str(sum(size for _, size in groups))])
    rows[-1] += [str(sum(r.channels.get(name, size) for name, size in groups)) for r in slim]
    head = ["group", "full", *(r.label for r in slim)]
    return f"## Channels\n\n{table(head, rows)}"


def _loading(results: Sequence[NetworkResult], program: Callable[[str], str] | None, kind: str) -> str:
    models = [r for r in results if "model" in r.files]
    if not models:
        return ""
    first = next((r for r in models if r.kind == kind), models[0])
    path = _posix(first.files["model"])
    code = (
        f'import keras\n\nmodel = keras.saving.load_model("{path}")\n'
        if program is None
        else program(repr(path))
    )
    files = [
        [r.label, *(f"`{_posix(r.files[k])}`" if k in r.files else "-" for k in ("model", "channels"))]
        for r in models
    ]
    files_table = table(["network", "model", "channels"], files, text_columns=3)
    text = "Plain Keras models; autoslim is not needed to load them."
    if program is not None:
        text += (
            " `classify` does all from an image file to its class, and gives the top-1 reported above. It "
            "needs Pillow."
        )
    return f"## Loading a network\n\n{text}\n\n```python\n{code}```\n\n{files_table}"


def _posix(path: str) -> str:
    return Path(path).as_posix()


def _command(command: str) -> str:
    return f"## Made by\n\n```sh\n{command}\n```" if command else ""
