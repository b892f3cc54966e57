"""What to keep of a network, and how to look for it."""

import math
from dataclasses import dataclass, fields
from typing import Any

from omegaconf import ListConfig

from autoslim.errors import AutoslimError
from autoslim.schema.checks import group, key, need, one_of

RESOURCES = ("flops", "params", "memory", "latency")
METHODS = ("greedy", "uniform", "random", "evolution", "sensitivity")
SEARCHES = ("naive", "exact", "halving", "race")


@dataclass
class LimitsConfig:
    """Largest amounts of resources, beside the target: a budget is met when all are."""

    flops: float | None = key(None, "largest number of multiply-accumulates an image; null: no limit")
    params: float | None = key(None, "largest number of parameters; null: no limit")
    memory: float | None = key(None, "largest peak of live activations, bytes; null: no limit")
    latency: float | None = key(None, "longest predicted latency of an image, milliseconds; null: no limit")

    def __post_init__(self) -> None:
        for name, amount in self.given.items():
            need(0 < amount < math.inf, f"slim.limits.{name}", amount, "an amount above 0, or null")

    @property
    def given(self) -> dict[str, float]:
        """The limits that are set."""
        amounts = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: amount for name, amount in amounts.items() if amount is not None}


@dataclass
class SlimConfig:
    """What to keep, what may be narrowed, and how the search looks for it."""

    target: Any = key(0.5, "share of the full network's resource to keep, in (0, 1]; or a list of shares")
    resource: str = key("flops", "what the target limits: flops, params, memory or latency")
    limits: LimitsConfig = group(LimitsConfig, "largest amounts beside the target")
    convention: str = key(
        "macs", "what counts as flops: macs (conv and dense), with_norm (and 4 per normalised value), all"
    )
    levels: int = key(8, "number of widths that a channel group may take")
    step: int | None = key(None, "widths are multiples of so many channels, in place of levels; null: levels")
    min_width: float = key(0.25, "smallest width of a group, share of its full width, in (0, 1]")
    divisor: int = key(4, "widths are multiples of this")
    freeze: list[str] = key([], "layers that keep their full width: names or patterns such as stem*")
    channels: str | None = key(None, "a channels.yaml to retrain in place of a search's result; null: search")
    method: str = key("greedy", f"what chooses the channels: {', '.join(METHODS)}")
    passes: float = key(
        100.0, "full-network passes over the held-out images that random and evolution may spend in all"
    )
    search: str = key("halving", "search mode: naive, exact (the same path, cheaper), halving or race")
    score: str = key("loss", "what candidates are compared by on held-out images: loss or top1")
    per_cost: bool = key(True, "compare the drop of the score for each share of the resource saved")
    first: float = key(0.0625, "halving, race, shortlist: share of the held-out batches seen first")
    tolerance: float = key(0.01, "race: largest regret of a step, in the score's units")
    confidence: float = key(0.95, "race: probability with which a step's regret is within the tolerance")
    lazy: bool = key(True, "refresh only candidates of the least last known drop, until one stays the least")
    refresh: int = key(8, "lazy: refresh all candidates every so many steps")
    shortlist: float | None = key(
        None, "share of the candidates that go on, by first-order effect, in (0, 1]; null: all"
    )
    exchange: int = key(0, "moves for each target after the search: one group wider, another narrower")
    images: int | None = key(None, "use at most so many held-out images in the search; null: all")
    batch_size: int = key(128, "held-out images per batch; each batch is normalised by its own statistics")

    def __post_init__(self) -> None:
        if isinstance(self.target, ListConfig):
            self.target = list(self.target)
        _ = self.targets
        one_of("slim.resource", self.resource, RESOURCES)
        one_of("slim.convention", self.convention, ("macs", "with_norm", "all"))
        one_of("slim.method", self.method, METHODS)
        least = 1 + len(self.targets)
        need(
            least <= self.passes < math.inf or self.method not in ("random", "evolution"),
            "slim.passes",
            self.passes,
            f"at least {least}, one for the full network and one for each target",
        )
        one_of("slim.search", self.search, SEARCHES)
        one_of("slim.score", self.score, ("loss", "top1"))
        self._check_search()
        need(self.levels >= 2, "slim.levels", self.levels, "a group needs at least 2 widths to choose from")
        need(
            self.step is None or self.step >= 1,
            "slim.step",
            self.step,
            "channels, at least 1, or null for levels",
        )
        need(0 < self.min_width <= 1, "slim.min_width", self.min_width, "a share in (0, 1]")
        need(self.divisor >= 1, "slim.divisor", self.divisor, "a whole number of 1 or more")
        need(
            self.images is None or self.images >= 2, "slim.images", self.images, "at least 2, or null for all"
        )
        need(
            self.batch_size >= 2,
            "slim.batch_size",
            self.batch_size,
            "batch statistics need at least 2 images",
        )

    def _check_search(self) -> None:
        need(0 < self.first <= 1, "slim.first", self.first, "a share in (0, 1]")
        need(self.tolerance >= 0, "slim.tolerance", self.tolerance, "a difference of scores, 0 or more")
        need(0 < self.confidence < 1, "slim.confidence", self.confidence, "a probability in (0, 1)")
        need(self.refresh >= 1, "slim.refresh", self.refresh, "a number of steps, at least 1")
        need(
            self.shortlist is None or 0 < self.shortlist <= 1,
            "slim.shortlist",
            self.shortlist,
            "a share in (0, 1], or null for all",
        )
        need(self.exchange >= 0, "slim.exchange", self.exchange, "a number of moves, 0 or more")

    @property
    def search_settings(self) -> dict[str, Any]:
        """What decides how the search looks, by the names that `autoslim.search` has for it."""
        names = (
            "score",
            "per_cost",
            "lazy",
            "refresh",
            "shortlist",
            "first",
            "tolerance",
            "confidence",
            "exchange",
        )
        return {"mode": self.search} | {name: getattr(self, name) for name in names}

    @property
    def targets(self) -> tuple[float, ...]:
        """The targets, distinct and descending.

        >>> SlimConfig(target=[0.3, 0.5, 0.5]).targets
        (0.5, 0.3)
        """
        given = list(self.target) if isinstance(self.target, list | tuple) else [self.target]
        expected = f"it is the share of the full network's {self.resource} to keep"
        for value in given:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise AutoslimError(
                    f"slim.target={self.target!r} is not a number or a list of numbers: {expected}. "
                    "For example slim.target=0.5 or 'slim.target=[0.7,0.5,0.3]'."
                )
            if not 0 < value <= 1:
                raise AutoslimError(f"slim.target={value} is outside (0, 1]: {expected}.")
        if not given:
            raise AutoslimError(f"slim.target=[] names no target: {expected}. For example slim.target=0.5.")
        return tuple(sorted({float(value) for value in given}, reverse=True))
