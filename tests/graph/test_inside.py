"""Layers that are made of layers: looked into, or whole with the reason."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from building import IMAGE, chain, conv, finish
from cases import CASES
from keras import layers as L
from keras import ops

from autoslim.graph import ChannelGraph, LayerRule, keep_whole, register_rule


class Block(L.Layer):
    """Convolution, batch norm, dropout, and a sum where the channels fit."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.conv = L.Conv2D(filters, 3, padding="same", name="conv")
        self.norm = L.BatchNormalization(name="norm")
        self.drop = L.Dropout(0.5, name="drop")

    def build(self, shape):
        self.conv.build(shape)
        self.norm.build((*shape[:-1], self.conv.filters))

    def call(self, x, training=None):
        y = self.norm(self.conv(x), training=training)
        y = ops.relu(self.drop(y, training=training))
        return x + y if x.shape[-1] == y.shape[-1] else y


class Tokens(L.Layer):
    """Positions as tokens and back, with the number of images asked for; a block inside, called twice."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.block = Block(filters, name="block")
        self.dense = L.Dense(filters, name="dense")

    def build(self, shape):
        self.block.build(shape)
        self.dense.build((None, self.dense.units))

    def call(self, x):
        x = self.block(self.block(x))
        images, height, width, channels = ops.shape(x)
        y = ops.reshape(x, (images, height * width, channels))
        y = ops.reshape(self.dense(y), (images, -1, width, channels))
        return {"sum": x + y, "tokens": y}


class DropPath(L.Layer):
    def __init__(self, rate=0.5, mixed=False, **kwargs):
        super().__init__(**kwargs)
        self.rate, self.mixed = rate, mixed
        self.seed = keras.random.SeedGenerator(0)

    def call(self, x, training=None):
        if not training:
            return x
        drawn = keras.random.uniform((ops.shape(x)[0], 1, 1, 1), seed=self.seed)
        kept = ops.cast(drawn > self.rate, x.dtype)
        return x * kept + (ops.mean(x, -1, keepdims=True) if self.mixed else 0.0)


def network(*layers, name=None):
    x = keras.Input(IMAGE, name="image")
    y = conv(6, name="first")(x)
    for layer in layers:
        y = layer(y)
        y = y["sum"] if isinstance(y, dict) else y
    return finish(x, y, name)


def free(graph):
    return {group.name: group.size for group in graph.slimmable}


def close(a, b):
    a, b = np.asarray(a), np.asarray(b)
    return np.max(np.abs(a - b)) <= 1e-5 * max(1.0, np.max(np.abs(b)))


@pytest.fixture(scope="module")
def blocks():
    keras.utils.set_random_seed(0)
    return ChannelGraph(network(Block(5, name="a"), Tokens(5, name="t"), DropPath(name="path"), conv(7)))


def images(n=3):
    return np.random.default_rng(0).normal(size=(n, *IMAGE)).astype("float32")


def test_inner_layers_are_nodes_with_their_own_weights(blocks):
    names = [node.name for node in blocks.trace.nodes]
    assert names[:5] == ["first", "a/conv", "a/norm", "a/drop", "a/relu"]
    assert names.count("t/block/conv") == 2 and "t/reshape_2" in names
    layer = blocks.model.get_layer("t")
    node = next(node for node in blocks.trace.nodes if node.name == "t/dense")
    assert node.op is layer.dense and not blocks.uncovered
    assert {"first": 6, "a/conv": 5}.items() <= free(blocks).items()


def test_it_computes_the_same_at_every_width(blocks):
    x = images()
    assert close(blocks.run(x), blocks.model(x))
    for ratio in (0.2, 0.6):
        widths = blocks.uniform(ratio)
        sliced = blocks.run(x, widths)
        assert close(blocks.run(x, widths, execution="mask"), sliced)
        assert close(blocks.materialize(widths)(x), sliced)


def test_the_new_model_is_flat_and_of_keras_alone(blocks, tmp_path):
    graph = ChannelGraph(network(Block(5, name="a"), Tokens(5, name="t")))
    small = graph.materialize(graph.uniform(0.5))
    assert all(type(op).__module__.startswith("keras.") for op in small.operations)
    small.save(tmp_path / "small.keras")
    assert close(keras.saving.load_model(tmp_path / "small.keras")(images()), small(images()))


def test_training_reaches_the_inner_layers(blocks):
    x = images(64)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(blocks.run(x, training=True, batch_statistics=True) ** 2)
    weights = blocks.model.trainable_weights
    assert all(g is not None for g in tape.gradient(loss, [w.value for w in weights]))
    assert not close(blocks.run(x, training=True), blocks.run(x))
    assert not any("training" in node.kwargs for node in blocks.trace.nodes)


@pytest.mark.parametrize("of_model", [False, True])
def test_a_layer_that_a_lambda_finds_outside_is_slimmed_if_the_model_has_its_weights(of_model):
    outside = L.Dense(6, name="outside")
    outside.build((None, 5))
    x = keras.Input((4,))
    y = L.Dense(5, name="first")(x)
    z = L.Lambda(lambda t: ops.relu(outside(t)), name="mine")(y)
    z = L.Add()([z, outside(y)]) if of_model else z
    graph = ChannelGraph(keras.Model(x, L.Dense(3)(z)))
    assert free(graph) == ({"first": 5, "mine/outside": 6} if of_model else {})
    reason = "can't be looked into: it calls outside, whose weights are not the model's: Keras trains none"
    assert of_model or reason in graph.uncovered["mine"]
    values = np.random.default_rng(0).normal(size=(2, 4)).astype("float32")
    widths = graph.uniform(0.6)
    small = graph.materialize(widths)
    assert close(graph.run(values), graph.model(values)) and close(small(values), graph.run(values, widths))
    trained = sum(np.size(weight) for weight in small.trainable_weights)
    narrow, whole = 4 * 3 + 3 + 3 * 4 + 4 + 4 * 3 + 3, 4 * 5 + 5 + 6 * 3 + 3
    assert trained == graph.cost(widths).params == (narrow if of_model else whole)


def test_a_training_flag_of_the_author_holds_inside():
    x = keras.Input(IMAGE)
    graph = ChannelGraph(finish(x, Block(5, name="a")(x, training=True)))
    flags = {node.name: node.training for node in graph.trace.nodes}
    assert (flags["a/norm"], flags["a/drop"], flags["a/conv"]) == (True, True, None)


def test_names_do_not_depend_on_what_was_traced_before():
    model = network(Block(5, name="a"), Tokens(5, name="t"))
    first, second = (ChannelGraph(model) for _ in range(2))
    assert [node.name for node in first.trace.nodes] == [node.name for node in second.trace.nodes]


def test_a_rule_wins_over_looking_inside():
    class Known(Block):
        pass

    register_rule(Known, LayerRule(weights=lambda op, inputs, outputs: {}))
    graph = ChannelGraph(network(Known(6, name="a")))
    assert [node.name for node in graph.trace.nodes][:2] == ["first", "a"]


class Branches(L.Layer):
    """Sums by a layer that its call makes; one of its Sequentials was built for images of another size."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.pad = L.ZeroPadding2D(1)
        self.narrow, self.wide = (
            keras.Sequential([L.Conv2D(filters, size, strides=2), L.BatchNormalization()]) for size in (1, 3)
        )

    def build(self, shape):
        for branch in (self.narrow, self.wide):
            branch.build(self.pad.compute_output_shape(shape))

    def call(self, x, training=None):
        return L.Add()([self.narrow(x, training=training), self.wide(self.pad(x), training=training)])


def test_layers_made_in_a_call_and_a_sequential_for_other_sizes_are_looked_into():
    graph = ChannelGraph(network(Branches(5, name="mine"), conv(7, name="last")))
    assert not graph.uncovered and set(free(graph).values()) == {6, 5, 7}
    widths = graph.uniform(0.5)
    assert close(graph.materialize(widths)(images()), graph.run(images(), widths))
    assert not close(graph.run(images(64), training=True, batch_statistics=True), graph.run(images(64)))


def test_a_sequential_in_a_layer_that_stays_whole_is_copied_with_its_weights():
    class Kept(Branches):
        """Its get_config() leaves the filters out, so that it can't be made again."""

    keep_whole(Kept)
    graph = ChannelGraph(network(Kept(5, name="mine"), conv(7, name="last")))
    small = graph.materialize()
    own, copied = (model.get_layer("mine") for model in (graph.model, small))
    assert close(small(images()), graph.model(images()))
    for variable in copied.variables:
        variable.assign(variable * 0.0)
    assert not close(small(images()), graph.model(images()))
    assert not {id(x) for x in own.variables} & {id(x) for x in copied.variables}


class Weighted(Block):
    def build(self, shape):
        super().build(shape)
        self.gain = self.add_weight(name="gain", shape=(), initializer="ones")

    def call(self, x):
        return super().call(x) * self.gain


class Raw(Block):
    def call(self, x):
        return tf.nn.relu(self.conv(x))


class Reading(Block):
    def call(self, x):
        return self.conv(x) * ops.sum(self.conv.bias)


class Different(Block):
    def call(self, x, training=None):
        return self.conv(x) if training else -self.conv(x)


class Counting(Block):
    def call(self, x):
        return self.conv(x) * ops.cast(ops.shape(x)[0], x.dtype)


class Losing(Block):
    def call(self, x):
        self.add_loss(ops.mean(x))
        return self.conv(x)


class Moving(Block):
    def call(self, x):
        self.norm.moving_mean.assign(self.norm.moving_mean * 2)
        return self.conv(x)


WHOLE = {
    Raw: "its call can't be traced: A KerasTensor cannot be used as input to a TensorFlow function.",
    Reading: "its call computes with the variable",
    Different: "its call does something else in training",
    Counting: "it computes with the number of images",
    Losing: "its call can't be traced: `add_loss()` can only be called",
    Moving: "its call computes with the variable",
}


@pytest.mark.parametrize("kind", WHOLE, ids=lambda kind: kind.__name__)
def test_what_cannot_be_looked_into_stays_whole_and_says_why(kind):
    model = chain(conv(6, name="first"), kind(5, name="mine"), conv(4, name="last"))
    before = [w.numpy() for w in model.weights]
    graph = ChannelGraph(model)
    assert f"a {kind.__name__} layer that can't be looked into: {WHOLE[kind]}" in graph.uncovered["mine"]
    assert free(graph) == {"last": 4}
    assert graph.cost().flops == 36 * 9 * (3 * 6 + 6 * 5 + 5 * 4) + 4 * 4
    assert close(graph.run(images()), model(images()))
    assert len(model.losses) == (kind is Losing)
    if kind is not Moving:
        assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_a_weight_of_a_layer_s_own_is_a_group_with_what_it_scales():
    """A number is a node too, and a new network starts from what the layer's initializer gives."""
    keras.utils.set_random_seed(0)
    model = network(Weighted(5, name="mine"), conv(7, name="last"))
    model.get_layer("mine").gain.assign(3.0)
    graph = ChannelGraph(model)
    assert not graph.uncovered and free(graph) == {"first": 6, "mine/conv": 5, "last": 7}
    small = graph.materialize(graph.uniform(0.5))
    assert close(small(images()), graph.run(images(), graph.uniform(0.5)))
    assert small.get_layer("mine_gain").get_weights() == [[[3.0]]]
    again = graph.materialize(graph.uniform(0.5), weights=False)
    assert again.get_layer("mine_gain").get_weights() == [[[1.0]]]


def test_a_single_position_stays_one_behind_attention(tmp_path):
    """Keras forgets the number of positions inside of attention, and a sum takes it for any."""
    x = keras.Input((4, 6))
    y = L.Dense(8, name="first")(x)
    token = y[:, :1]
    token = ops.squeeze(token + L.MultiHeadAttention(2, 3, name="attention")(token, y), axis=1)
    graph = ChannelGraph(keras.Model(x, L.Dense(4)(token)))
    assert not graph.uncovered and free(graph) == {"first": 8, "attention/query": 3}
    small = graph.materialize(graph.uniform(0.5))
    small.save(tmp_path / "small.keras")
    given = np.random.default_rng(0).normal(size=(3, 4, 6)).astype("float32")
    assert close(keras.saving.load_model(tmp_path / "small.keras")(given), small(given))


def test_a_small_network_with_weights_of_a_layer_s_own_is_slimmed_again():
    small = ChannelGraph(network(Weighted(5, name="mine"), conv(7, name="last"))).materialize()
    graph = ChannelGraph(small)
    assert free(graph) == {"first": 6, "mine_conv": 5, "last": 7}
    widths = graph.uniform(0.5)
    assert close(graph.materialize(widths)(images()), graph.run(images(), widths))


class Token(L.Layer):
    """A token before the positions of each image."""

    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.dense = L.Dense(width)

    def build(self, shape):
        self.dense.build(shape)
        self.token = self.add_weight(name="token", shape=(1, 1, self.dense.units))

    def call(self, x):
        token = ops.tile(self.token, (ops.shape(x)[0], 1, 1))
        return ops.concatenate([token, self.dense(x)], axis=1)


def test_there_may_be_as_many_images_as_channels():
    """Keras takes a sum with a tensor [channels, 1, 1] for one with a bias."""
    x = keras.Input((4, 3))
    graph = ChannelGraph(finish(x, L.Dense(4)(Token(5)(x))))
    assert not graph.uncovered
    given = np.random.default_rng(0).normal(size=(5, 4, 3)).astype("float32")
    for network in (graph.run, graph.materialize()):
        assert close(network(given), graph.model(given))


def test_a_network_with_weights_of_a_layer_s_own_is_saved_without_it(tmp_path):
    graph = ChannelGraph(CASES["weights_of_layers_own"]())
    small = graph.materialize(graph.uniform(0.5))
    assert {type(layer).__module__.split(".")[0] for layer in small.layers} == {"keras"}
    small.save(tmp_path / "small.keras")
    x = np.random.default_rng(0).normal(size=(3, 2, 3, 3)).astype("float32")
    assert close(keras.models.load_model(tmp_path / "small.keras")(x), small(x))


@keras.saving.register_keras_serializable("test_inside")
class ReadsItsWidth(L.Layer):
    """A class token, made as wide as the input by its static shape: where widths are tensors it has none."""

    def build(self, shape):
        self.token = self.add_weight(name="token", shape=(1, 1, shape[-1]))
        self.places = self.add_weight(name="places", shape=(1, shape[1] + 1, shape[-1]))

    def call(self, x):
        token = ops.broadcast_to(self.token, (ops.shape(x)[0], 1, x.shape[-1]))
        return ops.concatenate([token, x], axis=1) + self.places


def test_a_layer_that_reads_its_width_is_not_taken_for_one_that_works_at_any():
    x = keras.Input((4, 6))
    graph = ChannelGraph(finish(x, L.Dense(5)(ReadsItsWidth()(L.Dense(6, name="stem")(x)))))
    assert not graph.uncovered and free(graph)["stem"] == 6
    given = np.random.default_rng(0).normal(size=(3, 4, 6)).astype("float32")
    run = tf.function(lambda images, widths: graph.run(images, widths))
    widths = graph.uniform(0.5)
    assert close(run(given, tf.constant(widths)), graph.materialize(widths)(given))
