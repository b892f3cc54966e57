"""Networks with more channels than the traced one, on every row of the table of cases."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from building import conv, finish
from cases import graph_of, images_for, random_widths
from test_graph_invariants import assert_close, every_case

from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.graph.widening import widen, wider_widths
from autoslim.slimming.importance import by_magnitude

L = keras.layers
OVER_CHANNELS = (L.LayerNormalization, L.GroupNormalization, L.RMSNormalization, L.UnitNormalization)


NEARLY = (  # they sum channels up, or have neighbours among them
    "channel_means",
    "response_normalisation",
    "attention_by_sums",
    "own_layers_that_are_found_by_trying",
    "local_attention_over_channels",
    "weights_of_layers_own",
    "windows_behind_queries",
)


def exact(name, graph):
    """Whether channels are nowhere normalised together, or summed up but by weights."""
    return name not in NEARLY and not any(isinstance(node.op, OVER_CHANNELS) for node in graph.trace.nodes)


@every_case
def test_the_wide_network_computes_the_same_has_the_widths_and_is_the_network_when_narrowed_fresh(
    name, caplog
):
    graph = graph_of(name)
    images = images_for(graph.model)
    widths = wider_widths(graph, 1.5)
    wide = widen(graph, widths, seed=3)
    own = ChannelGraph(wide)
    assert own.full.tolist() == widths.tolist()
    assert (widths >= graph.full).all() and (widths > graph.full).any()
    assert_close(wide(images), graph.run(images), 1e-5 if exact(name, graph) else np.inf)
    assert not (exact(name, graph) and "answers differently" in caplog.text)
    narrow = np.minimum(random_widths(graph, np.random.default_rng(1)), widths)
    assert own.cost(narrow) == graph.cost(narrow)


@pytest.mark.parametrize("name", ["residual", "squeeze_and_excitation", "grouped", "densenet", "joins"])
def test_what_is_cut_from_it_is_what_is_cut_from_the_network(name):
    """Groups that keep some of their new channels beside others that are cut."""
    graph = graph_of(name)
    images = images_for(graph.model)
    cut = random_widths(graph, np.random.default_rng(2))
    grow = np.array([group.index % 2 == 0 for group in graph.groups])
    wide = ChannelGraph(widen(graph, wider_widths(graph, 2.0), seed=3))
    mixed = wide.materialize(np.where(grow, wide.full, cut))
    assert_close(mixed(images), graph.run(images, np.where(grow, graph.full, cut)))


def test_new_channels_are_made_of_the_weights_of_old_ones_and_read_with_zeros():
    x = keras.Input((6, 6, 3))
    y = conv(5, name="b")(L.BatchNormalization(name="bn")(conv(4, 3, name="a")(x)))
    graph = ChannelGraph(finish(x, y))
    widths = graph.full
    widths[[group.index for group in graph.groups if "a" in group.layers]] = 7
    wide = widen(graph, widths)
    old, new = (
        model.get_layer("a").kernel.numpy().reshape(-1, n) for model, n in ((graph.model, 4), (wide, 7))
    )
    np.testing.assert_array_equal(new[:, :4], old)
    sources = [tuple(np.sort(column)) for column in old.T]
    taken = [sources.index(tuple(np.sort(column))) for column in new.T[4:]]
    assert len(set(taken)) == 3
    for place, source in enumerate(taken, 4):
        assert abs(np.corrcoef(new[:, place], old[:, source])[0, 1]) < 0.9
    read = wide.get_layer("b").kernel.numpy()
    np.testing.assert_array_equal(read[..., :4, :], graph.model.get_layer("b").kernel.numpy())
    assert not read[..., 4:, :].any()


@pytest.mark.parametrize("name", ["residual", "squeeze_and_excitation", "grouped"])
def test_new_channels_learn(name):
    """What reads them at once, and then what makes them."""
    graph = graph_of(name)
    images = images_for(graph.model)
    wide = widen(graph, wider_widths(graph, 2.0))
    before = [variable.numpy() for variable in wide.trainable_variables]
    for _ in range(2):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(wide(images) ** 2)
        variables = wide.trainable_variables
        for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
            variable.assign_sub(0.1 * gradient)
    own = {weight.path: np.array(weight.shape) for weight in graph.model.trainable_variables}
    grown = 0
    for variable, old in zip(wide.trainable_variables, before, strict=True):
        new = np.ones(old.shape, bool)
        new[tuple(slice(0, size) for size in own[variable.path])] = False
        if new.any() and new.ndim == 4:  # the kernels of convolutions; a bias before a norm has no gradient
            grown += 1
            assert (variable.numpy() != old)[new].mean() > 0.5, variable.path
    assert grown > 1


class Mix(L.Layer):
    """A dense layer that holds its own kernel."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")

    def call(self, x):
        return keras.ops.relu(x @ self.kernel)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def test_kernels_that_layers_hold_themselves_read_new_channels_with_zeros():
    """And their norms say which channels are important."""
    x = keras.Input((6, 6, 3))
    graph = ChannelGraph(finish(x, Mix(8, name="mix2")(Mix(6, name="mix1")(conv(4, name="a")(x)))))
    images = images_for(graph.model)
    for headroom in (1.5, 2.0):
        assert_close(widen(graph, wider_widths(graph, headroom))(images), graph.run(images))
    found = by_magnitude(graph)
    for size, reader in ((4, "mix1"), (6, "mix2")):
        (group,) = (g for g in graph.slimmable if g.size == size)
        kernel = graph.model.get_layer(reader).kernel.numpy()
        np.testing.assert_allclose(found[group.index], np.square(kernel).sum(1), rtol=1e-5)


def test_a_kernel_that_sums_over_two_axes_reads_no_new_channel_of_either():
    x = keras.Input((6, 6, 3))
    pooled = [L.GlobalAveragePooling2D()(conv(n, name=name)(x)) for n, name in ((4, "a"), (5, "b"))]
    product = L.EinsumDense("nij,ijk->nk", 6, name="both")(keras.ops.einsum("ni,nj->nij", *pooled))
    graph = ChannelGraph(finish(x, product))
    images = images_for(graph.model)
    assert_close(widen(graph, wider_widths(graph, 2.0))(images), graph.run(images))


def test_where_channels_are_normalised_together_it_computes_something_near_and_says_so(caplog):
    keras.utils.set_random_seed(1)  # it is about one network: how near depends on the weights
    x = keras.Input((6, 6, 3))
    y = conv(12, name="b")(L.LayerNormalization()(conv(16, name="a")(x)))
    graph = ChannelGraph(finish(x, y))
    images = images_for(graph.model)
    own, wide = (np.asarray(m(images)) for m in (graph.model, widen(graph, wider_widths(graph, 1.5))))
    assert np.sqrt(np.mean((own - wide) ** 2)) < 0.5 * own.std()
    assert "widened, answers differently by up to" in caplog.text


def test_fresh_weights_are_drawn_as_the_layers_say(caplog):
    graph = graph_of("residual")
    wide = widen(graph, wider_widths(graph, 2.0), weights=False)
    assert not caplog.messages  # there is nothing to be the same as
    kernel = wide.get_layer("a1").kernel.numpy()
    assert kernel.shape == (3, 3, 16, 12)
    assert len(np.unique(kernel)) > 0.99 * kernel.size  # not copies; a few may be equal by chance


def test_patterns_and_the_divisor():
    graph = graph_of("residual")
    names = [group.name for group in graph.groups]
    found = dict(zip(names, wider_widths(graph, {"a1": 2.0, "stem": 1.3}, 4).tolist(), strict=True))
    assert found["a1"] == 12 and found["stem"] == 12 and found["b1"] == 6
    assert wider_widths(graph, 1.0, 4).tolist() == graph.full.tolist()  # as it is, multiple or not


@pytest.mark.parametrize(
    "headroom, message",
    [
        (0.5, r"headroom of '\*' is 0.5: expected a number of 1 or more"),
        ({"steem": 2}, "headroom of 'steem' matches no layer. Did you mean stem"),
    ],
)
def test_wrong_headroom_is_refused(headroom, message):
    with pytest.raises(AutoslimError, match=message):
        wider_widths(graph_of("residual"), headroom)


def test_widths_that_cannot_be_are_refused():
    graph = graph_of("grouped")
    widths = graph.full
    widths[0] += 1
    with pytest.raises(AutoslimError, match="can't go from 3 to 4 channels: it is frozen"):
        widen(graph, widths)
    widths[0] -= 2
    with pytest.raises(AutoslimError, match="can't go from 3 to 2 channels: it is frozen"):
        widen(graph, widths)
    widths = wider_widths(graph, 2.0)
    free = graph.slimmable[0]
    widths[free.index] = free.size - free.unit
    with pytest.raises(AutoslimError, match=f"Group {free.name!r} can't go from {free.size} to"):
        widen(graph, widths)
