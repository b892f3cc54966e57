"""Which channels are tied, what is frozen and why, and how groups are named."""

import keras
import numpy as np
import pytest
from building import Reversing
from cases import CASES, IMAGE, chain, conv, finish, graph_of

from autoslim.graph import ChannelGraph

L = keras.layers


def by_name(graph):
    return {group.name: group for group in graph.groups}


def free(graph):
    return {group.name: group.size for group in graph.slimmable}


def test_residual_groups():
    graph = graph_of("residual")
    assert free(graph) == {"stem": 8, "a1": 6, "b1": 6}
    groups = by_name(graph)
    assert groups["image"].frozen == "model input"
    assert groups["logits"].frozen == "model output"
    assert groups["stem"].unit == 1
    assert {"stem", "stem_bn", "a2", "b2"} <= set(groups["stem"].layers)
    assert "a1" in groups["a1"].layers
    assert "stem" not in groups["a1"].layers


def test_grouped_convolution_moves_in_blocks_before_and_behind_it():
    graph = graph_of("grouped")
    assert free(graph) == {"before": 8, "after": 5}
    assert by_name(graph)["before"].unit == 2
    assert {"before", "grouped", "shortcut"} <= set(by_name(graph)["before"].layers)
    widths = graph.widths_from({"before": 6})
    small = graph.materialize(widths)
    assert small.get_layer("grouped").groups == 3
    assert small.get_layer("shortcut").filters == 9


def test_a_group_is_named_and_measured_by_its_first_layer_whatever_joins_it_later():
    x = keras.Input(IMAGE, name="image")
    first, second = conv(8, name="first")(x), conv(8, name="second")(x)
    y = L.Add()([conv(8, groups=4, name="blocks")(first), second])
    group = ChannelGraph(finish(x, y)).slimmable[0]
    assert (group.name, group.size, group.unit) == ("first", 8, 2)

    x = keras.Input(IMAGE, name="image")
    narrow, wide = conv(4, name="narrow")(x), conv(8, name="wide")(x)
    y = L.Add()([L.DepthwiseConv2D(3, depth_multiplier=2, padding="same")(narrow), wide])
    group = ChannelGraph(finish(x, y)).slimmable[0]
    assert (group.name, group.size, group.unit) == ("narrow", 4, 1)

    x = keras.Input(IMAGE, name="image")
    narrow = conv(4, name="narrow")(x)
    wide = conv(8, name="wide")(narrow)
    for _ in range(3):  # so that it comes before the grouped convolution
        wide = L.ReLU()(wide)
    y = L.DepthwiseConv2D(3, depth_multiplier=2, padding="same")(conv(4, groups=2, name="blocks")(narrow))
    graph = ChannelGraph(finish(x, L.Add()([y, wide])))
    names = [node.name for node in graph.trace.nodes]
    assert names.index("narrow") < names.index("wide") < names.index("blocks")
    group = graph.slimmable[0]
    assert (group.name, group.size, group.unit) == ("narrow", 4, 2)


def test_granularities_meet_at_the_coarsest_common_unit():
    (group,) = graph_of("two_granularities").slimmable
    assert (group.size, group.unit) == (12, 6)


def test_squeeze_and_excitation_has_two_groups():
    assert sorted(free(graph_of("squeeze_and_excitation")).values()) == [3, 8]


def test_a_single_channel_is_frozen():
    graph = graph_of("spatial_attention")
    reasons = [group.frozen for group in graph.groups if group.size == 1]
    assert reasons == ["it has a single channel"]


def test_a_single_block_is_frozen():
    x = keras.Input(IMAGE)
    y = conv(6, name="a")(x)
    y = L.Add()([conv(6, groups=2)(y), conv(6, groups=3)(y)])
    graph = ChannelGraph(finish(x, y))
    assert by_name(graph)["a"].frozen == "its channels form a single block"
    assert not graph.slimmable


def test_concatenations_that_dont_line_up_are_cut_until_they_do():
    graph = graph_of("misaligned_concatenations")
    pieces = {tuple(sorted({*"abcd"} & set(g.layers))): g for g in graph.slimmable if "join" in g.layers}
    assert {layers: group.size for layers, group in pieces.items()} == {
        ("a", "c"): 4,
        ("b", "c"): 2,
        ("b", "d"): 4,
    }
    widths = graph.widths_from({group.name: group.size - 1 for group in pieces.values()})
    small = graph.materialize(widths)
    assert [small.get_layer(name).filters for name in "abcd"] == [3, 4, 4, 3]


def test_a_convolution_that_is_added_to_a_concatenation_is_cut():
    x = keras.Input(IMAGE)
    y = L.Concatenate()([conv(4, name="a")(x), conv(6, name="b")(x)])
    y = L.Add(name="join")([conv(10, name="whole")(x), y])
    y = L.Add()([conv(10, name="later")(x), y])
    graph = ChannelGraph(finish(x, y))
    assert list(free(graph).values()) == [4, 6]
    assert all({"whole", "join", "later"} <= set(group.layers) for group in graph.slimmable)
    frozen = ChannelGraph(finish(x, y), freeze="later")
    assert not frozen.slimmable


def test_cuts_that_are_not_possible_freeze():
    """Blocks of four channels, which stay whole, beside three and five."""
    x = keras.Input(IMAGE)
    y = L.Concatenate()([conv(3, name="a")(x), conv(5, name="b")(x)])
    y = L.Add(name="join")([conv(8, groups=2, name="whole")(conv(4, name="before")(x)), y])
    graph = ChannelGraph(finish(x, y))
    assert not graph.slimmable
    assert by_name(graph)["a"].frozen == "join joins concatenations whose pieces don't line up"


def test_a_split_cuts_what_it_splits():
    graph = graph_of("split_halves")
    assert free(graph) == {"first": 6, "a": 3, "a#3": 4, "b": 5}
    assert by_name(graph)["a#2"].frozen == "it has a single channel"
    widths = graph.widths_from({"a": 2, "a#3": 2})
    assert graph.materialize(widths).get_layer("a").filters == 5


def test_concatenations_that_line_up_are_tied_piece_by_piece():
    x = keras.Input(IMAGE)
    left = L.Concatenate()([conv(4, name="a")(x), conv(6, name="b")(x)])
    right = L.Concatenate()([conv(4, name="c")(x), conv(6, name="d")(x)])
    graph = ChannelGraph(finish(x, L.Add()([left, right])))
    assert sorted(free(graph).values()) == [4, 6]
    assert [{*"abcd"} & set(group.layers) for group in graph.slimmable] in (
        [{"a", "c"}, {"b", "d"}],
        [{"b", "d"}, {"a", "c"}],
    )


def test_shared_layers_and_shared_reshapes_tie_their_calls():
    assert free(graph_of("shared_layer")) == {"first": 6}
    assert list(free(graph_of("shared_reshape")).values()) == [6]


def test_a_shared_layer_without_weights_ties_nothing():
    x = keras.Input(IMAGE)
    relu = L.ReLU()
    graph = ChannelGraph(finish(x, L.Concatenate()([relu(conv(4)(x)), relu(conv(6)(x))])))
    assert sorted(free(graph).values()) == [4, 6]


def test_nested_layers_carry_the_names_of_the_models_around_them():
    graph = graph_of("nested_deeper")
    assert {node.name for node in graph.trace.nodes} >= {"middle/innermost/conv", "middle/conv"}
    assert "middle/conv" in free(graph)


def test_a_model_output_inside_is_frozen():
    graph = graph_of("several_outputs")
    assert by_name(graph)["seen"].frozen == "model output"
    assert free(graph) == {"inside": 7}


def test_freeze_patterns():
    model = CASES["residual"]()
    graph = ChannelGraph(model, freeze=("a*",))
    assert free(graph) == {"b1": 6}  # a2 is added to the stem
    assert by_name(graph)["a1"].frozen == "matches 'a*'"
    assert by_name(graph)["stem"].frozen == "matches 'a*'"
    assert free(ChannelGraph(model, freeze="stem_bn")) == {"a1": 6, "b1": 6}
    assert free(ChannelGraph(model, freeze=["[ab]1", "stem"])) == {}
    assert list(free(ChannelGraph(CASES["nested_deeper"](), freeze=("middle/*",))).values()) == [5]


def test_a_layer_without_a_rule_freezes_what_it_touches_and_is_told_once(caplog):
    model = CASES["uncovered_in_the_middle"]()
    graph = ChannelGraph(model)
    ((name, reason),) = graph.uncovered.items()
    assert name == "norm"
    assert reason.startswith(
        "a Reversing layer that can't be looked into: its call can't be traced: A KerasTensor"
    )
    assert free(graph) == {"after": 5}
    assert by_name(graph)["before"].frozen == f"no rule covers norm, {reason}"
    graph.run(np.zeros((1, *IMAGE)), graph.full)
    graph.cost()
    assert [record.getMessage() for record in caplog.records] == [
        f"No rule covers these layers; the channels they touch keep their full width: norm ({reason}). "
        "A rule (autoslim.register_rule) would say which channels each ties, where they stand in its "
        "weights, and how it runs with fewer."
    ]


def test_many_layers_without_a_rule_are_told_in_one_line(caplog):
    layers = [layer for i in range(7) for layer in (conv(2), Reversing(name=f"n{i}"))]
    ChannelGraph(chain(*layers))
    (record,) = caplog.records
    assert record.getMessage().split(". A rule")[0].endswith(" and 2 more, see graph.uncovered")


def test_preprocessing_at_the_input_is_not_told(caplog):
    normalization = L.Normalization(name="normalize")
    normalization.adapt(np.random.default_rng(0).normal(2.0, 3.0, (20, *IMAGE)))
    graph = ChannelGraph(
        chain(L.RandomFlip(), L.Rescaling(1 / 255), normalization, L.ZeroPadding2D(), conv(6, name="conv"))
    )
    assert not caplog.records
    assert list(graph.uncovered.values()) == ["a RandomFlip layer"]
    assert free(graph) == {"conv": 6}


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (
            L.BatchNormalization(axis=1, name="bn"),
            "a BatchNormalization layer with normalisation over axis 1",
        ),
        (
            L.BatchNormalization(renorm=True, name="bn"),
            "a BatchNormalization layer with weights that its rule doesn't know (bn/moving_stddev)",
        ),
        (L.BatchNormalization(dtype="float64", name="bn"), "a BatchNormalization layer with float64"),
        (L.Reshape((12, 4, 6), name="r"), "a Reshape layer with reshaping (6, 6, 8) to (12, 4, 6)"),
        (
            L.Dropout(0.1, noise_shape=(None, 1, 1, 8), name="d"),
            "a Dropout layer with noise_shape=(None, 1, 1, 8)",
        ),
        (
            L.Rescaling(np.ones((6, 8)), name="scale"),
            "a Rescaling layer with a scale or an offset of shape (6, 8)",
        ),
        (
            L.Normalization(axis=(1, -1), mean=0.0, variance=1.0, name="n"),
            "a Normalization layer with statistics along axes (1, -1)",
        ),
        (
            L.GroupNormalization(2, axis=1, name="gn"),
            "a GroupNormalization layer with normalisation over axis 1",
        ),
        (
            L.Conv2DTranspose(4, 3, dilation_rate=2, name="up"),
            "a Conv2DTranspose layer with dilation",
        ),
        (
            conv(4, activation=L.PReLU(name="inner"), name="c"),
            "a Conv2D layer with the activation inner, a layer that may make weights later",
        ),
    ],
    ids=lambda value: "" if isinstance(value, str) else type(value).__name__,
)
def test_settings_that_a_rule_does_not_cover(layer, reason):
    graph = ChannelGraph(chain(conv(8, name="before"), layer, conv(5, name="after")))
    assert graph.uncovered == {layer.name: reason}
    assert free(graph) == {"after": 5}


def test_lora_weights_are_not_overlooked():
    layer = L.Dense(6, name="dense")
    model = chain(conv(8), L.GlobalAveragePooling2D(), layer, L.Dense(5, name="next"))
    layer.enable_lora(2)
    graph = ChannelGraph(model)
    assert graph.uncovered == {
        "dense": "a Dense layer with weights that its rule doesn't know (dense/kernel)"
    }
    assert free(graph) == {"next": 5}


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (
            lambda y: keras.ops.sum(y, axis=(0, 1)),
            "a Sum operation with axis=(0, 1): over the images",
        ),
        (
            lambda y: keras.ops.cast(keras.ops.argmax(y, axis=-1), "float32"),
            "a Argmax operation with axis=-1: a place among the channels",
        ),
        (
            lambda y: keras.ops.flip(y, axis=-1),
            "a Flip operation with axis=-1: the images or the channels",
        ),
        (
            lambda y: keras.ops.take(y, np.array([1, 0]), axis=3),
            "a Take operation with axis=3: the images or the channels",
        ),
        (
            lambda y: keras.ops.pad(y, ((0, 0), (0, 0), (0, 0), (0, 1)), mode="reflect"),
            "a Pad operation with channels that are padded with something else than zeros (mode='reflect')",
        ),
        (
            lambda y: keras.ops.split(L.GroupNormalization(1)(conv(8, groups=2)(y)), [2], axis=-1)[0],
            "a Split operation with channels that are split where they can't be cut",
        ),
        (lambda y: y[..., ::2], "a GetItem operation with every 2th of the channels"),
        (
            lambda y: y[..., 1],
            "a GetItem operation with an index of a single channel; a slice of one can be followed",
        ),
        (lambda y: y[:2, :], "a GetItem operation with an index into the images"),
        (lambda y: keras.ops.reshape(y, (2, -1, 8)), "a Reshape operation with the batch's axis"),
        (lambda y: keras.ops.diff(y, axis=-1), "a Diff operation"),
    ],
)
def test_operations_that_cannot_be_followed(function, reason):
    x = keras.Input(IMAGE)
    y = function(conv(8, name="before")(x))
    graph = ChannelGraph(keras.Model(x, conv(5, name="after")(keras.ops.reshape(y, (-1, 1, 1, 1)))))
    assert next(iter(graph.uncovered.values())) == reason
    assert not graph.slimmable
    images = np.ones((1, *IMAGE), "float32")
    np.testing.assert_allclose(graph.run(images), graph.model(images), 1e-4, 1e-6)


def test_blocks_across_concatenated_tensors_are_not_followed():
    x = keras.Input(IMAGE)
    y = L.Concatenate()([conv(3, name="a")(x), conv(5, name="b")(x)])
    graph = ChannelGraph(finish(x, L.GroupNormalization(4, name="norm")(y)))
    assert graph.uncovered == {
        "norm": "a GroupNormalization layer with 4 blocks of channels across concatenated tensors"
    }
    x = keras.Input((4, 4, 4, 4))
    graph = ChannelGraph(finish(x, L.Conv3D(4, 2, groups=2, name="c")(L.Conv3D(4, 2)(x))))
    assert graph.uncovered == {"c": "a Conv3D layer with grouped convolution in three dimensions"}


def test_blocks_are_cut_between_them():
    graph = graph_of("cut_blocks")
    assert [(group.size, group.unit) for group in graph.slimmable] == [(6, 2)]
    assert not graph.uncovered
    assert [group.frozen for group in graph.groups if group.size == 2] == ["its channels form a single block"]


def test_group_normalisation_moves_in_blocks():
    graph = graph_of("group_norms")
    units = {group.name: group.unit for group in graph.slimmable}
    assert [units[name] for name in ("blocks", "all", "each", "six")] == [2, 1, 1, 2]
    small = graph.materialize(graph.widths_from({"blocks": 6, "each": 4}))
    assert [layer.groups for layer in small.layers if isinstance(layer, L.GroupNormalization)][:3] == [
        3,
        1,
        4,
    ]


def test_constants_that_are_wider_than_what_they_meet_are_followed():
    x = keras.Input(IMAGE)
    y = conv(1, name="c")(conv(5, name="b")(x)) * np.arange(4, dtype="float32")
    graph = ChannelGraph(finish(x, y))
    widths, images = graph.uniform(0.5), np.ones((1, *IMAGE))
    assert not graph.uncovered and free(graph) == {"b": 5}
    assert np.allclose(graph.materialize(widths)(images), graph.run(images, widths), 1e-4, 1e-5)


def test_channels_that_stand_on_another_axis_are_frozen_where_that_is_positions():
    x = keras.Input((6, 3))
    y = L.Permute((2, 1))(L.Conv1D(5, 1, name="a")(x))
    graph = ChannelGraph(finish(x, L.Conv1D(4, 3, name="b")(y)))  # its output is narrower than its input
    assert by_name(graph)["a"].frozen == "b takes axis 1, on which they stand, for positions"
    assert free(graph) == {"b": 4}


def test_heads_keep_their_number_and_move_together():
    graph = graph_of("attention_by_sums")
    groups = {name: group for group in graph.slimmable for name in group.layers}
    assert groups["q"] is groups["k"] and groups["q"].size == 4
    assert groups["v"] is not groups["q"] and groups["v"].size == 5
    small = graph.materialize(graph.widths_from({"q": 2, "v": 3}))
    assert [tuple(small.get_layer(name).kernel.shape[1:]) for name in "qkv"] == [(2, 2), (2, 2), (2, 3)]


class Kernel(L.Layer):
    def build(self, shape):
        self.kernel = self.add_weight(name="kernel", shape=(shape[-1], shape[-1]))

    def call(self, x):
        return keras.ops.matmul(x, self.kernel)


class Forgetful(L.Layer):
    """Its configuration lacks the factor, so that a narrower one computes something else."""

    def __init__(self, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def build(self, shape):
        self.scale = self.add_weight(name="scale", shape=(shape[-1],))

    def call(self, x):
        return x * self.scale * self.factor

    def get_config(self):
        return {"name": self.name}


class Noisy(Forgetful):
    def call(self, x, training=False):
        return x * self.scale + float(training)


def test_an_own_layer_that_does_something_else_in_training_keeps_its_channels():
    graph = ChannelGraph(chain(conv(6, name="before"), Noisy(), conv(5, name="after")))
    assert free(graph) == {"after": 5}
    assert by_name(graph)["before"].frozen.endswith("its call does something else in training")


@pytest.mark.parametrize("layer", [Kernel, lambda: Forgetful(3.0)], ids=["mixes", "forgets"])
def test_own_layers_that_no_trial_explains_are_looked_into(layer):
    graph = ChannelGraph(chain(conv(6, name="before"), layer(), conv(5, name="after")))
    assert not graph.uncovered and {"before", "after"} <= set(free(graph))
    widths, images = graph.uniform(0.5), np.random.default_rng(0).normal(size=(2, *IMAGE))
    assert np.allclose(graph.materialize(widths)(images), graph.run(images, widths), 1e-4, 1e-5)


def test_trying_a_layer_leaves_its_weights():
    layer = Forgetful()
    model = chain(conv(6, name="before"), layer, conv(5, name="after"))
    before = np.asarray(layer.scale)
    assert free(ChannelGraph(model)) == {"before": 6, "after": 5}
    np.testing.assert_array_equal(layer.scale, before)


def test_zeros_that_are_appended_can_be_slimmed():
    graph = graph_of("padded_shortcut")
    (added,) = [g for g in graph.slimmable if g.size == 3]
    small = graph.materialize(graph.widths_from({added.name: 1}))
    shapes = [layer.output.shape[-1] for layer in small.layers if isinstance(layer, L.BatchNormalization)]
    assert shapes == [7]


def mixing(x):
    return x / keras.ops.sum(x * x, axis=-1, keepdims=True)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (conv(6, activation="softmax", name="c"), "softmax over the channels in c"),
        (conv(6, activation=L.Softmax(name="s"), name="c"), "s over the channels in c"),
        (conv(6, activation=mixing, name="c"), "mixing over the channels in c"),
        (L.Dense(6, activation="sparsemax", name="c"), "sparsemax over the channels in c"),
    ],
)
def test_activations_that_mix_channels_freeze_them(layer, reason):
    graph = ChannelGraph(chain(layer, L.Softmax(axis=(1, 2)), conv(5, name="after")))
    assert by_name(graph)["c"].frozen == reason
    assert free(graph) == {"after": 5}


def test_softmax_layers_freeze_their_channels_and_are_covered():
    graph = ChannelGraph(
        chain(conv(6, name="a"), L.Activation("softmax", name="s"), conv(5, name="b"), L.Softmax(name="t"))
    )
    assert by_name(graph)["a"].frozen == "softmax over the channels in s"
    assert by_name(graph)["b"].frozen == "softmax over the channels in t"
    assert not graph.uncovered


def test_uniform_widths():
    graph = graph_of("grouped")
    assert graph.channels(graph.uniform(0.5)) == {"before": 4, "after": 2}
    assert graph.channels(graph.uniform(1.0)) == graph.channels(graph.full)
    assert graph.channels(graph.uniform(0.0)) == {"before": 2, "after": 1}
    assert graph.uniform(0.5).dtype == np.int32


def test_widths_from_channels_and_back():
    graph = graph_of("residual")
    widths = graph.widths_from({"a1": 2, "stem": np.int64(3)})
    assert graph.channels(widths) == {"stem": 3, "a1": 2, "b1": 6}
