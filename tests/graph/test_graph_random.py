"""The invariants on random graphs."""

import keras
import numpy as np
import pytest
from cases import draw_weights, finish, images_for, random_widths
from counting import count, peak_memory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_graph_invariants import assert_close, gradients

from autoslim.graph import ChannelGraph

L = keras.layers
SIZE = 4  # height and width, the same everywhere, so that anything can be joined to anything
WIDTHS = st.sampled_from([1, 2, 3, 4, 6, 8])


def plain(draw, values):
    return L.Conv2D(draw(WIDTHS), draw(st.sampled_from([1, 3])), padding="same")(draw(values))


def normalised(draw, values):
    y = L.BatchNormalization(scale=draw(st.booleans()), center=draw(st.booleans()))(draw(values))
    return L.Activation(draw(st.sampled_from(["relu", "sigmoid", "tanh"])))(y)


def grouped(draw, values):
    x = draw(values)
    groups = draw(st.sampled_from([g for g in (1, 2, 3, 4) if x.shape[-1] % g == 0]))
    return L.Conv2D(groups * draw(st.integers(1, 3)), 3, padding="same", groups=groups)(x)


def depthwise(draw, values):
    x = draw(values)
    return L.DepthwiseConv2D(3, padding="same", depth_multiplier=draw(st.integers(1, 2)))(x)


def joined(draw, values):
    """Two values, the second convolved to fit unless it does already."""
    x, y = draw(values), draw(values)
    if x.shape != y.shape:
        y = L.Conv2D(x.shape[-1], 1)(y)
    return draw(st.sampled_from([L.Add, L.Subtract, L.Maximum, L.Multiply, L.Average]))()([x, y])


def concatenated(draw, values):
    return L.Concatenate()([draw(values) for _ in range(draw(st.integers(2, 3)))])


def excited(draw, values):
    x = draw(values)
    s = L.Dense(draw(WIDTHS), "relu")(L.GlobalAveragePooling2D(keepdims=True)(x))
    return L.Multiply()([x, L.Dense(x.shape[-1], "sigmoid")(s)])


def repeated(draw, values):
    """One convolution and its batch norm called twice, in a row."""
    x = draw(values)
    shared, norm = L.Conv2D(x.shape[-1], 3, padding="same"), L.BatchNormalization()
    return norm(shared(L.ReLU()(norm(shared(x)))))


def nested(draw, values):
    x = draw(values)
    i = keras.Input(x.shape[1:])
    inner = keras.Model(i, L.ReLU(name="relu")(L.Conv2D(draw(WIDTHS), 3, padding="same", name="conv")(i)))
    return inner(x)


def reshaped(draw, values):
    """To flat and back."""
    x = draw(values)
    return L.Reshape(tuple(x.shape[1:]))(L.BatchNormalization()(L.Flatten()(x)))


def pooled(draw, values):
    pool = draw(st.sampled_from([L.MaxPooling2D, L.AveragePooling2D]))
    return pool(3, strides=1, padding="same")(draw(values))


def separable(draw, values):
    return L.SeparableConv2D(draw(WIDTHS), 3, padding="same", depth_multiplier=draw(st.integers(1, 2)))(
        draw(values)
    )


def rescaled(draw, values):
    """Normalised over the channels, or over blocks of them."""
    x = draw(values)
    groups = draw(st.sampled_from([0] + [g for g in (1, 2, 3) if x.shape[-1] % g == 0]))
    return L.GroupNormalization(groups)(x) if groups else L.LayerNormalization(epsilon=0.1)(x)


def split(draw, values):
    """Taken apart and put together the other way round, or added."""
    x = draw(values)
    if x.shape[-1] % 2 == 0 and draw(st.booleans()):
        return L.Maximum()(keras.ops.split(x, 2, axis=-1))
    if x.shape[-1] == 1:
        return x
    first, second = keras.ops.split(x, [draw(st.integers(1, x.shape[-1] - 1))], axis=-1)
    return keras.ops.concatenate([second, first], axis=-1)


STEPS = (
    separable,
    rescaled,
    split,
    plain,
    normalised,
    grouped,
    depthwise,
    joined,
    concatenated,
    excited,
    repeated,
    nested,
    reshaped,
    pooled,
)


def random_model(draw):
    x = keras.Input((SIZE, SIZE, 2))
    values = [L.Conv2D(draw(WIDTHS), 3, padding="same")(x)]
    for _ in range(draw(st.integers(1, 7))):
        step = draw(st.sampled_from(STEPS))
        recent = values[-4:]  # steps near the end, so that most of the graph is used
        y = step(draw, st.sampled_from(recent))
        if y.shape[-1] <= 32:
            values.append(y)
    y = values[-1]
    if draw(st.booleans()):
        y = L.Flatten()(y)
    model = finish(x, y)
    keras.utils.set_random_seed(draw(st.integers(0, 5)))
    draw_weights(model)
    return model


def check(model, seed):
    graph = ChannelGraph(model)
    for reason in graph.uncovered.values():  # blocks of channels stay whole
        assert reason.endswith(("channels that are split where they can't be cut", "concatenated tensors"))
    images = images_for(model, seed=seed)
    assert_close(graph.run(images), model(images))
    widths = random_widths(graph, np.random.default_rng(seed))
    sliced = graph.run(images, widths)
    assert_close(sliced, graph.run(images, widths, execution="mask"))
    small = graph.materialize(widths)
    assert_close(sliced, small(images))
    with_statistics = [
        graph.run(images, widths, batch_statistics=True, execution=mode) for mode in ("slice", "mask")
    ]
    assert_close(*with_statistics, tolerance=1e-3)
    for a, b in zip(
        *(gradients(graph, images, widths, mode, False) for mode in ("slice", "mask")), strict=True
    ):
        assert np.max(np.abs(a - b)) <= 1e-4 * max(1.0, np.max(np.abs(b)))
    for convention in ("macs", "with_norm", "all"):
        cost = graph.cost(widths, convention)
        assert (cost.flops, cost.params) == count(small, convention)
    assert cost.memory == peak_memory(small)
    if not graph.uncovered:
        assert ChannelGraph(small).cost() == graph.cost(widths)


quietly = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], database=None
)


@settings(quietly, max_examples=15, derandomize=True)
@given(st.data(), st.integers(0, 1000))
def test_random_graphs(data, seed):
    check(random_model(data.draw), seed)


@pytest.mark.slow
@pytest.mark.long
@settings(quietly, max_examples=40, print_blob=True)
@given(st.data(), st.integers(0, 1000))
def test_many_random_graphs(data, seed):
    check(random_model(data.draw), seed)
