"""What to keep of a network, and how to look for it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, make_dataclass
from typing import Any, ClassVar

from omegaconf import ListConfig

from autoslim.errors import AutoslimError, either
from autoslim.kinds import METHODS, methods_with
from autoslim.resources import CONVENTIONS, RESOURCES
from autoslim.schema.checks import Options, gather, group, is_number, key, need

RUNTIMES = ("litert", "keras", "onnx")


BASE = "base"  # as a limit: what the network has that targets are shares of


def _limit(doc: str) -> Any:
    """A key for the largest amount of a resource."""
    return key(
        None,
        f"{doc}; base: what the full network has; null: no limit",
        holds=lambda amount: amount is None or amount == BASE or (is_number(amount) and amount > 0),
        expected="an amount above 0, base, or null",
    )


_LIMITS: Any = make_dataclass(
    "_LIMITS", [(name, Any, _limit(row.limit)) for name, row in RESOURCES.items()], bases=(Options,)
)


@dataclass
class LimitsConfig(_LIMITS):
    """Largest amounts of resources, in addition to the target: a budget is met when all are."""

    section: ClassVar[str] = "slim.limits"

    @property
    def given(self) -> dict[str, Any]:
        """The limits that are set: amounts, or `BASE`."""
        amounts = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: amount for name, amount in amounts.items() if amount is not None}


@dataclass
class SearchOptions(Options):
    """What the networks may cost, what chooses them, and what they are compared by."""

    section: ClassVar[str] = "slim"

    target: Any = key(
        0.5,
        "share of the full network's resource to keep, in (0, 1]; or a list of shares",
        expected="a share of the full network's resource to keep, in (0, 1], or a list of such shares",
    )
    resource: str = key("flops", f"what the target limits: {either(RESOURCES)}", words=tuple(RESOURCES))
    limits: LimitsConfig = group(LimitsConfig, "largest amounts in addition to the target")
    convention: str = key(
        "macs",
        "what counts as flops: macs (conv and dense), with_norm (and 4 per normalised value), all",
        words=tuple(CONVENTIONS),
    )
    allow_uncounted: bool = key(
        False, "limit flops also where those of some layers could not be counted: these count as 0"
    )
    method: str = key("greedy", f"what chooses the channels: {', '.join(METHODS)}", words=tuple(METHODS))
    score: str = key(
        "loss",
        "what networks are compared by on held-out images: loss, or the task's metric (top-1, mean IoU, ...)",
        words=("loss", "metric"),
    )
    search: str = key(
        "halving",
        "naive: every candidate whole on all batches; exact: the same path, cheaper; or halving",
        words=("naive", "exact", "halving"),
    )
    per_cost: bool = key(True, "compare the drop of the score for each share of the budgets saved")
    first: float = key(
        0.0625,
        "halving: share of the held-out batches that all candidates see",
        above=0,
        most=1,
        unit="a share",
    )
    lazy: bool = key(True, "re-score only the candidates with the smallest last known drop")
    refresh: int = key(
        8,
        "lazy: steps between two re-scorings of all candidates",
        least=1,
        expected="a number of steps, at least 1",
    )
    exchange: int = key(
        0,
        "moves for each target after the search: one group wider, another narrower",
        least=0,
        unit="a number of moves",
    )
    passes: float = key(
        100.0,
        "full-network passes over the held-out images that "
        f"{', '.join(methods_with('passes'))} may spend in all",
    )
    trust: float = key(
        0.5,
        f"{', '.join(methods_with('trust'))}: 0: a group's own drops count, 1: their mean over the groups",
        least=0,
        most=1,
        unit="a share",
    )

    def __post_init__(self) -> None:
        if isinstance(self.target, ListConfig):
            self.target = list(self.target)
        if isinstance(self.limits, Mapping):
            (self.limits,) = gather("limits", [LimitsConfig], [], self.limits)
        super().__post_init__()
        least = 1 + len(self.targets)
        need(
            least <= self.passes < math.inf or self.method not in methods_with("passes"),
            "slim.passes",
            self.passes,
            f"at least {least}, one for the full network and one for each target",
        )

    @property
    def targets(self) -> tuple[float, ...]:
        """The targets, distinct and descending.

        >>> SearchOptions(target=[0.3, 0.5, 0.5]).targets
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


@dataclass
class SlimConfig(SearchOptions):
    """What may be narrowed, what to keep, and how the search looks for it."""

    levels: int = key(
        8,
        "number of widths that a channel group may take",
        least=2,
        expected="a group needs at least 2 widths to choose from",
    )
    step: int | None = key(
        None,
        "widths are multiples of this number of channels, in place of levels; null: levels",
        least=1,
        expected="channels, at least 1, or null for levels",
    )
    min_width: float = key(
        0.25,
        "smallest width of a group, share of its full width, in (0, 1]",
        above=0,
        most=1,
        unit="a share",
    )
    divisor: int = key(4, "widths are multiples of this", least=1)
    headroom: Any = key(
        1.0,
        "how much wider than the network the supernet is, so that some groups can be: times the full width, "
        "or {pattern of layer names: times}; targets stay shares of the network itself",
        holds=lambda value: all(
            is_number(factor) and factor >= 1
            for factor in (value.values() if isinstance(value, Mapping) else [value])
        ),
        expected="a number of 1 or more, or such a number for each pattern of layer names",
    )
    freeze: list[str] = key([], "layers that keep their full width: names or patterns such as stem*")
    finalists: int = key(
        1,
        "networks for each target, from the one found to the uniform one, that are trained for a fifth of "
        "retrain.epochs; the best on held-out images is taken; 1: the one found",
        least=1,
    )
    channels: str | None = key(None, "a channels.yaml to retrain in place of a search's result; null: search")
    runtime: str = key(
        "litert", "what latency is measured in, on one thread: litert, keras or onnx", words=RUNTIMES
    )
    measure: str | None = key(
        None,
        "dotted path of a function of a Keras model that measures in place of runtime; less is better",
    )
    images: int | None = key(
        None,
        "largest number of held-out images in the search; null: all",
        least=2,
        expected="at least 2, or null for all",
    )
    batch_size: int = key(
        128,
        "held-out images per batch; each batch is normalised by its own statistics",
        least=2,
        expected="batch statistics need at least 2 images",
    )

    @property
    def wider(self) -> bool:
        """Whether the supernet is wider than the network."""
        return self.headroom != 1
