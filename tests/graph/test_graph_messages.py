"""What is refused, and the whole text of what is said."""

import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from building import Reversing
from cases import IMAGE, chain, conv, finish, graph_of

from autoslim import LayerRule, register_rule
from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph, layer_costs_csv

L = keras.layers


def refused(message, call, *args, **kwargs):
    with pytest.raises(AutoslimError) as error:
        call(*args, **kwargs)
    assert str(error.value) == message


class Subclassed(keras.Model):
    def call(self, x):
        return x


class Overriding(keras.Model):
    """Functional, but what it computes is not its graph."""

    def call(self, x):
        return 2 * super().call(x)


@pytest.mark.parametrize("kind", [Subclassed, Overriding])
def test_subclassed_models(kind):
    model = kind(name="mine")
    if kind is Overriding:
        x = keras.Input((4,))
        model = kind(x, L.Dense(2)(x), name="mine")
    refused(
        f"Model 'mine' is a {kind.__name__}, not a Keras functional model: its channels can't be traced. "
        "Write its call as a functional graph: x = keras.Input(shape); model = keras.Model(x, "
        "layers_applied_to(x)).",
        ChannelGraph,
        model,
    )


def test_sequential_without_a_shape():
    refused(
        "Sequential model 'plain' has no input shape yet. Begin it with keras.Input(shape).",
        ChannelGraph,
        keras.Sequential([L.Dense(3)], name="plain"),
    )


def test_channels_first():
    x = keras.Input((3, 6, 6))
    y = conv(4, name="c", data_format="channels_first")(x)
    refused(
        "Layer 'c' has data_format='channels_first': channels are slimmed where they are the last axis. "
        "Build the model with data_format='channels_last' (keras.config.set_image_data_format); the layers' "
        "weights have the same shapes in both.",
        ChannelGraph,
        keras.Model(x, y),
    )


def test_freeze_pattern_that_matches_nothing():
    model = chain(conv(4, name="stem_conv"), conv(4, name="head_conv"))
    refused(
        "freeze='stem_conf' matches no layer. Nearest names: stem_conv, head_conv; "
        "stages=[describe] lists all.",
        ChannelGraph,
        model,
        freeze="stem_conf",
    )


def test_mode():
    graph = graph_of("residual")
    refused(
        "unknown execution 'masked'. Did you mean mask? There are: slice, mask.",
        graph.run,
        np.zeros((1, *IMAGE)),
        graph.full,
        execution="masked",
    )


@pytest.mark.parametrize("call", ["run", "cost", "materialize", "layer_costs", "channels"])
def test_impossible_widths(call):
    graph = graph_of("grouped")
    use = getattr(graph, call)
    if call == "run":
        use = lambda widths: graph.run(np.zeros((1, *IMAGE)), widths)  # noqa: E731
    before = [group.name for group in graph.groups].index("before")

    def widths(value, index=before):
        array = graph.full
        array[index] = value
        return array

    refused("Width 0 of group 'before' is not possible: it takes 2 to 8 in multiples of 2.", use, widths(0))
    refused("Width 3 of group 'before' is not possible: it takes 2 to 8 in multiples of 2.", use, widths(3))
    refused("Width 10 of group 'before' is not possible: it takes 2 to 8 in multiples of 2.", use, widths(10))
    name = graph.groups[0].name
    refused(f"Width 2 of group '{name}' is not possible: it is frozen at 3 (model input).", use, widths(2, 0))
    last = len(graph.groups)
    for wrong, shape, kind in (
        (np.ones(last - 1, int), (last - 1,), "int64"),
        (graph.full.astype(float), (last,), "float64"),
        (5, (), "int64"),
        ([[1], [1, 2]], (0,), "float64"),
    ):
        refused(
            f"Widths of shape {shape} and type {kind} were given; expected integers [{last}], "
            "one for each group of graph.groups.",
            use,
            wrong,
        )


def test_an_impossible_width_deep_in_a_batch():
    graph = graph_of("grouped")
    widths = np.broadcast_to(graph.full, (2, 3, len(graph.groups))).copy()
    widths[1, 2, [group.name for group in graph.groups].index("after")] = 6
    refused("Width 6 of group 'after' is not possible: it takes 1 to 5.", graph.cost, widths)


def test_channels_that_dont_exist_or_are_no_numbers():
    graph = graph_of("residual")
    refused("No channel group is named 'stern'. Nearest: stem.", graph.widths_from, {"stern": 4})
    refused(
        "No channel group is named 'zzz'. Nearest: image, stem, a1, b1, logits.",
        graph.widths_from,
        {"zzz": 4},
    )
    for wrong in (4.0, True, "4", None):
        refused(
            f"Width {wrong!r} of group 'stem' is not a whole number of channels.",
            graph.widths_from,
            {"stem": wrong},
        )


def test_resource_and_convention():
    graph = graph_of("residual")
    refused("convention='flops': expected one of macs, with_norm, all.", graph.cost, graph.full, "flops")
    refused("convention='flops': expected one of macs, with_norm, all.", graph.layer_costs, None, "flops")
    refused(
        "resource='latency' is not counted: expected flops, params or memory.", graph.cost().of, "latency"
    )


def test_rules_that_are_none():
    refused("layer_class=4: expected a subclass of keras.layers.Layer.", register_rule, 4, LayerRule())
    refused(
        "rule='pass': expected an autoslim.LayerRule, or a layer class that has a rule.",
        register_rule,
        Bare,
        "pass",
    )
    refused(
        f"rule={L.Lambda!r}: expected an autoslim.LayerRule, or a layer class that has a rule.",
        register_rule,
        Bare,
        L.Lambda,
    )


class Around(L.Layer):
    """A layer that can't be looked into, with another one inside."""

    def __init__(self, inner, **kwargs):
        super().__init__(**kwargs)
        self.inner = inner

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        return tf.identity(self.inner(x))


@pytest.mark.parametrize(
    "name, around", [("l", lambda layer: layer), ("mine/l", lambda x: Around(x, name="mine"))]
)
def test_layers_that_go_on_from_batch_to_batch(name, around):
    x = keras.Input(batch_shape=(2, 3, 4))
    refused(
        f"Layer {name!r} has stateful=True: it goes on from the batch before, so what the network returns "
        "depends on the order of its batches. Build the model with stateful=False, or with the states as "
        "inputs and outputs.",
        ChannelGraph,
        keras.Model(x, around(L.LSTM(3, stateful=True, name="l"))(x)),
    )


def test_layers_with_one_and_the_same_cell():
    x, cell = keras.Input((3, 4)), L.GRUCell(4, name="c")
    refused(
        "Layers 'a' and 'b' have one and the same cell, 'c': Keras can't load a saved network of such "
        "layers. Give each a cell of its own, or call one layer twice.",
        ChannelGraph,
        keras.Model(x, L.Add()([L.RNN(cell, name="a")(x), L.RNN(cell, name="b", go_backwards=True)(x)])),
    )


def test_dynamic_sizes_run_and_have_no_cost_but_parameters():
    x = keras.Input((None, None, 3), name="image")
    graph = ChannelGraph(finish(x, conv(4, name="c")(x)))
    assert graph.run(np.zeros((1, 5, 7, 3)), graph.uniform(0.5)).shape == (1, 4)
    refused(
        "Layer 'c' has the dynamic spatial shape (None, None, None, 4): its cost is not a number. "
        "Build the model with a fixed input shape, or give ChannelGraph an image_shape. "
        "Parameters are known: resource=params.",
        graph.cost().of,
        "flops",
    )
    cost = graph.cost(graph.widths_from({"c": 2}))
    assert cost.flops is None and cost.memory is None
    assert cost.params == 3 * 3 * 3 * 2 + 2 + 2 * 4 + 4
    rows = graph.layer_costs()
    assert rows[0].flops is None and rows[-1].flops == 4 * 4
    assert layer_costs_csv(rows).splitlines()[1].split(",")[-2] == ""
    assert layer_costs_csv(rows).splitlines()[-1] == f"total,,,,,{graph.cost().params}"
    pooled = ChannelGraph(keras.Model(x, L.GlobalAveragePooling2D()(L.ReLU()(x))))
    refused(
        "A tensor of the dynamic shape (None, None, None, 3) has no known size. "
        "Build the model with a fixed input shape, or give ChannelGraph an image_shape. "
        "Parameters are known: resource=params.",
        pooled.cost().of,
        "memory",
    )


def test_images_that_dont_fit():
    graph = graph_of("residual")
    refused(
        "Input 'image' has shape (2, 6, 6, 1); expected ('N', 6, 6, 3), N images.",
        graph.run,
        np.zeros((2, 6, 6, 1)),
    )
    refused(
        "Input 'image' has shape (6, 6, 3); expected ('N', 6, 6, 3), N images.", graph.run, np.zeros(IMAGE)
    )
    refused(
        "1 input tensors were given; the model has 2 inputs: a, b.",
        graph_of("several_inputs").run,
        [np.zeros((1, *IMAGE))],
    )


class Bare(L.Layer):
    """A layer whose constructor's arguments nobody can ask for."""

    def __init__(self, function):
        super().__init__(name="bare")
        self.function = function

    def call(self, x):
        return self.function(x)


def test_a_layer_that_cannot_be_copied():
    class Locked(Reversing):
        def __init__(self, function):
            super().__init__(name="mine")
            self.lock, self.function = threading.Lock(), function

    graph = ChannelGraph(chain(conv(4), Locked(tf.identity), conv(5)))
    with pytest.raises(AutoslimError) as error:
        graph.materialize()
    assert str(error.value) == (
        "Layer 'mine', a Locked, can't be copied into the new model: cannot pickle '_thread.lock' object. "
        "Write a get_config() that returns its constructor's arguments."
    )


def test_a_layer_without_a_configuration_and_without_weights_is_used_as_it_is():
    graph = ChannelGraph(chain(conv(4), Bare(tf.identity), conv(5)))
    images = np.ones((1, *IMAGE), np.float32)
    assert np.allclose(graph.materialize()(images), graph.run(images))
