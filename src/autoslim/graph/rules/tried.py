"""Rules of users' layers that treat every channel alike, with weights of their own: found by trying.

Such are scales and shifts of the channels, normalisations over them, and positions that are learnt. A layer
is taken for one if its output's channels are permuted as its input's and its weights' are, and if the layer
that is made for fewer channels, by its configuration, computes what this one does with fewer.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from autoslim.graph.axes import Axis, Dimension
from autoslim.graph.own_weights import attributes_of
from autoslim.graph.rules.base import Channels, LayerRule, RunCall, never
from autoslim.graph.rules.elementwise import only_active

SIZE = 4  # positions along an axis of unknown size
TOLERANCE = 1e-4  # of the largest entry

_known: weakref.WeakKeyDictionary[Any, LayerRule | None] = weakref.WeakKeyDictionary()


def tried_rule(layer: Any) -> LayerRule | None:
    """The rule of a layer of the user's that treats every channel alike; None for any other."""
    if not isinstance(layer, keras.Layer) or not _might_be(layer):
        return None
    if layer not in _known:
        with tf.init_scope():
            try:
                _known[layer] = _Trial(layer).rule()
            except Exception:  # a layer of the user's may raise anything
                _known[layer] = None
    return _known[layer]


def _might_be(layer: Any) -> bool:
    """Whether it has weights of its own, and nothing else that it would depend on."""
    own = [value for value in vars(layer).values() if isinstance(value, keras.Variable)]
    return (
        not type(layer).__module__.startswith("keras.")
        and bool(own)
        and {id(v) for v in own} == {id(v) for v in layer.weights}
        and not isinstance(layer, keras.Model)
        and not layer._layers
        and layer.activity_regularizer is None
    )


def _call(layer: Any, x: Any, weights: Mapping[str, Any], training: bool | None = None) -> Any:
    """The layer's `call` with other weights than its own; no loss is left that it adds."""
    passed = {"training": training} if "training" in layer.call_signature_parameters else {}
    losses = list(layer._losses)
    try:
        with attributes_of(layer, weights):
            return layer.call(x, **passed)
    finally:
        layer._losses = losses


class _Trial:
    """A layer that is tried with random weights and inputs; its own weights stay as they are."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer
        shape = layer.get_build_config()["input_shape"]
        self._shape = (3, *(size or SIZE for size in shape[1:-1]), shape[-1])
        self._rng = np.random.default_rng(0)
        names = [name for name, value in vars(layer).items() if isinstance(value, keras.Variable)]
        self._weights = {name: self._drawn(vars(layer)[name].shape) for name in names}
        self._places = {name: self._place(value.shape) for name, value in self._weights.items()}

    def _drawn(self, shape: Any) -> Any:
        return self._rng.uniform(0.5, 1.5, shape).astype(np.float32)

    def _place(self, shape: tuple[int, ...]) -> int | None:
        """The last dimension of a weight that is as long as the channels, counted from the end."""
        places = [place for place in range(-1, -len(shape) - 1, -1) if shape[place] == self._shape[-1]]
        return places[0] if places else None

    def _at(self, indices: Any) -> dict[str, Any]:
        """The weights of some of the channels."""
        return {
            name: tf.constant(value if place is None else np.take(value, indices, place))
            for name, value in self._weights.items()
            for place in [self._places[name]]
        }

    def rule(self) -> LayerRule | None:
        """What was found."""
        channels = self._shape[-1]
        x = self._rng.normal(size=self._shape).astype(np.float32)
        if channels < 3:
            return None
        whole = self._result(x, range(channels))
        if whole.ndim < 2 or (whole.shape[0], whole.shape[-1]) != (len(x), channels):
            return None
        order = self._rng.permutation(channels)
        order = order if order[0] else order[::-1]
        if not _close(self._result(x[..., order], order), whole[..., order]):
            return None
        if _multiplies(self._layer, self._shape):
            return None
        fewer = {self._narrower(x, count) for count in {channels - 1, max(1, channels // 2)}}
        if None in fewer or len(fewer) > 1:
            return None
        first = range(max(1, channels // 2))
        if not _close(self._of_unknown_width(x[..., first], first), self._result(x[..., first], first)):
            return None
        masked = np.where(np.arange(channels) < len(first), x, 0.0).astype(np.float32)
        apart = _close(self._result(masked, range(channels))[..., first], self._result(x[..., first], first))
        return self._made(bool(fewer.pop()), apart)

    def _result(self, x: Any, indices: Any) -> Any:
        """What the layer makes of `x` at some of its channels, in training as else."""
        found = [
            np.asarray(_call(self._layer, tf.constant(x), self._at(list(indices)), training))
            for training in (False, True)
        ]
        if not _close(*found):
            raise ValueError("it does something else in training")
        return found[0]

    def _of_unknown_width(self, x: Any, indices: Any) -> Any:
        """What the layer makes of `x` in a graph in which the number of channels is not known.

        That is so in a training step. A `call` that reads it from the static shape fails.
        """
        sizes = {name: list(value.shape) for name, value in self._weights.items()}
        for name, place in self._places.items():
            if place is not None:
                sizes[name][place] = None
        specs = {name: tf.TensorSpec(size, tf.float32) for name, size in sizes.items()}
        images = tf.TensorSpec((*x.shape[:-1], None), tf.float32)
        call = tf.function(
            lambda x, weights: _call(self._layer, x, weights, False), input_signature=[images, specs]
        )
        return np.asarray(call(tf.constant(x), self._at(list(indices))))

    def _narrower(self, x: Any, count: int) -> bool | None:
        """Whether the configuration needs the number of channels; None: no configuration works."""
        for sized in (False, True):
            config = self._layer.get_config() | (
                _config(self._layer, self._shape[-1], count) if sized else {}
            )
            try:
                copy = type(self._layer).from_config(config)
                copy.build((None, *self._layer.get_build_config()["input_shape"][1:-1], count))
            except Exception:  # it may refuse the shape
                continue
            weights = self._at(range(count))
            if all(tuple(getattr(copy, name).shape) == tuple(w.shape) for name, w in weights.items()):
                for name, value in weights.items():
                    getattr(copy, name).assign(value)
                given = tf.constant(x[..., :count])
                if _close(np.asarray(copy(given)), np.asarray(self._result(given, range(count)))):
                    return sized
        return None

    def _made(self, sized: bool, apart: bool) -> LayerRule:
        """The rule.

        Args:
            sized: whether the configuration holds the number of channels.
            apart: whether channels that are zero change nothing in the others.
        """
        shapes = {name: value.shape for name, value in self._weights.items()}
        places = self._places
        channels = self._shape[-1]

        def weights(op: Any, inputs: list[Axis], outputs: list[Axis]) -> dict[str, tuple[Dimension, ...]]:
            found: dict[str, tuple[Dimension, ...]] = {}
            for name, shape in shapes.items():
                dims: list[Dimension] = list(shape)
                place = places[name]
                if place is not None:
                    dims[place] = inputs[0]
                found[name] = tuple(dims)
            return found

        def run(op: Any, inputs: list[Any], values: dict[str, Any], call: RunCall) -> Any:
            axis = call.input_axes[0]
            if apart or call.mask(axis) is None:
                return _call(op, inputs[0], values, call.options.training)
            return _of_active(op, inputs[0], values, places, call)

        def config(op: Any, count: Channels, inputs: list[Axis], outputs: list[Axis]) -> dict[str, Any]:
            return _config(op, channels, count(inputs[0])) if sized else {}

        return LayerRule(weights=weights, run=run, config=config, keeps_zero=never)


def _of_active(
    op: Any, x: Any, weights: Mapping[str, Any], places: Mapping[str, int | None], call: RunCall
) -> Any:
    """The layer of the active channels alone, in their places among all of them."""
    mask = call.mask(call.input_axes[0])
    active = tf.reshape(tf.where(mask), [-1])
    taken = {}
    for name, value in weights.items():
        at = places[name]
        taken[name] = value if at is None else tf.gather(value, active, axis=len(value.shape) + at)
    y = _call(op, tf.gather(x, active, axis=-1), taken, call.options.training)
    place = tf.maximum(tf.cumsum(tf.cast(mask, tf.int32)) - 1, 0)
    return only_active(tf.gather(y, place, axis=-1), call.output_layouts[0], 0, call)


def _config(layer: Any, channels: int, count: int) -> dict[str, Any]:
    """The configuration's numbers that are the number of channels, by another one."""

    def other(value: Any) -> Any:
        if isinstance(value, (list, tuple)) and value:
            return type(value)([*value[:-1], other(value[-1])])
        return count if value == channels and type(value) is int else value

    config = {name: value for name, value in layer.get_config().items() if name not in ("name", "dtype")}
    return {name: other(value) for name, value in config.items() if other(value) != value}


def _multiplies(layer: Any, shape: tuple[int, ...]) -> bool:
    """Whether it has convolutions or products of matrices, which would have to be counted."""
    from autoslim.graph.measure import macs_of_call

    return macs_of_call(layer.call, [tf.TensorSpec((1, *shape[1:]), tf.float32)]) > 0


def _close(first: Any, second: Any) -> bool:
    scale = max(1.0, float(np.max(np.abs(second), initial=0.0)))
    if first.shape != second.shape:
        return False
    return bool(np.max(np.abs(first - second), initial=0.0) <= TOLERANCE * scale)
