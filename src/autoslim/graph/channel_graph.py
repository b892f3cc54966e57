"""ChannelGraph: the one description of a network that everything else reads."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from autoslim.graph.comparing import check_graph
from autoslim.graph.cost import LayerCost, amounts, layer_costs, total_cost
from autoslim.graph.materialize import materialize
from autoslim.graph.options import RunOptions
from autoslim.graph.run import Replaced, Statistics, forward
from autoslim.graph.structure import Structure
from autoslim.graph.units import Units
from autoslim.resources import Cost
from autoslim.tabular import Tabular


class ChannelGraph(Structure, Tabular):
    """The channel groups of a Keras functional model, and the model at any widths of them.

    Widths are int32 vectors [G]: the active channels of each group of `groups`, in that order; active means
    the first `w`. The model's own layers and weights are used, never copied: train the graph and the model
    is trained.

    >>> import keras
    >>> x = keras.Input((8, 8, 3))
    >>> y = keras.layers.Conv2D(16, 3, name="conv")(x)
    >>> y = keras.layers.GlobalAveragePooling2D()(y)
    >>> graph = ChannelGraph(keras.Model(x, keras.layers.Dense(10, name="logits")(y)))
    >>> [(g.name, g.size) for g in graph.groups if not g.frozen]
    [('conv', 16)]
    >>> graph.cost(graph.uniform(0.5)).flops == 36 * 27 * 8 + 8 * 10
    True

    Args:
        model: a functional or Sequential Keras model, channels last. Nested models are traced through.
        freeze: shell-style patterns of layer names; the groups of their outputs keep full width.
        image_shape: sizes of the images, without the batch: FLOPs and memory are counted for these where the
            model leaves sizes open.

    Raises:
        AutoslimError: for a subclassed model, or a pattern that matches no layer.
    """

    _verified = False  # whether `verify` was done

    def rows(self) -> list[dict[str, Any]]:
        """A dict for each channel group: name, channels, why it is frozen ("": it is not), layers."""
        return [
            {
                "group": group.name,
                "channels": group.size,
                "frozen": group.frozen or "",
                "layers": tuple(group.layers),
            }
            for group in self.groups
        ]

    def caption(self) -> str:
        """The network's name, groups and costs."""
        cost = self.cost()
        flops = "unknown" if cost.flops is None else f"{cost.flops:,}"
        return (
            f"{self.model.name}: {len(self.groups)} channel groups, of which {len(self.slimmable)} can be "
            f"slimmed; {flops} FLOPs (multiply-accumulates), {cost.params:,} parameters"
        )

    def run(
        self, images: Any, widths: Any = None, *, replaced: Replaced | None = None, **options: Any
    ) -> Any:
        """The network's outputs at given widths.

        Args:
            images: tensor [N, H, W, C]; for a model of several inputs a list or a dict of them, as it takes.
            widths: int32 [G], an array or a tensor; under `tf.function` one trace serves all values of a
                tensor. None: full width.
            replaced: {id(a weight of the model): what to compute with in its place}, in the shape that the
                weight has at these widths, such as batch norms of these widths' own. With execution "slice"
                only.
            options: fields of `RunOptions`: batch_statistics, training, execution, precision,
                sync_batch_norm.

        Returns:
            What the model returns: a tensor, or a list or a dict of them. A `training=False` or
            `training=True` that the model's author wrote at a layer holds in every pass.

        Raises:
            AutoslimError: for images, widths or options that don't fit. Inside a `tf.function` the values of
                a tensor of widths can't be checked.
        """
        self.verify()
        return forward(self, images, widths, RunOptions(**options), replaced)[0]

    def run_with_statistics(
        self,
        images: Any,
        widths: Any = None,
        *,
        batch_statistics: bool = True,
        replaced: Replaced | None = None,
        **options: Any,
    ) -> tuple[Any, Statistics]:
        """As `run`, with the batch's (mean, variance) of every batch normalisation that used its own."""
        self.verify()
        chosen = RunOptions(batch_statistics=batch_statistics, **options)
        return forward(self, images, widths, chosen, replaced)

    def cost(self, widths: Any = None, convention: str = "macs") -> Cost:
        """Exact cost at widths int [..., G] (None: full): a whole number for each resource, or int64 [...].

        A layer that no rule covers counts with the convolutions and matrix products of its own call, as a
        constant; `uncounted` names those that this fails for. FLOPs and memory are None where sizes inside
        the network are not known.

        Args:
            widths: int [..., G].
            convention: "macs": multiply-accumulates of convolutions and dense layers, trainable parameters;
                the paper's. "with_norm": batch, layer, RMS and group norm too, at 4 FLOPs an entry, and all
                parameters. "all": also 1 FLOP for each entry that a bias is added to and for each entry that
                an activation other than the linear one makes, whatever it computes, be it a layer, an
                operation or a layer's argument. Nothing counts pooling, sums, products or preprocessing.
        """
        return total_cost(self.counted, self.full if widths is None else self.check(widths), convention)

    def amounts(self, resource: str, widths: Any = None, convention: str = "macs") -> np.ndarray:
        """Amounts whose largest is the cost of a resource: int64 [..., M]; M is 1 for one that is not a peak.

        Of memory, the bytes of the activations alive at the input and at each node, for one image.

        Args:
            resource: a name of `resources.COUNTED`.
            widths: int [..., G]; None: full.
            convention: as in `cost`.

        Raises:
            AutoslimError: if the resource is not counted, or sizes inside the network are not known.
        """
        widths = self.full if widths is None else self.check(widths)
        return amounts(self.counted, resource, widths, convention)

    def layer_costs(self, widths: Any = None, convention: str = "macs") -> list[LayerCost]:
        """Cost of each layer at widths int [G] (None: full), in topological order."""
        return layer_costs(self.counted, self.full if widths is None else self.check(widths), convention)

    def materialize(
        self,
        widths: Any = None,
        *,
        weights: bool = True,
        name: str | None = None,
        replaced: Replaced | None = None,
    ) -> keras.Model:
        """A plain Keras model at the given widths, which loads without autoslim.

        Args:
            widths: int [G]; None: full.
            weights: slice the trained weights; False: initialise it, as the layers' initializers say.
            name: of the new model; None: the traced model's.
            replaced: {id(a weight of the model): what the new model gets in its place}, as in `run`.
        """
        self.verify()
        widths = self.full if widths is None else self.check(widths)
        units = Units.first(self.groups, widths)
        return materialize(self, units, weights, name, replaced or {}, widths)

    def verify(self) -> None:
        """Compare, once, the graph at full width with its model, on random inputs.

        `run`, `materialize` and all that trains or searches do so first; what asks for names and costs alone
        need not.

        Raises:
            AutoslimError: if they differ: a rule does not fit its layer. It names the first such layer.
        """
        if not self._verified:
            with tf.init_scope():
                if tf.executing_eagerly():
                    check_graph(self)
                    self._verified = True
