"""Running: statistics, training, tracing, precision, inputs; and models that users really have."""

import contextlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from cases import CASES, IMAGE, chain, conv, draw_weights, finish, graph_of, images_for, random_widths
from test_graph_invariants import assert_close

from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.graph.materialize import own_batch_norms

L = keras.layers


def noisy(count=5, seed=0):
    return np.random.default_rng(seed).normal(2.0, 3.0, (count, *IMAGE)).astype("float32")


@contextlib.contextmanager
def weights_kept(model):
    """Put the weights back that a training call changes: moving statistics."""
    before = [w.value.numpy() for w in model.weights]
    try:
        yield
    finally:
        for weight, value in zip(model.weights, before, strict=True):
            weight.assign(value)


# -- batch statistics --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["residual", "densenet", "batch_norms", "dense_on_maps", "nested"])
def test_batch_statistics_at_full_width_are_a_keras_training_call(name):
    graph = graph_of(name)
    images = images_for(graph.model, count=6)
    with weights_kept(graph.model):
        own = graph.run(images, batch_statistics=True)
        assert_close(own, graph.model(images, training=True), tolerance=1e-4)


def test_recorded_statistics_are_those_of_the_batch_in_float64():
    x = keras.Input(IMAGE)
    y = conv(6, name="conv")(x)
    norm = L.BatchNormalization(name="bn")
    graph = ChannelGraph(finish(x, norm(y)))
    widths = graph.widths_from({"conv": 4})
    outputs, statistics = graph.run_with_statistics(noisy(), widths)
    ((layer, axis, mean, variance),) = statistics
    assert layer is norm
    assert axis.active(widths) == 4
    inner = np.asarray(keras.Model(x, y)(noisy()), np.float64)[..., :4]
    assert_close(mean, inner.mean((0, 1, 2)))
    assert_close(variance, inner.var((0, 1, 2)))
    assert not graph.run_with_statistics(noisy(), widths, batch_statistics=False)[1]


def test_running_changes_no_weight():
    graph = graph_of("densenet")
    before = [w.value.numpy() for w in graph.model.weights]
    graph.run(images_for(graph.model), graph.uniform(0.5), batch_statistics=True, training=True)
    for weight, value in zip(graph.model.weights, before, strict=True):
        np.testing.assert_array_equal(weight.value.numpy(), value)


def normalises_with_its_batch(graph, **kwargs):
    """Whether the only batch norm of a graph, which its output is, used its batch's statistics."""
    return abs(np.mean(np.asarray(graph.run(noisy(), **kwargs)))) < 1e-3


@pytest.mark.parametrize(
    ("asked", "expected"), [(None, (False, True)), (False, (False, False)), (True, (True, True))]
)
def test_training_that_the_author_wrote_at_a_layer_holds(asked, expected):
    x = keras.Input(IMAGE)
    norm = L.BatchNormalization()
    y = norm(x, training=asked)
    graph = ChannelGraph(keras.Model(x, y))
    assert expected == tuple(normalises_with_its_batch(graph, batch_statistics=own) for own in (False, True))
    assert_close(graph.materialize()(noisy()), graph.model(noisy()))


def test_training_that_the_author_wrote_at_a_nested_model_holds_for_all_in_it():
    """The usual way to keep a pretrained network's statistics."""
    i = keras.Input(IMAGE)
    innermost = keras.Model(i, L.BatchNormalization()(i))
    middle = keras.Sequential([keras.Input(IMAGE), innermost, L.Dropout(0.5)])
    x = keras.Input(IMAGE)
    graph = ChannelGraph(keras.Model(x, middle(x, training=False)))
    assert not normalises_with_its_batch(graph, batch_statistics=True)
    assert_close(graph.run(noisy(), batch_statistics=True, training=True), graph.model(noisy()))


def test_a_batch_norm_that_is_not_trainable_keeps_its_statistics():
    x = keras.Input(IMAGE)
    norm = L.BatchNormalization()
    graph = ChannelGraph(keras.Model(x, norm(x)))
    assert normalises_with_its_batch(graph, batch_statistics=True)
    norm.trainable = False
    assert not normalises_with_its_batch(graph, batch_statistics=True)
    assert not graph.materialize().layers[-1].trainable


def test_training_switches_dropout_on():
    graph = graph_of("noise")
    images = images_for(graph.model)
    assert_close(graph.run(images), graph.run(images))
    assert np.any(np.asarray(graph.run(images, training=True)) != np.asarray(graph.run(images)))


# -- tracing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["slice", "mask"])
def test_one_trace_serves_twenty_width_configurations(mode):
    graph = graph_of("densenet")

    @tf.function
    def step(images, widths):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(graph.run(images, widths, batch_statistics=True, execution=mode))
        return loss, tape.gradient(loss, [w.value for w in graph.model.trainable_weights])

    images = tf.constant(images_for(graph.model))
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(20):
        widths = random_widths(graph, rng)
        seen.add(tuple(widths))
        step(images, tf.constant(widths))
    assert len(seen) > 10
    assert step.experimental_get_tracing_count() == 1


def test_masked_shapes_are_static():
    graph = graph_of("densenet")
    shapes = []

    @tf.function(input_signature=[tf.TensorSpec((2, *IMAGE)), tf.TensorSpec((len(graph.groups),), tf.int32)])
    def run(images, widths):
        y = graph.run(images, widths, execution="mask")
        shapes.append(y.shape.as_list())
        return y

    concrete = run.get_concrete_function()
    assert shapes == [[2, 4]]
    for operation in concrete.graph.get_operations():
        if operation.type in ("Conv2D", "FusedBatchNormV3", "MatMul"):
            assert operation.outputs[0].shape.is_fully_defined(), operation.name


def test_sliced_shapes_are_static_but_for_the_channels():
    graph = graph_of("residual")

    @tf.function(input_signature=[tf.TensorSpec((2, *IMAGE)), tf.TensorSpec((len(graph.groups),), tf.int32)])
    def run(images, widths):
        return graph.run(images, widths)

    operations = run.get_concrete_function().graph.get_operations()
    shapes = [o.outputs[0].shape.as_list() for o in operations if o.type in ("Conv2D", "FusedBatchNormV3")]
    assert shapes and all(shape[:3] == [2, 6, 6] for shape in shapes)


def test_slicing_skips_the_work():
    """What is traced at half the width multiplies tensors of half the width."""
    graph = graph_of("residual")
    widths = graph.uniform(0.5)
    run = tf.function(lambda images: graph.run(images, widths))
    concrete = run.get_concrete_function(tf.TensorSpec((1, *IMAGE)))
    done = 0
    for operation in concrete.graph.get_operations():
        if operation.type in ("Conv2D", "MatMul"):
            kernel = operation.inputs[1].shape.as_list()
            positions = operation.outputs[0].shape.as_list()[:-1]
            done += int(np.prod(kernel)) * int(np.prod(positions))
    assert done == graph.cost(widths).flops < graph.cost().flops / 2


def test_widths_as_list_array_tensor_or_variable():
    graph = graph_of("residual")
    images = images_for(graph.model)
    widths = graph.uniform(0.5)
    expected = graph.run(images, widths)
    for given in (widths.tolist(), widths.astype(np.int64), tf.constant(widths), tf.Variable(widths)):
        assert_close(graph.run(images, given), expected)


def test_weights_that_change_after_the_trace_are_seen():
    x = keras.Input(IMAGE)
    graph = ChannelGraph(finish(x, conv(4, name="c")(x)))
    run = tf.function(graph.run)
    widths = tf.constant(graph.uniform(0.5))
    images = tf.constant(noisy())
    before = run(images, widths)
    for weight in graph.model.weights:
        weight.assign(weight * 2.0 + 0.1)
    after = run(images, widths)
    assert np.max(np.abs(after - before)) > 0.1
    assert_close(after, graph.materialize(graph.uniform(0.5))(images))


def test_under_xla_masked():
    graph = graph_of("residual")
    images = tf.constant(images_for(graph.model))
    run = tf.function(lambda i, w: graph.run(i, w, execution="mask", batch_statistics=True), jit_compile=True)
    widths = graph.uniform(0.5)
    assert_close(run(images, tf.constant(widths)), graph.run(images, widths, batch_statistics=True), 1e-4)


# -- inputs, outputs, precision ----------------------------------------------------------------------


def test_outputs_have_the_structure_of_the_model():
    graph = graph_of("several_outputs")
    outputs = graph.run(images_for(graph.model), graph.uniform(0.5))
    assert list(outputs) == ["main", "again", "aux", "inner"]
    small = graph.materialize(graph.uniform(0.5))
    assert list(small.output) == ["main", "again", "aux", "inner"]


def test_inputs_by_name():
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    y = L.Dense(2)(L.Subtract()([L.Dense(6)(a), L.Dense(6)(b)]))
    graph = ChannelGraph(keras.Model({"b": b, "a": a}, y))
    given = {"a": np.ones((2, 4)), "b": np.full((2, 3), 2.0)}
    assert_close(graph.run(given), graph.model(given))
    assert_close(graph.materialize()(given), graph.model(given))


def test_images_of_other_types_are_converted():
    graph = graph_of("residual")
    images = np.random.default_rng(0).integers(0, 255, (2, *IMAGE))
    expected = graph.model(images.astype("float32"))
    for dtype in ("uint8", "int64", "float64", "float16"):
        assert_close(graph.run(images.astype(dtype)), expected, tolerance=1e-4)


def test_preprocessing_of_bytes_and_a_nested_network():
    """uint8 in, Rescaling and Normalization, then a network of its own: what transfer learning looks like."""
    normalization = L.Normalization(name="normalize")
    normalization.adapt(noisy(20))
    i = keras.Input(IMAGE)
    base = keras.Model(i, L.BatchNormalization()(conv(6, name="conv")(i)), name="base")
    x = keras.Input(IMAGE, dtype="uint8")
    y = base(normalization(L.Rescaling(1 / 255)(x)), training=False)
    model = finish(x, y)
    draw_weights(model)
    normalization.adapt(noisy(20))
    graph = ChannelGraph(model)
    images = np.random.default_rng(0).integers(0, 255, (2, *IMAGE)).astype("uint8")
    assert_close(graph.run(images), model(images))
    widths = graph.uniform(0.5)
    small = graph.materialize(widths)
    assert small.input.dtype == "uint8"
    assert_close(graph.run(images, widths), graph.run(images, widths, execution="mask"))
    assert_close(graph.run(images, widths), small(images))
    direct = keras.Input(IMAGE, dtype="uint8")
    graph = ChannelGraph(finish(direct, base(direct)))  # a nested model converts what it is given
    assert_close(graph.run(images), graph.model(images))
    assert_close(graph.run(images), graph.materialize()(images))
    assert not graph.uncovered


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_precision(policy):
    """Also layers that depart from their neighbours': float32 batch norm and logits."""
    keras.utils.set_random_seed(0)
    x = keras.Input(IMAGE)
    y = conv(8, name="a", dtype=policy)(x)
    y = L.ReLU(dtype=policy)(L.BatchNormalization(dtype="float32")(y))
    y = L.Add(dtype=policy)([y, conv(8, dtype=policy, activation="relu")(y)])
    y = L.DepthwiseConv2D(3, dtype=policy)(y)
    if policy != "float64":
        y = L.BatchNormalization(dtype=policy)(y)
    y = L.GlobalAveragePooling2D(dtype=policy)(y)
    model = keras.Model(x, L.Dense(4, dtype="float32", name="logits")(y))
    graph = ChannelGraph(model)
    images = images_for(model)
    tolerance = {"mixed_float16": 5e-3, "mixed_bfloat16": 4e-2, "float64": 1e-5}[policy]
    for batch_statistics in (False, True):
        with weights_kept(model):
            got = graph.run(images, batch_statistics=batch_statistics)
            expected = model(images, training=batch_statistics)
        assert got.dtype == expected.dtype == "float32"
        assert_close(got, expected, tolerance)
    widths = graph.uniform(0.5)
    sliced = graph.run(images, widths)
    assert_close(sliced, graph.run(images, widths, execution="mask"), tolerance)
    small = graph.materialize(widths)
    assert small.get_layer("a").dtype_policy.name == policy
    assert_close(sliced, small(images), tolerance)


# -- materialising -----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras saves with NumPy 2
def closeness(exact, low):
    """Largest difference, as a share of the largest value."""
    pairs = list(zip(keras.tree.flatten(exact), keras.tree.flatten(low), strict=True))
    assert all(a.dtype == b.dtype for a, b in pairs)
    scale = max(float(tf.reduce_max(tf.abs(a))) for a, _ in pairs) + 1e-3
    return max(float(tf.reduce_max(tf.abs(a - b))) for a, b in pairs) / scale


@pytest.mark.parametrize("name", CASES)
def test_a_float32_model_in_low_precision(name):
    """Close to float32, at every width, and float32 comes out."""
    graph = graph_of(name)
    images = images_for(graph.model)
    for widths in (graph.full, random_widths(graph, np.random.default_rng(1))):
        exact = graph.run(images, widths)
        assert 0 < closeness(exact, graph.run(images, widths, precision="mixed_bfloat16")) < 0.1
    if not name.endswith("3d"):  # TensorFlow has no such pooling in float16 on the CPU
        assert closeness(exact, graph.run(images, widths, precision="mixed_float16")) < 0.01


def test_what_runs_in_low_precision():
    """Convolutions, pooling and sums do; statistics, softmax and the weights themselves don't."""
    x = keras.Input((6, 6, 3))
    y = a = keras.layers.ReLU()(keras.layers.BatchNormalization()(keras.layers.Conv2D(8, 3)(x)))
    y = keras.layers.Add()([keras.layers.Dropout(0.3)(keras.layers.Conv2D(8, 1)(y)), a])
    y = keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(keras.layers.MaxPooling2D()(y)))
    model = keras.Model(x, keras.layers.Softmax()(y))
    graph = ChannelGraph(model)

    @tf.function
    def run(images):
        output, statistics = graph.run_with_statistics(images, training=True, precision="mixed_bfloat16")
        return output, [moments for _, _, *moments in statistics]

    concrete = run.get_concrete_function(tf.TensorSpec([4, 6, 6, 3]))
    kinds = {"Conv2D", "MatMul", "Relu", "AddV2", "MaxPool", "FusedBatchNormV3", "Softmax"}
    types = {kind: set() for kind in kinds}
    for op in concrete.graph.get_operations():
        if op.type in kinds and op.outputs[0].shape.rank and op.outputs[0].dtype.is_floating:
            types[op.type].add(op.outputs[0].dtype.name)
    assert types.pop("Softmax") == {"float32"}
    assert types == dict.fromkeys(types, {"bfloat16"})
    output, statistics = run(tf.zeros([4, 6, 6, 3]))
    assert output.dtype == "float32" and all(m.dtype == v.dtype == "float32" for m, v in statistics)
    assert {v.dtype for v in model.weights} == {"float32"}


def test_layers_whose_author_chose_a_type_keep_it():
    x = keras.Input((4,))
    model = keras.Model(x, keras.layers.Dense(3, dtype="float64")(keras.layers.Dense(5)(x)))
    graph = ChannelGraph(model)
    assert graph.run(tf.ones([2, 4]), precision="mixed_bfloat16").dtype == "float64"


def test_unknown_precision():
    graph = ChannelGraph(chain(conv(4)))
    with pytest.raises(
        AutoslimError,
        match=r"unknown precision 'half'\. There are: float32, mixed_float16, mixed_bfloat16\.",
    ):
        graph.run(tf.zeros([1, 6, 6, 3]), precision="half")


def test_a_saved_small_model_loads_without_autoslim(tmp_path):
    images = {}
    for name in ("nested", "densenet", "operations"):
        graph = graph_of(name)
        widths = graph.uniform(0.5)
        small = graph.materialize(widths, name="small")
        small.save(tmp_path / f"{name}.keras")
        images[name] = images_for(graph.model)
        np.savez(tmp_path / f"{name}.npz", x=images[name], y=graph.run(images[name], widths))
    program = (
        "import sys, glob, keras, numpy as np\n"
        "for path in sorted(glob.glob('*.keras')):\n"
        "    data = np.load(path.replace('.keras', '.npz'))\n"
        "    y = np.asarray(keras.models.load_model(path)(data['x']))\n"
        "    assert np.max(np.abs(y - data['y'])) < 1e-4, path\n"
        "assert 'autoslim' not in sys.modules\n"
        "print('loaded')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == "loaded\n", done.stderr


def test_names_of_nested_layers_stay_apart():
    graph = graph_of("nested")
    names = [layer.name for layer in graph.materialize().layers]
    assert {"one_conv", "two_conv", "tail_conv", "tail_relu"} <= set(names)
    assert len(names) == len(set(names))

    i = keras.Input(IMAGE)
    inner = keras.Model(i, conv(3, name="conv")(i), name="a")
    x = keras.Input(IMAGE)
    graph = ChannelGraph(finish(x, conv(4, name="a_conv")(inner(x))))
    assert {"a_conv", "a_conv_2"} <= {layer.name for layer in graph.materialize().layers}


def test_new_weights_are_drawn_and_the_trained_ones_left():
    graph = graph_of("residual")
    small = graph.materialize(weights=False)
    for layer in small.layers:
        if isinstance(layer, L.BatchNormalization):
            np.testing.assert_array_equal(layer.gamma.numpy(), 1.0)
            np.testing.assert_array_equal(layer.moving_variance.numpy(), 1.0)
    kernels = [m.get_layer("stem").kernel.numpy() for m in (small, graph.model)]
    assert np.all(kernels[0] != kernels[1])


def test_the_small_model_shares_nothing_with_the_large_one():
    graph = graph_of("residual")
    small = graph.materialize()
    images = images_for(graph.model)
    expected = np.asarray(graph.run(images))
    for weight in small.weights:
        weight.assign(weight * 0.0)
    assert_close(graph.run(images), expected)


def halved(x):
    return x / 2


def test_lambda_layers_are_looked_into_and_functions_need_not_be_registered():
    x = keras.Input(IMAGE)
    y = L.Lambda(lambda t: t * 2.0 + 1.0, name="scale")(x)
    y = conv(6, activation=halved)(y)
    y = L.Lambda(halved, name="half")(y)
    graph = ChannelGraph(finish(x, conv(5, name="after")(y)))
    widths = graph.uniform(0.5)
    small = graph.materialize(widths)
    assert_close(graph.run(noisy(), widths), small(noisy()))
    assert not graph.uncovered and not any(isinstance(layer, L.Lambda) for layer in small.layers)


def test_a_layer_named_as_a_nested_one_comes_out():
    x = keras.Input(IMAGE, name="image")
    i = keras.Input(IMAGE, name="image")
    inner = keras.Model(i, conv(4, name="image_2")(i), name="inner")
    outer = keras.Model(x, L.ReLU(name="inner_image_2")(inner(x)))
    graph = ChannelGraph(outer)
    assert_close(graph.materialize()(noisy()), graph.model(noisy()))


def test_a_small_model_is_slimmed_again():
    graph = ChannelGraph(graph_of("grouped").materialize(graph_of("grouped").uniform(0.5)))
    widths = graph.uniform(0.5)
    images = images_for(graph.model)
    assert_close(graph.run(images, widths), graph.materialize(widths)(images))


def test_a_tied_model_without_anything_to_slim_still_runs():
    x = keras.Input((4,))
    graph = ChannelGraph(keras.Model(x, L.Dense(3)(x)))
    assert graph.slimmable == ()
    assert graph.run(np.ones((2, 4))).shape == (2, 3)
    assert graph.cost().flops == 12


def test_chain_of_one_input_given_as_a_list_of_numbers():
    graph = ChannelGraph(chain(L.Dense(3), shape=(2,)))
    assert graph.run([[1.0, 2.0]]).shape == (1, 4)


# -- weights of a width's own ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["residual", "densenet", "batch_norms"])
def test_batch_norms_of_a_widths_own(name):
    """Replaced, they are computed with and materialised; the model keeps its own."""
    graph = graph_of(name)
    images, widths = images_for(graph.model), graph.uniform(0.5)
    pairs = own_batch_norms(graph, widths, "_own")
    assert len(pairs) == sum(isinstance(layer, L.BatchNormalization) for layer in graph.model.layers)
    replaced = {
        id(full): own for layer, copy in pairs for full, own in zip(layer.weights, copy.weights, strict=True)
    }
    before = graph.run(images, widths)
    assert_close(graph.run(images, widths, replaced=replaced), before)
    for _, copy in pairs:
        for weight in copy.weights:
            weight.assign(weight + 0.5)
    after = graph.run(images, widths, replaced=replaced)
    small = graph.materialize(widths, replaced=replaced)
    assert abs(np.asarray(after - before)).max() > 1e-3
    assert_close(small(images), after)
    assert_close(graph.run(images, widths), before)


def test_replaced_weights_are_not_masked():
    graph = graph_of("residual")
    with pytest.raises(AutoslimError) as caught:
        graph.run(images_for(graph.model), execution="mask", replaced={0: 1.0})
    assert str(caught.value) == (
        "Weights that are replaced have the widths' own shapes: expected execution='slice'."
    )
