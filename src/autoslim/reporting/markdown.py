"""report.md: what came out, how sure it is, what it cost, and how to use it."""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoslim.graph.cost import COUNTED
from autoslim.reporting import units
from autoslim.reporting.bill import UNIT, Bill
from autoslim.reporting.network import NetworkResult, in_order
from autoslim.reporting.statistics import Paired, interval, mcnemar

if TYPE_CHECKING:
    from autoslim.graph.cost import Cost
    from autoslim.slimming.trajectory import Trajectory


def report_markdown(
    results: Sequence[NetworkResult],
    full: Cost,
    *,
    arch: str,
    dataset: str,
    seed: int,
    test_images: int,
    resource: str = "flops",
    convention: str = "macs",
    trajectory: Trajectory | None = None,
    correct: Mapping[str, Any] | None = None,
    bill: Bill | None = None,
    groups: Sequence[tuple[str, int]] = (),
    figures: Mapping[str, str | os.PathLike[str]] | None = None,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    command: str = "",
    folder: str | os.PathLike[str] | None = None,
) -> str:
    """The text of report.md; parts that nothing is known about are left out.

    Args:
        results: the trained networks.
        full: what the full network costs.
        arch, dataset, seed: what was trained on what.
        test_images: how many images top-1 was measured on.
        resource: what the targets limit.
        convention: how FLOPs and parameters are counted, as in `ChannelGraph.cost`.
        trajectory: of the search.
        correct: label of a network ("AutoSlim 0.5") -> bool [test_images], whether each image is right.
        bill: of the stages.
        groups: (name, channels at full width) in the network's order.
        figures: title -> path of a PNG file.
        mean, std: [C] of the pixels on a scale of 0 to 1, as the networks were trained with.
        command: the command line that made all this.
        folder: of the report: figures are embedded by their path from there.
    """
    ordered = in_order(list(results))
    parts = [
        f"# {arch} on {dataset}, seed {seed}",
        _results(ordered, full, test_images, resource, convention),
        _against_uniform(ordered, full, resource, correct or {}),
        _latency(ordered),
        _figures(figures or {}, folder),
        _search(trajectory),
        _bill(bill or Bill({})),
        _channels(groups, ordered),
        _loading(ordered, mean, std),
        _command(command),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int = 1) -> str:
    """A Markdown table whose source lines up too; all but the first columns are right-aligned."""
    lines = [[cell.replace("|", "\\|") for cell in line] for line in (head, *rows)]
    wide = [max(3, *(len(line[i]) for line in lines)) for i in range(len(head))]
    left = [i < text_columns for i in range(len(head))]
    rule = ["-" * w if to_left else "-" * (w - 1) + ":" for w, to_left in zip(wide, left, strict=True)]
    padded = [
        [
            cell.ljust(w) if to_left else cell.rjust(w)
            for cell, w, to_left in zip(line, wide, left, strict=True)
        ]
        for line in lines
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in (padded[0], rule, *padded[1:]))


def _results(
    results: Sequence[NetworkResult], full: Cost, images: int, resource: str, convention: str
) -> str:
    baseline = next((r for r in results if r.network == "baseline"), None)
    rows = []
    for r in results:
        low, high = interval(r.top1, images)
        compared = baseline is not None and r is not baseline
        rows.append(
            [
                r.label,
                "-" if r.target is None else f"{r.target:g}",
                f"{100 * r.top1:.2f}",
                f"{100 * low:.2f} to {100 * high:.2f}",
                _points(r.top1 - baseline.top1) if baseline is not None and compared else "-",
                units.exact(r.flops),
                units.percent(r.share("flops", full)),
                units.exact(r.params),
                units.percent(r.share("params", full)),
                units.memory(r.memory),
                units.percent(r.share("memory", full)),
            ]
        )
    head = ["network", "target", "top-1 %", "95 % interval", "minus baseline, points"]
    head += ["FLOPs", "of full", "parameters", "of full", "memory", "of full"]
    notes = (
        f"Top-1 on {images:,} test images that neither training nor search saw, with Wilson's interval for "
        "the choice of test images. All is of one seed: what another seed would change is not in the "
        f"intervals. Target: the share of the full network's {units.RESOURCES[resource]} to keep at most. "
        f"{COUNTED[convention]} "
        "Memory: peak of live activations for one image in float32."
    )
    return f"## Results\n\n{table(head, rows)}\n\n{notes}"


def _latency(results: Sequence[NetworkResult]) -> str:
    """Predicted latency beside the measured, where latency was limited."""
    rows = [
        [r.label, f"{r.latency:.3f}", f"{r.measured_latency:.3f}", f"{r.measured_latency / r.latency:.2f}"]
        for r in results
        if r.latency and r.measured_latency
    ]
    if not rows:
        return ""
    notes = (
        "Milliseconds for one image on the device of this run. Predicted: the sum over the network's parts "
        "as the search saw them; measured: the trained network whole."
    )
    head = ["network", "predicted ms", "measured ms", "measured / predicted"]
    return f"## Latency\n\n{table(head, rows)}\n\n{notes}"


def _points(difference: float) -> str:
    """A difference of accuracies in percentage points.

    >>> _points(-0.0034), _points(0.01), _points(0)
    ('-0.34', '+1.00', '0.00')
    """
    text = f"{100 * difference:+.2f}"
    return "0.00" if float(text) == 0 else text


def _against_uniform(
    results: Sequence[NetworkResult], full: Cost, resource: str, correct: Mapping[str, Any]
) -> str:
    rows, sentences = [], []
    for slim in results:
        for even in results:
            if slim.network != "autoslim" or even.network != "uniform" or slim.target != even.target:
                continue
            paired = None
            if slim.label in correct and even.label in correct:
                paired = mcnemar(correct[slim.label], correct[even.label])
            tested = (
                [f"{paired.only_first:,}", f"{paired.only_second:,}", _p(paired.p)] if paired else ["-"] * 3
            )
            shares = [units.percent(r.share(resource, full), 2) for r in (slim, even)]
            rows.append([f"{slim.target:g}", _points(slim.top1 - even.top1), *shares, *tested])
            sentences.append(_verdict(slim, even, paired))
    if not rows:
        return ""
    name = units.RESOURCES[resource]
    head = ["target", "AutoSlim minus uniform, points", f"AutoSlim's {name}", f"uniform's {name}"]
    head += ["only AutoSlim right", "only uniform right", "p"]
    notes = (
        "Uniform: the same target with every group at the same share of its channels. p: exact two-sided "
        "McNemar test on the images that just one of the two has right; like the intervals it knows one seed."
    )
    listed = "\n".join(f"- {sentence}" for sentence in sentences)
    return f"## AutoSlim against uniform\n\n{listed}\n\n{table(head, rows)}\n\n{notes}"


def _p(p: float) -> str:
    return "<0.0001" if p < 1e-4 else f"{p:.4f}" if p < 0.01 else f"{p:.2f}"


def _verdict(slim: NetworkResult, even: NetworkResult, paired: Paired | None) -> str:
    """One sentence on who is ahead, and whether that means anything."""
    ahead = slim.top1 - even.top1
    if ahead == 0:
        return f"At {slim.target:g}: AutoSlim and uniform are equal, {100 * slim.top1:.2f} %."
    word = "better" if ahead > 0 else "worse"
    text = (
        f"At {slim.target:g}: AutoSlim is {abs(100 * ahead):.2f} points {word} than uniform "
        f"({100 * slim.top1:.2f} % against {100 * even.top1:.2f} %)"
    )
    if paired is None:
        return text + "; not tested."
    if paired.p < 0.05:
        return text + f", more than the choice of test images is likely to make (p {_relation(paired.p)})."
    return text + f", a difference that the choice of test images may well make (p {_relation(paired.p)})."


def _relation(p: float) -> str:
    text = _p(p)
    return text.replace("<", "< ") if text.startswith("<") else f"= {text}"


def _figures(figures: Mapping[str, str | os.PathLike[str]], folder: str | os.PathLike[str] | None) -> str:
    if not figures:
        return ""
    embedded = []
    for title, path in figures.items():
        relative = Path(path) if folder is None else Path(os.path.relpath(path, folder))
        embedded.append(f"![{title}]({urllib.parse.quote(relative.as_posix())})")
    return "## Figures\n\n" + "\n\n".join(embedded)


def _search(trajectory: Trajectory | None) -> str:
    if trajectory is None:
        return ""
    steps = len(trajectory.points) - 1
    last = trajectory.points[-1]
    return (
        "## The search\n\n"
        f"{steps:,} steps from the full network down to {units.percent(last.share)} of its "
        f"{units.RESOURCES[trajectory.resource]}, every candidate scored on {trajectory.images:,} held-out "
        f"training images. It computed as much as {trajectory.passes:,.1f} passes of the full network over "
        "these images. With the supernet's own weights the held-out top-1 went from "
        f"{100 * trajectory.points[0].top1:.2f} % to {100 * last.top1:.2f} %."
    )


def _bill(bill: Bill) -> str:
    if not bill.stages:
        return ""
    rows = [[stage, f"{spent:.3f}"] for stage, spent in bill.stages.items()]
    rows.append(["**all**", f"**{bill.total(list(bill.stages)):.3f}**"])
    found = [f"- {' + '.join(labels)}: {bill.total(labels):.3f}" for labels in bill.networks().values()]
    text = UNIT
    if found:
        text += " To find and train a slim network, beside 1 for the baseline:\n\n" + "\n".join(found)
    return f"## The bill\n\n{table(['stage', 'baseline trainings'], rows)}\n\n{text}"


def _channels(groups: Sequence[tuple[str, int]], results: Sequence[NetworkResult]) -> str:
    if not groups:
        return ""
    slim = [r for r in results if r.network != "baseline"]
    rows = [[name, str(size), *(str(r.channels.get(name, size)) for r in slim)] for name, size in groups]
    rows.append(["**sum**", str(sum(size for _, size in groups))])
    rows[-1] += [str(sum(r.channels.get(name, size) for name, size in groups)) for r in slim]
    head = ["group", "full", *(r.label for r in slim)]
    return f"## Channels\n\n{table(head, rows)}"


def _loading(results: Sequence[NetworkResult], mean: Sequence[float], std: Sequence[float]) -> str:
    models = [r for r in results if "model" in r.files]
    if not models:
        return ""
    first = next((r for r in models if r.network == "autoslim"), models[0])
    lines = ["import keras", "import numpy as np", ""]
    lines.append(f'model = keras.saving.load_model("{_posix(first.files["model"])}")')
    if len(mean):
        lines.append(f'mean = np.array([{_constants(mean)}], "float32")')
        lines.append(f'std = np.array([{_constants(std)}], "float32")')
        lines.append("images = (x / 255 - mean) / std  # x: uint8 [N, H, W, C]")
        lines.append("classes = model.predict(images).argmax(-1)  # the model returns logits")
    code = "\n".join(lines)
    files = [
        [r.label, *(f"`{_posix(r.files[k])}`" if k in r.files else "-" for k in ("model", "channels"))]
        for r in models
    ]
    files_table = table(["network", "model", "channels"], files, text_columns=3)
    return (
        "## Loading a network\n\n"
        f"Plain Keras models; autoslim is not needed to load them.\n\n```python\n{code}\n```\n\n{files_table}"
    )


def _posix(path: str) -> str:
    return Path(path).as_posix()


def _constants(values: Sequence[float]) -> str:
    """Numbers in as many digits as float32 needs."""
    return ", ".join(f"{float(value):.9g}" for value in values)


def _command(command: str) -> str:
    return f"## Made by\n\n```sh\n{command}\n```" if command else ""
