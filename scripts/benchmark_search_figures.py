"""The search benchmark's figures: names of modes, paired differences, means over seeds, bars, table, plot."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_common import Bar

from autoslim.errors import AutoslimError

MODES = ("naive", "exact", "halving")
RIVALS = {
    "uniform": None,
    "sensitivity": None,
    "random": 0.15,
    "evolution": 0.15,
    "predictor": 0.15,
}  # share of naive's arithmetic
CHEAP, STRETCH = 0.15, 0.05  # shares of naive's arithmetic
EXACT_ON_RESNET56 = 0.54
WALL_CLOCK = 1.5  # times the share of the arithmetic

# word of a mode's name -> (arguments of `search` that it sets, the argument of a value behind a colon, type)
WORDS: dict[str, tuple[dict[str, Any], str | None, Callable[[str], Any]]] = {
    "naive": ({"search": "naive"}, None, float),
    "exact": ({"search": "exact"}, None, float),
    "halving": ({"search": "halving"}, "first", float),
    "lazy": ({"lazy": True}, "refresh", int),
    "per_cost": ({"per_cost": True}, None, float),
    "top1": ({"score": "metric"}, None, float),
    "exchange": ({"exchange": 3}, "exchange", int),
}


def is_rival(name: str) -> bool:
    """Whether this is a method other than the greedy search."""
    return name.partition(":")[0] in RIVALS


def arguments(name: str) -> tuple[str, dict[str, Any]]:
    """What a name means: a method, and its keyword arguments; `passes` as a share of naive's.

    >>> arguments("halving:0.25+lazy:5+per_cost")
    ('greedy', {'lazy': True, 'per_cost': True, 'search': 'halving', 'first': 0.25, 'refresh': 5})
    >>> arguments("evolution:0.5")
    ('evolution', {'passes': 0.5})

    Raises:
        AutoslimError: for a word that means nothing, a value that it does not take, or no mode in front.
    """
    if is_rival(name):
        return _rival_arguments(name)
    found: dict[str, Any] = {"lazy": False, "per_cost": False}
    for place, part in enumerate(name.split("+")):
        word, _, value = part.partition(":")
        if word not in WORDS or (place == 0) != (word in MODES):
            raise AutoslimError(
                f"{name!r} does not name a search: expected one of {', '.join(MODES)}, then, each after +, "
                f"any of {', '.join(word for word in WORDS if word not in MODES)}; or one of "
                f"{', '.join(RIVALS)}. For example halving+lazy."
            )
        keywords, keyword, kind = WORDS[word]
        found |= keywords
        if value:
            if keyword is None:
                raise AutoslimError(f"{name!r}: {word} takes no value, and got {value!r}.")
            found[keyword] = _number(name, word, value, kind)
    return "greedy", found


def _rival_arguments(name: str) -> tuple[str, dict[str, Any]]:
    word, _, value = name.partition(":")
    share = RIVALS[word]
    if share is None:
        if value:
            raise AutoslimError(f"{name!r}: {word} takes no value, and got {value!r}.")
        return word, {}
    return word, {"passes": _number(name, word, value, float) if value else share}


def _number(name: str, word: str, value: str, kind: Callable[[str], Any]) -> Any:
    try:
        return kind(value)
    except ValueError as error:
        raise AutoslimError(f"{name!r}: expected a number behind {word}:, got {value!r}.") from error


@dataclass(frozen=True)
class Paired:
    """How one network differs from another on the same images."""

    difference: float  # mean over the images
    error: float  # its standard error: deviation of the differences / sqrt(images)


def paired(values: np.ndarray, reference: np.ndarray) -> Paired:
    """`values` less `reference`, both float [images], image by image."""
    differences = np.asarray(values, np.float64) - np.asarray(reference, np.float64)
    return Paired(float(differences.mean()), float(differences.std(ddof=1) / math.sqrt(len(differences))))


@dataclass(frozen=True)
class OverSeeds:
    """The mean of paired differences over seeds."""

    mean: float
    image_error: float  # from the images within each seed: sqrt(sum of squared errors) / seeds
    seed_error: float | None  # from seed to seed: sample deviation / sqrt(seeds); None for a single seed


def over_seeds(pairs: Sequence[Paired]) -> OverSeeds:
    """Mean over seeds, with both standard errors of it."""
    count = len(pairs)
    differences = [pair.difference for pair in pairs]
    images = math.sqrt(sum(pair.error**2 for pair in pairs)) / count
    seeds = float(np.std(differences, ddof=1) / math.sqrt(count)) if count > 1 else None
    return OverSeeds(float(np.mean(differences)), images, seeds)


def steady_seconds(marks: Sequence[tuple[float, float]], skip: int = 2) -> float | None:
    """Seconds that a search takes at the rate of its later steps, without tracing.

    Args:
        marks: (seconds since the start, arithmetic spent so far) after each step.
        skip: steps in which everything is traced.

    Returns:
        All arithmetic at the later steps' seconds a unit; None if they are too few or cost nothing.
    """
    if len(marks) < 2 * skip:
        return None
    (first, spent), (last, all_spent) = marks[skip - 1], marks[-1]
    return (last - first) / (all_spent - spent) * all_spent if all_spent > spent else None


@dataclass(frozen=True)
class Summary:
    """A way to search compared with naive, over the seeds that both were run with."""

    name: str
    seeds: int
    passes: float  # full-network passes over the held-out images, mean
    arithmetic: float  # share of naive's, mean of the seeds' shares
    kept: float  # share of the full network's FLOPs, mean
    seconds: float | None  # share of naive's wall-clock, tracing included; None: not timed in the same run
    steady: float | None  # share of naive's wall-clock without tracing
    loss: OverSeeds  # cross-entropy on fresh images, less naive's
    top1: OverSeeds  # share of fresh images that are right, less naive's


def summaries(
    records: Mapping[str, dict[str, Any]], names: Sequence[str], seeds: Sequence[int]
) -> list[Summary]:
    """One summary for each way that was run with a seed with which naive was run too."""
    found = []
    for name in names:
        both = [(records.get(key("naive", seed)), records.get(key(name, seed))) for seed in seeds]
        pairs = [(naive, record) for naive, record in both if naive and record]
        if pairs:
            found.append(_summary(name, pairs))
    return found


def key(name: str, seed: int) -> str:
    """Under which a record is kept."""
    return f"{name}, seed {seed}"


def _summary(name: str, pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> Summary:
    def share(figure: str) -> float | None:
        timed = [
            record[figure] / naive[figure]
            for naive, record in pairs
            if naive["run"] == record["run"] and naive[figure] and record[figure]
        ]
        return float(np.mean(timed)) if timed else None

    return Summary(
        name,
        len(pairs),
        float(np.mean([record["passes"] for _, record in pairs])),
        float(np.mean([record["passes"] / naive["passes"] for naive, record in pairs])),
        float(np.mean([record["share"] for _, record in pairs])),
        share("seconds"),
        share("steady_seconds"),
        over_seeds([Paired(*record["loss"]) for _, record in pairs]),
        over_seeds([Paired(*record["top1"]) for _, record in pairs]),
    )


def bars(found: Sequence[Summary], arch: str, target: float) -> list[Bar]:
    """The benchmark's bars; a network is not worse than naive's if it loses at most one standard error.

    That error is the one from the images, the stricter where few seeds happen to agree.
    """
    by_name = {summary.name: summary for summary in found}
    judged = []
    if arch == "resnet56" and target == 0.5:
        exact = by_name.get("exact")
        judged.append(
            Bar("exact: arithmetic / naive", exact.arithmetic if exact else None, EXACT_ON_RESNET56)
        )
    for limit in (CHEAP, STRETCH):
        cheap = [s for s in found if s.arithmetic <= limit and not is_rival(s.name)]
        best = min(cheap, key=lost, default=None)
        which = f"arithmetic at most {limit:g}" + (f", best of {len(cheap)}: {best.name}" if best else "")
        judged.append(Bar(f"{which}: fresh loss lost / its error", lost(best) if best else None, 1.0))
    judged += [
        Bar(f"{s.name}: wall-clock / arithmetic", s.seconds / s.arithmetic, WALL_CLOCK)
        for s in found
        if s.seconds is not None and s.name != "naive" and not is_rival(s.name)
    ]
    return judged


def lost(summary: Summary) -> float:
    """Cross-entropy lost against naive, in standard errors from the images; 0 for the very same networks."""
    loss = summary.loss
    return loss.mean / loss.image_error if loss.image_error else 0.0


TITLES = (
    "search",
    "seeds",
    "passes",
    "arithmetic / naive",
    "time / naive",
    "without tracing",
    "FLOPs kept",
    "fresh loss - naive's (1e-3)",
    "seeds' error",
    "fresh top-1 - naive's (points)",
    "seeds' error",
)


def row(summary: Summary) -> tuple[str, ...]:
    """A summary as a line of the table."""

    def number(value: float | None, places: int = 3) -> str:
        return "-" if value is None else f"{value:.{places}f}"

    def difference(value: OverSeeds, scale: float) -> tuple[str, str]:
        error = None if value.seed_error is None else scale * value.seed_error
        return f"{scale * value.mean:+.2f} ± {scale * value.image_error:.2f}", number(error, 2)

    return (
        summary.name,
        str(summary.seeds),
        number(summary.passes, 1),
        number(summary.arithmetic),
        number(summary.seconds),
        number(summary.steady),
        number(summary.kept),
        *difference(summary.loss, 1e3),
        *difference(summary.top1, 100),
    )


def plot(found: Sequence[Summary], path: Path, title: str) -> None:
    """Write the Pareto picture: fresh cross-entropy less naive's against the share of naive's arithmetic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.add_subplot()
    axes.axhline(0, color="0.6", linewidth=1)
    for limit in (CHEAP, STRETCH):
        axes.axvline(limit, color="0.8", linewidth=1, linestyle="--")
    for summary in found:
        rival = is_rival(summary.name)
        axes.errorbar(
            summary.arithmetic,
            1e3 * summary.loss.mean,
            yerr=1e3 * summary.loss.image_error,
            fmt="s" if rival else "o",
            color="tab:orange" if rival else "tab:blue",
            capsize=3,
        )
        axes.annotate(
            summary.name,
            (summary.arithmetic, 1e3 * summary.loss.mean),
            xytext=(5, 4),
            textcoords="offset points",
            fontsize=8,
            rotation=40,  # many stand side by side near zero
        )
    axes.set_xscale("log")
    axes.set_xlabel("arithmetic of the search / naive's")
    axes.set_ylabel("cross-entropy on fresh images less naive's (1e-3)")
    axes.set_title(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
