"""What one call of `autoslim.slim` found: the networks, their figures, and how to look at them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autoslim.reporting import units
from autoslim.reporting.headline import headlines
from autoslim.reporting.markdown_table import table
from autoslim.reporting.network import NetworkResult, in_order, measure_of
from autoslim.resources import RESOURCES, SUMMARY, Cost
from autoslim.tabular import Tabular

if TYPE_CHECKING:
    import keras
    import matplotlib.axes
    import matplotlib.figure

    from autoslim.schema import SlimConfig
    from autoslim.slimming.trajectory import Trajectory


@dataclass(frozen=True, repr=False)
class Slimmed(Tabular):
    """Smaller versions of a network, and what they cost and reach."""

    models: Mapping[float, keras.Model]  # target -> the trained network, a plain Keras model
    networks: tuple[NetworkResult, ...]  # figures of each, after those of the given one where it was trained
    trajectory: Trajectory  # the search's path
    full: Cost  # of the given network
    images: int  # on which the figures were taken
    on_test_images: bool  # whether these are test images; else the search has looked at them
    options: SlimConfig

    @property
    def model(self) -> keras.Model:
        """The smallest network."""
        return self.models[min(self.models)]

    @property
    def shown_on(self) -> str:
        """What the figures were taken on."""
        return "test images" if self.on_test_images else "held-out images"

    def rows(self) -> list[dict[str, Any]]:
        """A dict for each network: costs, shares of the full network's, loss, metric, channels."""
        rows = [{**one.row(self.full), "channels": one.channels} for one in in_order(self.networks)]
        return [{k: v for k, v in row.items() if k not in ("measure", "folder")} for row in rows]

    def table(self) -> str:
        """The networks in Markdown."""
        return table(*self._table())

    def _table(self) -> tuple[list[str], list[list[str]]]:
        """Titles and cells."""
        metric = measure_of(self.networks)
        labels = [RESOURCES[name].label for name in SUMMARY]
        head = ["network", metric.head, *labels, *(f"{label} / full" for label in labels)]
        return head, [self._cells(one) for one in in_order(self.networks)]

    def _cells(self, one: NetworkResult) -> list[str]:
        shares = [f"{one.share(name, self.full):.3f}" for name in SUMMARY]
        costs = [units.amount(one.cost.of(name), name) for name in SUMMARY]
        return [one.label, one.measure.number(one.metric), *costs, *shares]

    def report(self) -> str:
        """What came out, in Markdown: a sentence for each network, the table, and their channels."""
        where = (
            "test images" if self.on_test_images else "held-out training images, which the search has seen"
        )
        sentences = headlines(self.networks, self.full, self.images, self.options.resource)
        groups = list(self.networks[-1].channels) if self.networks else []
        shown = in_order(self.networks)
        rows = [[group, *(str(one.channels[group]) for one in shown)] for group in groups]
        return "\n\n".join(
            [
                "\n".join(f"- {text}" for text in sentences),
                self.table(),
                f"Figures on {self.images:,} {where}.",
                table(["channels", *(one.label for one in shown)], rows),
            ]
        )

    def plot(self, figure: matplotlib.figure.Figure | None = None) -> matplotlib.axes.Axes:
        """The metric against the resource that targets limit, as `autoslim.plots.accuracy`."""
        from autoslim.reporting import plots  # here: its figures are of this class

        return plots.accuracy(self, self.trajectory.resource, figure)

    def _shown(self) -> tuple[list[str], list[list[str]], list[int]]:
        return *self._table(), [0]
