"""Importances against slow references, and the methods that solve for widths by them."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from nets import SHAPE, batches, graph, images

from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.graph.sorting import sort_channels
from autoslim.slimming.budget import Budget
from autoslim.slimming.importance import by_magnitude, by_taylor
from autoslim.slimming.levels import Levels
from autoslim.slimming.optimum import Optimum, shrunk
from autoslim.slimming.pruning import lost
from autoslim.slimming.search import search

L = keras.layers


def flattened():
    """A residual stream with two readers, one of them behind flatten, and a depthwise layer."""
    keras.utils.set_random_seed(3)
    x = image = keras.Input(SHAPE)
    x = y = L.ReLU()(L.BatchNormalization(name="bn1")(L.Conv2D(6, 3, padding="same", name="conv1")(x)))
    x = L.ReLU()(L.BatchNormalization()(L.Conv2D(4, 1, name="conv2")(x)))
    x = L.ReLU()(L.DepthwiseConv2D(3, padding="same", name="depthwise")(x))
    x = L.Add()([y, L.Conv2D(6, 1, name="conv3")(x)])
    x = L.Flatten()(L.MaxPooling2D(3)(x))
    return ChannelGraph(keras.Model(image, L.Dense(3, name="logits")(x)))


def test_magnitude_is_the_squares_of_what_reads_a_unit():
    found = by_magnitude(made := flattened())
    squares = {name: made.model.get_layer(name).kernel.numpy() ** 2 for name in ("conv2", "conv3", "logits")}
    stream = squares["conv2"].sum((0, 1, 3)) + squares["logits"].reshape(-1, 6, 3).sum((0, 2))
    names = [group.name for group in made.groups]
    np.testing.assert_allclose(found[names.index("conv1")], stream, rtol=1e-5)
    np.testing.assert_allclose(found[names.index("conv2")], squares["conv3"].sum((0, 1, 3)), rtol=1e-5)
    assert not found[names.index("logits")].any()  # nothing reads the outputs


def test_taylor_is_half_the_mean_square_of_the_gates_gradients():
    """By finite differences on gates: the kernels of all readers times 1 + h and 1 - h."""
    made = flattened()
    x, labels = images()
    expected, h = [], 1e-2
    for channel in (0, 3, 5):
        sides = []
        for factor in (1 + h, 1 - h):
            copy = keras.models.clone_model(made.model)
            copy.set_weights(made.model.get_weights())
            for name, step in (("conv2", None), ("logits", 6)):
                kernel = copy.get_layer(name).kernel.numpy()
                place = slice(channel, channel + 1) if step is None else slice(channel, None, step)
                kernel[..., place, :] *= factor
                copy.get_layer(name).kernel.assign(kernel)
            logits = tf.cast(copy(x, training=False), tf.float64)
            sides.append(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits).numpy())
        expected.append(np.mean(((sides[0] - sides[1]) / (2 * h)) ** 2) / 2)
    found = by_taylor(made, batches())[[group.name for group in made.groups].index("conv1")]
    np.testing.assert_allclose(found[[0, 3, 5]], expected, rtol=2e-2, atol=1e-6)


@pytest.mark.parametrize(
    "kind", [L.GRU, *(pytest.param(k, marks=pytest.mark.long) for k in (L.SimpleRNN, L.LSTM))]
)
def test_taylor_of_a_recurrent_unit_counts_where_it_is_heard(kind):
    """By finite differences on what reads it: the recurrent kernel, and the layer behind."""
    keras.utils.set_random_seed(3)
    x = keras.Input((3, 4))
    model = keras.Model(x, L.Dense(3, name="logits")(kind(4, name="units")(L.Dense(5)(x))))
    rng = np.random.default_rng(0)
    steps, labels, h = rng.normal(size=(6, 3, 4)).astype("float32"), rng.integers(0, 3, 6), 1e-2
    kernels = model.get_layer("units").cell.recurrent_kernel, model.get_layer("logits").kernel
    before = [kernel.numpy() for kernel in kernels]
    expected = []
    for unit in range(4):
        sides = []
        for factor in (1 + h, 1 - h):
            for kernel, value in zip(kernels, before, strict=True):
                kernel.assign(np.where(np.arange(4)[:, None] == unit, factor * value, value))
            logits = tf.cast(model(steps), tf.float64)
            sides.append(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits).numpy())
        expected.append(np.mean(((sides[0] - sides[1]) / (2 * h)) ** 2) / 2)
    for kernel, value in zip(kernels, before, strict=True):
        kernel.assign(value)
    made = ChannelGraph(model)
    found = by_taylor(made, [(steps, labels)])[[group.name for group in made.groups].index("units")]
    np.testing.assert_allclose(found, expected, rtol=2e-2, atol=1e-6)


def test_what_a_level_loses_grows_as_less_is_left():
    levels = Levels(((2, 4), (6,), (2, 4, 8)))
    found = lost([np.array([3.0, 0.5, 2.0, 1.0]), np.ones(6), np.array([8.0, 4.0, 2.0, 1.0])], levels)
    expected = [[6.5 * 3 / 3.5, 0.0], [0.0], [15 * 7 / 8, 15 * 3 / 12, 0.0]]  # the last in units of 2
    for drops, values in zip(found, expected, strict=True):
        assert drops.tolist() == pytest.approx(values)


@pytest.mark.parametrize("method", ["taylor", "magnitude"])
def test_networks_meet_target_and_limits_exactly_and_are_the_best_under_them(method):
    made = graph()
    sort_channels(made, by_magnitude(made))
    levels = Levels.spaced(made, 4, 0.25, 2)
    limits = {"params": 0.6 * made.cost().params}
    found = search(made, levels, batches(), method=method, target=[0.6, 0.3], limits=limits, trust=0.0)
    budget = Budget(made, limits=limits)
    importances = by_taylor(made, batches()) if method == "taylor" else by_magnitude(made)

    def value(widths):
        pairs = [(i, w) for i, w in zip(importances, widths, strict=True) if i.any()]
        weights = [i.sum() if method == "taylor" else 1.0 for i, _ in pairs]
        return sum(t * (i.sum() / i[:w].sum() - 1) for t, (i, w) in zip(weights, pairs, strict=True))

    for target in (0.6, 0.3):
        every = np.array(list(itertools.product(*levels.widths)), np.int32)
        best = min(value(w) for w in every[budget.within(every, target)])
        assert value(found.at(target, limits).widths) == pytest.approx(best, rel=1e-6)


def test_taylor_is_billed_its_pass_forward_and_backward():
    made = graph()
    found = search(made, Levels.spaced(made, 4, 0.25, 2), batches(), method="taylor", target=0.5)
    assert 3 < found.passes < 5  # and those of the full network and the one found


def test_scores_alone_are_no_images():
    class Scores:
        sizes, images, macs, scored = (8,), 8, 0, 0

        def __call__(self, candidates, base=None):
            return np.ones((len(candidates), 8)), np.ones((len(candidates), 8))

        def score(self, batches, candidates, base=None):
            return self(candidates)

        def price(self, candidates, base=None):
            return np.ones(len(candidates), np.int64), 0

    made = graph()
    with pytest.raises(AutoslimError, match="slimming=taylor needs batches of held-out images, not scores"):
        search(made, Levels.spaced(made, 4, 0.25, 2), Scores(), method="taylor", target=0.5)


def test_trust_pulls_drops_towards_their_mean_over_the_groups():
    made = graph(widths=(16, 16, 8))
    levels = Levels.spaced(made, 4, 0.25, 4)
    drops = [np.linspace(1.0, 0.0, len(widths)) * (g + 1.0) for g, widths in enumerate(levels.widths)]
    free = [g for g, widths in enumerate(levels.widths) if len(widths) > 1]
    shares = [np.array(widths) / widths[-1] for widths in levels.widths]
    none, half, whole = (shrunk(drops, levels, trust) for trust in (0.0, 0.5, 1.0))
    for group in free:
        common = [
            sum(float(np.interp(x, shares[o], drops[o])) for o in free) / len(free) for x in shares[group]
        ]
        np.testing.assert_array_equal(none[group], drops[group])
        np.testing.assert_allclose(whole[group], common)
        np.testing.assert_allclose(half[group], (drops[group] + np.array(common)) / 2)
        assert half[group][-1] == whole[group][-1] == 0.0  # at full width nothing is lost


def test_trust_keeps_a_group_that_is_judged_too_well_from_being_narrowed_to_the_end():
    made = graph(widths=(16, 16, 16))
    levels, budget = Levels.spaced(made, 8, 0.125, 2), Budget(made)
    drops = [np.linspace(1.0, 0.0, len(widths)) ** 2 for widths in levels.widths]
    drops[1] = drops[1] * 0.01  # as if its channels were worth next to nothing
    narrowest = [
        int(Optimum(budget, levels, trust)(drops, 0.5)[1]) / levels.widths[1][-1] for trust in (0.0, 0.5, 1.0)
    ]
    assert narrowest[0] < narrowest[1] < narrowest[2]
