"""Every invariant of the channel graph on every row of the table of cases."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from cases import CASES, graph_of, images_for, random_widths
from counting import count, peak_memory

from autoslim.graph import ChannelGraph, rules
from autoslim.resources import CONVENTIONS, COUNTED

every_case = pytest.mark.parametrize("name", CASES)


def one_case_in(share):
    """The cases at every `share`-th place of the table; the others are long."""
    marks = [pytest.mark.long if place % share else () for place in range(len(CASES))]
    return pytest.mark.parametrize(
        "name", [pytest.param(name, marks=mark) for name, mark in zip(CASES, marks, strict=True)]
    )


# Each case with one of the two kinds of statistics by default, with the other in the long tests.
every_case_and_statistics = pytest.mark.parametrize(
    ("name", "batch_statistics"),
    [
        pytest.param(
            name, batch, id=f"{name}-{kind}", marks=pytest.mark.long if (k % 2 == 0) != batch else ()
        )
        for k, name in enumerate(CASES)
        for kind, batch in (("moving", False), ("batch", True))
    ],
)


def flat(outputs):
    return [np.asarray(y, np.float64) for y in keras.tree.flatten(outputs)]


def assert_close(got, expected, tolerance=1e-5):
    """Same structure, and entries that differ by less than `tolerance` of the largest."""
    keras.tree.assert_same_structure(got, expected)
    for a, b in zip(flat(got), flat(expected), strict=True):
        assert a.shape == b.shape
        assert np.max(np.abs(a - b)) <= tolerance * max(1.0, np.max(np.abs(b)))


def dense(gradient, variable):
    if gradient is None:
        return np.zeros(variable.shape)
    return np.asarray(tf.convert_to_tensor(gradient), np.float64)


def gradients(graph, images, widths, mode, batch_statistics):
    weights = graph.model.trainable_weights
    with tf.GradientTape() as tape:
        run = graph.run(images, widths, execution=mode, batch_statistics=batch_statistics)
        outputs = keras.tree.flatten(run)
        loss = sum(tf.reduce_mean(tf.sin(y)) for y in outputs)
    found = tape.gradient(loss, [w.value for w in weights])
    return [dense(g, w) for g, w in zip(found, weights, strict=True)]


@every_case
def test_full_width_is_the_model(name):
    graph = graph_of(name)
    images = images_for(graph.model)
    assert_close(graph.run(images), graph.model(images))


@every_case_and_statistics
def test_sliced_equals_masked(name, batch_statistics):
    graph = graph_of(name)
    images = images_for(graph.model)
    rng = np.random.default_rng(1)
    for _ in range(2):
        widths = random_widths(graph, rng)
        (sliced, own), (masked, own_masked) = (
            graph.run_with_statistics(images, widths, batch_statistics=batch_statistics, execution=mode)
            for mode in ("slice", "mask")
        )
        assert_close(sliced, masked)
        for (layer, axis, *values), (layer_masked, _, *values_masked) in zip(own, own_masked, strict=True):
            assert layer is layer_masked
            active = axis.indices(widths)
            for value, value_masked in zip(values, values_masked, strict=True):
                assert_close(value, np.asarray(value_masked)[active])


@every_case
def test_sliced_equals_materialised_at_random_widths(name):
    graph = graph_of(name)
    images = images_for(graph.model)
    widths = random_widths(graph, np.random.default_rng(2))
    assert_close(graph.run(images, widths), graph.materialize(widths)(images))


@every_case_and_statistics
def test_gradients_of_sliced_equal_masked(name, batch_statistics):
    graph = graph_of(name)
    images = images_for(graph.model)
    widths = random_widths(graph, np.random.default_rng(4))
    sliced = gradients(graph, images, widths, "slice", batch_statistics)
    masked = gradients(graph, images, widths, "mask", batch_statistics)
    scale = max(np.max(np.abs(g)) for g in masked)
    assert scale > 0
    for a, b, weight in zip(sliced, masked, graph.model.trainable_weights, strict=True):
        assert np.max(np.abs(a - b)) <= 5e-5 * max(scale, 1.0), weight.path


@one_case_in(6)
def test_under_tf_function_with_widths_as_a_tensor(name):
    graph = graph_of(name)
    images = keras.tree.map_structure(tf.constant, images_for(graph.model))
    run = tf.function(lambda images, widths: graph.run(images, widths))
    rng = np.random.default_rng(5)
    for _ in range(3):
        widths = random_widths(graph, rng)
        assert_close(run(images, tf.constant(widths)), graph.run(images, widths))
    assert run.experimental_get_tracing_count() == 1


@one_case_in(2)
def test_cost_is_that_of_the_materialised_model(name):
    graph = graph_of(name)
    for widths in (graph.full, random_widths(graph, np.random.default_rng(6))):
        small = graph.materialize(widths, weights=False)
        for convention in CONVENTIONS:
            cost = graph.cost(widths, convention)
            assert (cost.flops, cost.params) == count(small, convention)
            assert cost.memory == peak_memory(small)
            rows = graph.layer_costs(widths, convention)
            assert sum(row.flops for row in rows) == cost.flops
            assert sum(row.params for row in rows) == cost.params


@every_case
def test_cost_of_a_batch_of_widths_is_one_by_one_and_never_rises_when_a_group_narrows(name):
    graph = graph_of(name)
    rng = np.random.default_rng(7)
    wide = random_widths(graph, rng)
    rows = [wide]
    for group in graph.slimmable:
        narrow = wide.copy()
        narrow[group.index] = rng.integers(1, wide[group.index] // group.unit + 1) * group.unit
        rows.append(narrow)
    for convention in ("macs", "with_norm", "all"):
        batch = graph.cost(np.stack(rows), convention)
        for field in COUNTED:
            values = batch.of(field)
            assert values.dtype == np.int64
            assert values.tolist() == [graph.cost(row, convention).of(field) for row in rows]
            assert np.all(values <= values[0])


@every_case
def test_groups_fit_the_layers(name):
    graph = graph_of(name)
    assert [group.index for group in graph.groups] == list(range(len(graph.groups)))
    assert len({group.name for group in graph.groups}) == len(graph.groups)
    assert graph.slimmable, "a case that nothing can be slimmed in tests nothing"
    for group in graph.groups:
        assert group.size % group.unit == 0
        assert group.frozen or group.size > group.unit
    shapes = {node.name: node.output_shapes for node in graph.trace.nodes}
    for node in graph.trace.nodes:
        for axis, shape in zip(graph.output_axes(node), shapes[node.name], strict=True):
            assert shape[-1] in (None, axis.size)


@one_case_in(6)
def test_tracing_and_materialising_leave_the_model_as_it_was(name):
    model = CASES[name]()
    before = model.get_config()
    ChannelGraph(model).materialize()
    assert model.get_config() == before


def test_every_rule_has_a_case_in_which_its_channels_can_be_slimmed():
    layers, operations = set(), set()
    for name in CASES:
        graph = graph_of(name)
        for node in graph.trace.nodes:
            axes = [*graph.input_axes(node), *graph.output_axes(node)]
            free = any(not graph.groups[g].frozen for axis in axes for g in axis.groups)
            if graph.rule(node) is not None and free:
                layers.add(type(node.op))
                operations.add((type(node.op).__module__, type(node.op).__name__))
    known = {kind for kind in rules.RULES if kind.__module__.startswith("keras.")}  # others are users' own
    assert known <= layers, "rules without a case"
    assert set(rules.NAMED) <= operations, "layers of keras.applications without a case"
    assert set(rules.OPERATIONS) <= operations, "operations without a case"
