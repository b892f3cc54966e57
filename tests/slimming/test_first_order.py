"""First-order effects of narrowing a group, against finite differences."""

import keras
import numpy as np
import pytest
from nets import CLASSES, SHAPE, batches, graph

from autoslim.graph import ChannelGraph
from autoslim.slimming.first_order import FirstOrder
from autoslim.slimming.scorer import Scorer

L = keras.layers


def branches():
    """Additions, a concatenation, a depthwise and a separable convolution, a layer that is called twice."""
    keras.utils.set_random_seed(3)
    image = keras.Input(SHAPE)
    x = L.Conv2D(6, 3, padding="same", name="stem", activation="tanh")(image)
    a = L.BatchNormalization(name="norm")(L.Conv2D(6, 3, padding="same", name="branch")(x))
    x = L.Add()([x, L.ReLU()(a)])
    x = L.Concatenate()([x, L.DepthwiseConv2D(3, padding="same", name="depthwise")(x)])
    x = L.SeparableConv2D(4, 3, name="separable", activation="elu")(x)
    twice = L.Conv2D(4, 1, name="twice", use_bias=True)
    x = L.ReLU()(twice(L.ReLU()(twice(x))))
    return ChannelGraph(keras.Model(image, L.Dense(CLASSES, name="logits")(L.GlobalAveragePooling2D()(x))))


# Weights that make each group's channels, and the axis on which they stand, written out.
MAKERS = {
    "stem": [("stem", "kernel", 3), ("stem", "bias", 0), ("branch", "kernel", 3), ("branch", "bias", 0)]
    + [("norm", "gamma", 0), ("norm", "beta", 0), ("depthwise", "kernel", 2), ("depthwise", "bias", 0)],
    "separable": [("separable", "pointwise_kernel", 3), ("separable", "bias", 0)]
    + [("twice", "kernel", 3), ("twice", "bias", 0)],
    "conv1": [("conv1", "kernel", 3), ("bn1", "gamma", 0), ("bn1", "beta", 0)],
    "conv3": [("conv3", "kernel", 3), ("bn3", "gamma", 0), ("bn3", "beta", 0)],
    "hidden": [("hidden", "kernel", 1), ("hidden", "bias", 0)],
}


def mean_loss(made, widths):
    losses = Scorer(made, batches(24, 12))(widths[None])[0]
    return losses.mean(dtype=np.float64)


@pytest.mark.parametrize(
    ("build", "group", "now", "then"),
    [
        (branches, "stem", 6, 4),
        (branches, "stem", 5, 1),
        (branches, "separable", 4, 3),
        (graph, "conv1", 8, 6),
        (graph, "conv3", 6, 4),
        (graph, "hidden", 8, 5),
    ],
)
def test_finite_differences(build, group, now, then):
    """Scaling all weights that make the channels by 1 - e moves the loss by e times the effect."""
    made = build()
    scorer = Scorer(made, batches(24, 12))
    base, candidate = made.full, made.full
    (place,) = [g.index for g in made.groups if g.name == group]
    base[place], candidate[place] = now, then
    effect = FirstOrder(made, scorer)(base, candidate[None], [0, 1])[0]
    assert scorer.macs == 3 * 24 * made.cost(base).flops and scorer.scored == 24
    moved, e = [], 0.004
    weights = [(getattr(made.model.get_layer(layer), name), axis) for layer, name, axis in MAKERS[group]]
    kept = [np.array(weight) for weight, _ in weights]
    for sign in (1, -1):
        for (weight, axis), value in zip(weights, kept, strict=True):
            scale = np.ones(value.shape[axis])
            scale[then:now] -= sign * e
            weight.assign(value * np.expand_dims(scale, [i for i in range(value.ndim) if i != axis]))
        moved.append(mean_loss(made, base))
    assert effect == pytest.approx((moved[0] - moved[1]) / (2 * e), rel=0.03, abs=5e-5)
    assert abs(effect) > 5e-4


def test_one_backward_pass_for_all_widths():
    made = graph()
    first_order = FirstOrder(made, Scorer(made, batches(24, 13)))
    for width in (8, 6, 4):
        base = made.full
        base[1] = width
        candidates = np.stack([base, base])
        candidates[1, 1] -= 2
        effects = first_order(base, candidates, [0, 1])
        assert effects[0] == 0.0 and effects[1] != 0.0
    assert first_order._slopes.experimental_get_tracing_count() == 1
