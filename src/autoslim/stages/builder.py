"""The full network of a run: how it is built, widened and traced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from autoslim import archs
from autoslim.archs.memory import refuse_beyond_memory, refuse_too_wide
from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.graph.widening import widen, wider_widths
from autoslim.kinds import METHODS
from autoslim.schema import ArchConfig, SlimConfig
from autoslim.training.distribution import Strategy


@dataclass(frozen=True)
class Builder:
    """Builds the full network and the supernet, the same whatever was built before in this process."""

    arch: ArchConfig
    slim: SlimConfig  # which layers are frozen, and how much wider than the network the supernet is
    shape: Any  # of the images; of several inputs one each
    classes: Any  # number of classes; of another task's labels, see `Dataset.classes`
    classifies: bool  # whether it must return one answer for each of the classes
    seed: int
    strategy: Strategy

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """Height, width and channels of the images; None where the data has inputs of other kinds."""
        return tuple(self.shape) if isinstance(self.shape, (list, tuple)) else None

    def network(self, seed: int | None = None) -> keras.Model:
        """The full network with its own weights.

        Args:
            seed: of weights that are drawn; None: the configured one.
        """
        target, arguments = self.arch._target_, self.arch.arguments()
        refuse_too_wide(target, self.shape, self.classes, self.classifies, arguments)
        keras.utils.clear_session()
        keras.utils.set_random_seed(self.seed if seed is None else seed)
        with self.strategy.scope():
            return archs.build(target, self.shape, self.classes, self.classifies, **arguments)

    def supernet(self) -> keras.Model:
        """The full network with the supernet's room, its weights of no meaning."""
        return self.widened(self.network())

    def widened(self, model: keras.Model, weights: bool = False) -> keras.Model:
        """The network with the room that `slim.headroom` gives it; the model itself where that is none.

        Args:
            model: the full network.
            weights: go on from its weights, so that it computes the same; else fresh ones.
        """
        s = self.slim
        if not s.wider:
            return model
        if METHODS[s.method].importance is not None:
            raise AutoslimError(
                f"slimming={s.method} trains no supernet, so there is none to be wider: choose another "
                "method with slim.headroom, such as greedy or predictor."
            )
        graph = self.graph(model)
        widths = wider_widths(graph, s.headroom, s.divisor)
        least = min((widths[g.index] / g.size for g in graph.slimmable), default=1.0)
        refuse_beyond_memory(model.count_params() * least**2, f"slim.headroom={s.headroom}")
        with self.strategy.scope():
            return widen(graph, widths, weights=weights, seed=self.seed)

    def graph(self, model: keras.Model) -> ChannelGraph:
        """The channel graph with the user's frozen layers; costs are those for images of the data's size."""
        return ChannelGraph(model, tuple(self.slim.freeze), self.image_shape)
