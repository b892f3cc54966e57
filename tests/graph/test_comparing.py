"""Layers that stay as they are come into the new model as they are; what differs is found, and named."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from building import IMAGE, Reversing, chain, conv, finish
from keras import layers as L
from keras import ops

from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph, LayerRule, keep_whole, register_rule
from autoslim.graph.rules import RULES, WHOLE


class Forgetful(L.Layer):
    """Its configuration leaves out what it computes with; its constructor takes no name."""

    def __init__(self, gain=1.0):
        super().__init__()
        self.gain = gain

    def build(self, shape):
        self.bias = self.add_weight(name="bias", shape=(shape[-1],), initializer="random_normal")
        self.inner = [L.Dense(shape[-1]), L.Dropout(0.5, seed=3)]
        self.inner[0].build(shape)
        self.inner[0].trainable = False

    def call(self, x):
        return self.inner[1](self.inner[0](x)) * self.gain + tf.reverse(self.bias, [0])

    def get_config(self):
        return {}


class Unreadable(Forgetful):
    def get_config(self):
        raise RuntimeError("no")


class Tied(L.Layer):
    """Goes back by another layer's kernel."""

    def __init__(self, source, **kwargs):
        super().__init__(**kwargs)
        self.source = source

    def call(self, x):
        return ops.matmul(ops.flip(x, -1), ops.transpose(self.source.kernel))


class Standardised(L.Conv2D):
    """Computes with a kernel of mean zero."""

    def call(self, x):
        kernel = self.kernel - ops.mean(self.kernel, axis=(0, 1, 2))
        return ops.conv(x, kernel, padding="same") + self.bias


@pytest.fixture
def registered():
    """Rules that a test registers are forgotten after it."""
    rules, whole = dict(RULES), set(WHOLE)
    yield
    RULES.clear(), WHOLE.clear()
    RULES.update(rules), WHOLE.update(whole)


def images(n=3):
    return np.random.default_rng(0).normal(size=(n, *IMAGE)).astype("float32")


def close(a, b):
    return np.max(np.abs(np.asarray(a) - np.asarray(b))) <= 1e-5


@pytest.mark.parametrize("kind", [Forgetful, Unreadable, lambda gain: Reversing(name="r")])
def test_a_whole_layer_is_copied_as_it_is(kind):
    model = chain(conv(6), kind(3.0), conv(5, name="after"))
    graph = ChannelGraph(model)
    small = graph.materialize(graph.widths_from({"after": 2}))
    assert close(small(images()), graph.run(images(), graph.widths_from({"after": 2})))
    whole, same = graph.materialize(), model(images())
    assert close(whole(images()), same)
    assert len(whole.trainable_weights) == len(model.trainable_weights)
    for weight in whole.weights:
        weight.assign(weight + 1.0)
    assert close(model(images()), same) and not close(whole(images()), same)


def test_a_whole_layer_is_initialised_again():
    model = chain(conv(6), Reversing(name="r"), conv(5))
    model.get_layer("r").scale.assign(np.full(6, 7.0))
    new = ChannelGraph(model).materialize(weights=False)
    assert not np.any(new.get_layer("r").scale.numpy() == 7.0)


def test_one_that_can_only_be_kept_says_so(caplog):
    model = chain(conv(6), Forgetful(3.0), conv(5))
    kept = ChannelGraph(model).materialize(weights=False)
    assert kept.layers[2].gain == 3.0


def test_a_shared_variable_stays_shared():
    x = keras.Input((6,))
    first = L.Dense(5, use_bias=False, name="a")
    graph = ChannelGraph(keras.Model(x, Tied(first, name="back")(first(x))))
    small = graph.materialize()
    assert small.get_layer("back").source.kernel is small.get_layer("a").kernel
    assert small.count_params() == 30
    assert small.get_layer("a").kernel is not first.kernel


def test_a_rule_that_does_not_fit_is_found_before_anything_runs(registered):
    register_rule(Standardised, L.Conv2D)
    graph = ChannelGraph(chain(conv(4), Standardised(6, 3, padding="same", name="ws"), conv(5)))
    message = (
        "Layer 'ws', a Standardised, computes something else than its rule does, from the same inputs. Give "
        "a rule that fits: autoslim.register_rule(Standardised, autoslim.LayerRule(...)), or none."
    )
    for use in (lambda: graph.run(images()), graph.materialize, graph.verify):
        with pytest.raises(AutoslimError) as error:
            use()
        assert str(error.value) == message
    assert graph.cost().flops  # asks for no comparison


def test_a_rule_that_fails_is_named(registered):
    class Passing(Reversing):
        pass

    register_rule(Passing, LayerRule(run=lambda op, inputs, weights, call: weights["gone"]))
    RULES[Passing] = RULES[Passing]._replace(weights=lambda op, i, o: {"scale": (i[0],)})
    graph = ChannelGraph(chain(conv(4), Passing(name="p"), conv(5)))
    with pytest.raises(AutoslimError, match="Layer 'p', a Passing, can't be run by its rule: 'gone'"):
        graph.run(images())


def test_a_configuration_that_forgets_is_found_in_the_new_network(registered):
    class Scaled(L.Layer):
        def __init__(self, gain=1.0, **kwargs):
            super().__init__(**kwargs)
            self.gain = gain

        def call(self, x):
            return x * self.gain

        def get_config(self):
            return super().get_config()

    register_rule(Scaled, LayerRule())
    graph = ChannelGraph(chain(conv(4, name="c"), Scaled(3.0, name="mine"), conv(5)))
    assert close(graph.materialize()(images()), graph.run(images()))  # whole: copied as it is
    with pytest.raises(AutoslimError) as error:
        graph.materialize(graph.widths_from({"c": 2}))
    assert str(error.value) == (
        "The new network computes something else than the supernet at its widths, from layer 'mine' on, a "
        "Scaled. Its rule, or its get_config(), leaves out something that it computes with."
    )


def test_what_was_seen_wrongly_is_found_and_can_be_kept_whole(registered):
    class Deceiving(L.Layer):
        """Does something else when it is traced."""

        def call(self, x):
            return x * (2.0 if isinstance(x, keras.KerasTensor) else 3.0)

    model = chain(conv(4), Deceiving(name="mine"), conv(5))
    with pytest.raises(AutoslimError) as error:
        ChannelGraph(model).run(images())
    assert "Layer 'mine', a Deceiving, computes something else than what its call was seen" in str(
        error.value
    )
    keep_whole(Deceiving)
    graph = ChannelGraph(model)
    assert "mine" in graph.uncovered
    assert close(graph.run(images()), model(images()))


@pytest.mark.parametrize(
    ("shape", "dtype", "layers"),
    [
        ((None, None, 3), "float32", lambda: (conv(4), L.GlobalAveragePooling2D())),
        ((6, 6, 3), "uint8", lambda: (L.Rescaling(1 / 255), conv(4), L.Flatten())),
        ((7,), "int32", lambda: (L.Embedding(3, 4), L.Flatten(), L.Dense(4))),
    ],
    ids=["unknown sizes", "bytes", "integers"],
)
def test_inputs_of_every_kind_are_compared(shape, dtype, layers):
    x = y = keras.Input(shape, dtype=dtype)
    for layer in layers():
        y = layer(y)
    graph = ChannelGraph(keras.Model(x, L.Dense(2)(y)))
    graph.verify()
    assert graph.materialize(graph.uniform(0.5)).count_params() < graph.model.count_params()


def test_comparing_changes_no_variable():
    x = keras.Input(IMAGE)
    y = L.Dropout(0.5, seed=1)(L.BatchNormalization()(conv(4)(x), training=True), training=True)
    model = finish(x, y)
    before = [np.array(variable) for variable in model.variables]
    graph = ChannelGraph(model)
    graph.verify()
    graph.materialize()
    assert all(np.array_equal(a, b) for a, b in zip(before, model.variables, strict=True))


def test_a_layer_of_keras_whose_configuration_is_lost_can_be_saved(tmp_path):
    model = chain(conv(4), L.Identity(dtype=keras.DTypePolicy("float32"), name="same"), conv(5))
    with pytest.raises(NotImplementedError):
        model.get_layer("same").get_config()
    small = ChannelGraph(model).materialize()
    small.save(tmp_path / "small.keras")
    assert close(keras.saving.load_model(tmp_path / "small.keras")(images()), model(images()))
