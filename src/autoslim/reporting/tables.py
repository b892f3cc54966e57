"""Tables of a channel graph: its groups, its layers, its exact costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from autoslim.reporting import units
from autoslim.resources import COUNTED, RESOURCES, notes

if TYPE_CHECKING:
    from autoslim.graph import ChannelGraph
    from autoslim.slimming.levels import Levels


def describe(
    graph: ChannelGraph,
    widths: Any = None,
    convention: str = "macs",
    levels: Levels | None = None,
) -> list[RenderableType]:
    """Groups, layers and totals of a network, as tables for `terminal.show`.

    Args:
        graph: of the network.
        widths: int [G]; None: full.
        convention: how FLOPs and parameters are counted, as in `ChannelGraph.cost`.
        levels: the widths that the search may take, for a column of their own.
    """
    widths = graph.full if widths is None else graph.check(widths)
    return [
        Text(f"Channel groups: {len(graph.groups)}, of which {len(graph.slimmable)} can be slimmed", "bold"),
        _groups(graph, widths, levels),
        Text("Layers", "bold"),
        _layers(graph, widths, convention),
        Text("Costs", "bold"),
        _totals(graph, widths, convention),
        Text(notes(convention)),
        *(Text(line) for line in not_known(graph)),
    ]


def not_known(graph: ChannelGraph) -> list[str]:
    """A line for each layer that no rule covers, and for each whose FLOPs could not be counted."""
    whole = [f"Full width, as no rule covers it: {name}: {why}" for name, why in graph.uncovered.items()]
    return whole + [f"Not counted in the FLOPs: {name}: {why}" for name, why in graph.uncounted.items()]


def _table(
    head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[str], loose: Sequence[str] = ()
) -> Table:
    """A table whose cells are never cut off; only the columns of `loose` wrap."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_footer=False)
    for place, title in enumerate(head):
        needed = max(len(title), *(len(row[place]) for row in rows)) if rows else len(title)
        if title in loose:
            table.add_column(title, overflow="fold", max_width=60)
        else:
            right = title in numbers
            table.add_column(title, justify="right" if right else "left", no_wrap=True, min_width=needed)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _groups(graph: ChannelGraph, widths: Any, levels: Levels | None) -> Table:
    narrowed = bool((widths != graph.full).any())
    head = ["group", "channels", *(["width"] if narrowed else []), *(["levels"] if levels else [])]
    head += ["frozen: why", "layers"]
    rows = []
    for group in graph.groups:
        row = [group.name, units.exact(group.size)]
        row += [units.exact(widths[group.index])] if narrowed else []
        row += [" ".join(map(str, levels.widths[group.index]))] if levels else []
        rows.append([*row, group.frozen or "", _members(group.layers)])
    return _table(head, rows, ("channels", "width"), ("levels", "frozen: why", "layers"))


def _members(layers: Sequence[str], most: int = 6) -> str:
    """A group's layers; of many the middle is left out: the table of layers names each one's groups."""
    if len(layers) <= most + 2:
        return ", ".join(layers)
    return ", ".join([*layers[: most - 1], f"({len(layers) - most:,} more)", layers[-1]])


def _layers(graph: ChannelGraph, widths: Any, convention: str) -> Table:
    rows = []
    for layer in graph.layer_costs(widths, convention):
        shape = " x ".join("?" if size is None else str(size) for size in layer.shape[1:])
        costs = [_exact(layer.flops), units.exact(layer.params)]
        rows.append([layer.name, layer.kind, shape, ", ".join(layer.groups), *costs])
    head = ["layer", "kind", "output", "groups", "FLOPs", "parameters"]
    return _table(head, rows, ("output", "FLOPs", "parameters"), ("groups",))


def _exact(value: int | None) -> str:
    return "unknown" if value is None else units.exact(value)


def _totals(graph: ChannelGraph, widths: Any, convention: str) -> Table:
    full, here = graph.cost(None, convention), graph.cost(widths, convention)
    narrowed = bool((widths != graph.full).any())
    rows = []
    for name in COUNTED:
        resource, whole, part = RESOURCES[name], full.get(name), here.get(name)
        unit = "" if resource.form == "decimal" else f", {resource.unit}"
        row = [f"{resource.label}{unit}", _exact(whole)]
        if narrowed:
            share = "" if whole is None else units.percent(part / whole if whole else 1.0, 2)
            row += [_exact(part), share]
        rows.append(row)
    numbers = ["full network", "at these widths", "share"]
    return _table(["", *(numbers if narrowed else numbers[:1])], rows, numbers)
