"""What networks cost: one row for each resource. Imports nothing heavy; counting functions are imported late.

A resource is added by its row and its counting function: it is then a key of `slim.limits`, a value of
`slim.resource`, and stands in tables, trajectories, results and reports.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from autoslim.errors import AutoslimError, either


@dataclass(frozen=True)
class Resource:
    """A cost of a network that can be limited; FLOPs, memory and latency are those of one image."""

    name: str  # in options and files
    label: str  # in sentences and tables
    head: str  # over narrow columns
    unit: str  # of amounts
    axis: str  # at the axis of a figure
    limit: str  # what `slim.limits.<name>` is, in its line of documentation
    count: str | None  # path of (graph, widths int64 [..., G], convention) -> int64 [...]; None: measured
    peak: bool = False  # whether `count` gives [..., M], of which the largest is the cost
    form: str = "decimal"  # of numbers: "decimal" (20.4 M), "binary" (128 KiB) or "plain" (1.41)
    note: str = ""  # a sentence under tables on what is counted

    @property
    def measured(self) -> bool:
        """Whether it is measured, not counted."""
        return self.count is None


RESOURCES = {
    row.name: row
    for row in (
        Resource(
            name="flops",
            label="FLOPs",
            head="FLOPs",
            unit="multiply-accumulates",
            axis="FLOPs (multiply-accumulates an image)",
            limit="largest number of multiply-accumulates an image",
            count="autoslim.graph.cost:flops",
        ),
        Resource(
            name="params",
            label="parameters",
            head="params",
            unit="weights",
            axis="parameters",
            limit="largest number of parameters",
            count="autoslim.graph.cost:params",
        ),
        Resource(
            name="memory",
            label="memory",
            head="memory",
            unit="bytes",
            axis="memory (peak of live activations an image)",
            limit="largest peak of live activations, bytes",
            count="autoslim.graph.cost:live_memory",
            peak=True,
            form="binary",
            note="Memory: peak of live activations for one image in float32.",
        ),
        Resource(
            name="latency",
            label="latency",
            head="latency",
            unit="ms",
            axis="latency",
            limit="longest latency of an image, ms in slim.runtime",
            count=None,
            form="plain",
        ),
    )
}
COUNTED = tuple(name for name, row in RESOURCES.items() if not row.measured)
"""Resources that follow from the network alone."""
SUMMARY = ("flops", "params")
"""Resources that one-line summaries name."""

CONVENTIONS = {
    "macs": "FLOPs: multiply-accumulates of convolutions and dense layers, one image. "
    "Parameters: trainable ones.",
    "with_norm": "FLOPs: multiply-accumulates, and 4 an entry in batch, layer, RMS and group normalisation, "
    "one image. Parameters: all weights.",
    "all": "FLOPs: multiply-accumulates, 4 an entry in batch, layer, RMS and group normalisation, 1 an entry "
    "for a bias and 1 for an activation, one image. Parameters: all weights.",
}
"""`slim.convention` -> what it counts."""


@cache
def counting(name: str) -> Any:
    """The counting function of a resource, as `Resource.count` says.

    Raises:
        AutoslimError: if it is measured, or there is no such resource.
    """
    row = RESOURCES.get(name)
    if row is None or row.count is None:
        raise AutoslimError(f"resource={name!r} is not counted: expected {either(COUNTED)}.")
    return pkgutil.resolve_name(row.count)


def notes(convention: str) -> str:
    """What the numbers of a table of costs count."""
    return " ".join([CONVENTIONS[convention], *(row.note for row in RESOURCES.values() if row.note)])


class Cost(Mapping[str, Any]):
    """What a network costs, by resource: whole numbers, or int64 arrays [...] for widths [..., G].

    It holds the amounts that are known; attributes are None for those that are not.

    >>> cost = Cost({"flops": 20, "params": 4})
    >>> cost.flops, cost["params"], cost.memory, list(cost), str(cost)
    (20, 4, None, ['flops', 'params'], '20 multiply-accumulates, 4 weights')

    Args:
        amounts: resource -> amount.
        unknown: resource -> why its amount is not known.
    """

    def __init__(self, amounts: Mapping[str, Any], unknown: Mapping[str, str] | None = None) -> None:
        self._amounts, self.unknown = dict(amounts), dict(unknown or {})

    @classmethod
    def read(cls, data: Mapping[str, Any], prefix: str = "") -> Cost:
        """The amounts among the entries of `data`, whose names begin with `prefix`."""
        found = {name: data.get(prefix + name) for name in RESOURCES}
        return cls({name: amount for name, amount in found.items() if amount is not None})

    def __getitem__(self, resource: str) -> Any:
        return self._amounts[resource]

    def __iter__(self) -> Iterator[str]:
        return iter(self._amounts)

    def __len__(self) -> int:
        return len(self._amounts)

    def __getattr__(self, resource: str) -> Any:
        if resource not in RESOURCES:
            raise AttributeError(f"{type(self).__name__} has no attribute {resource!r}")
        return self._amounts.get(resource)

    def __repr__(self) -> str:
        return f"Cost({self._amounts})"

    def __str__(self) -> str:
        return ", ".join(f"{amount:,} {RESOURCES[name].unit}" for name, amount in self.items())

    def of(self, resource: str) -> Any:
        """The amount of a resource.

        Raises:
            AutoslimError: if it is not known, saying why.
        """
        if resource in self.unknown:
            raise AutoslimError(f"{self.unknown[resource]} Parameters are known: resource=params.")
        if resource not in self._amounts:
            raise AutoslimError(f"resource={resource!r} is not counted: expected {either(self)}.")
        return self._amounts[resource]

    @property
    def counted(self) -> dict[str, Any]:
        """Every resource that is not measured, None where it is not known."""
        return {name: self._amounts.get(name) for name in COUNTED}

    def row(self) -> dict[str, Any]:
        """As plain data: every resource that is counted, None where not known; and what was measured."""
        return {**self.counted, **self}
