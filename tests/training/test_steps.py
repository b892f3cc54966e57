"""Training steps against steps written by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from small import CLASSES, WORDS, images, network, sgd, text_network, texts

from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.slimming.levels import Levels
from autoslim.slimming.sandwich import draw_arms
from autoslim.training.optimizers import make_optimizer
from autoslim.training.steps import plain_step, sandwich_step


def keras_step(model, optimizer, x, y, *, smoothing=0.0, teacher=None, weight=0.5, temperature=1.0):
    """One step as a Keras user writes it."""
    truth = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)
    with tf.GradientTape() as tape:
        logits = tf.cast(model(x, training=True), "float32")
        loss = truth(tf.one_hot(y, CLASSES), logits)
        if teacher is not None:
            p = tf.nn.softmax(teacher(x, training=False) / temperature)
            q = tf.nn.log_softmax(logits / temperature)
            soft = -tf.reduce_mean(tf.reduce_sum(p * q, -1)) * temperature**2
            loss = (1 - weight) * loss + weight * soft
        total = loss + (tf.add_n(model.losses) if model.losses else 0.0)
    variables = model.trainable_variables
    optimizer.apply(tape.gradient(total, variables), variables)
    return float(loss)


@pytest.mark.parametrize("how", [{"clipnorm": 0.05}, {"name": "adamw"}], ids=["clipped", "adamw"])
def test_a_table_of_words_is_trained_as_a_dense_layer_of_one_hot_rows(how):
    """Whose gradients have a row for every word, not one for every place at which it stands."""
    words, labels = texts(8)
    one_hot = np.eye(WORDS, dtype=np.float32)[words] * (words > 0)[..., None]
    dense, table = text_network(one_hot=True), text_network()
    dense.set_weights(table.get_weights())
    for model, x in ((table, words), (dense, one_hot)):
        optimizer = make_optimizer(model, learning_rate=0.1, weight_decay=0.0, **how)
        step = plain_step(ChannelGraph(model), optimizer)
        for number in range(2):
            step(tf.constant(x), tf.constant(labels), number)
    for a, b in zip(table.weights, dense.weights, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


CASES = {
    "plain": ({}, {}),
    "regularized": ({"regularizer": "l2"}, {}),
    "smoothing": ({}, {"smoothing": 0.1}),
    "teacher": ({}, {"teacher": True, "weight": 0.7, "temperature": 3.0}),
    "dropout": ({"dropout": 0.4}, {}),
    "frozen layers": ({"frozen": ("conv1", "bn1")}, {}),
    "no batch norm": ({"norm": False}, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_plain_step_is_the_keras_step(case):
    net, loss = CASES[case]
    loss = dict(loss)
    if loss.pop("teacher", False):
        loss["teacher"] = network(seed=9)
    ours, theirs = network(**net), network(**net)
    names = {"weight": "distill_weight", "smoothing": "label_smoothing"}
    given = {names.get(k, k): v for k, v in loss.items()}
    step = plain_step(ChannelGraph(ours), sgd(weight_decay=1e-2), **given)
    optimizer = sgd(weight_decay=1e-2)
    optimizer.build(theirs.trainable_variables)
    x, y = images(16)
    for number in range(4):
        batch = x[4 * number : 4 * number + 4], y[4 * number : 4 * number + 4]
        metrics = step(*map(tf.constant, batch), number)
        expected = keras_step(theirs, optimizer, *batch, **loss)
        assert float(metrics["train/loss"]) == pytest.approx(expected, rel=1e-5)
    for a, b in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=2e-4, atol=2e-6, err_msg=a.path)


def test_loss_scaling():
    """A LossScaleOptimizer divides gradients by its scale, so the loss must be multiplied by it."""
    plain, scaled = network(), network()
    x, y = map(tf.constant, images(8))
    plain_step(ChannelGraph(plain), sgd())(x, y, 0)
    plain_step(ChannelGraph(scaled), keras.optimizers.LossScaleOptimizer(sgd(), initial_scale=2.0**10))(
        x, y, 0
    )
    for a, b in zip(plain.weights, scaled.weights, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    graph = ChannelGraph(network(dtype=policy))
    levels = Levels.spaced(graph, 3, divisor=2)
    optimizer = keras.optimizers.LossScaleOptimizer(sgd()) if policy == "mixed_float16" else sgd()
    x, y = map(tf.constant, images(8))
    for step in (sandwich_step(graph, levels, optimizer, arms=3), plain_step(graph, optimizer)):
        metrics = step(x, y, 0)
        assert all(value.dtype == tf.float32 and np.isfinite(value) for value in metrics.values())


def independent_gradients(model, graph, arms, x, y, taught, smoothing):
    """Each arm's gradients by a tape of its own, masked, with losses written out; summed in NumPy.

    `taught`: share of what the arms but the first learn that comes from the first one.
    """
    variables = model.trainable_variables
    truth = (1 - smoothing) * np.eye(CLASSES, dtype=np.float32)[y] + smoothing / CLASSES
    total, soft = [np.zeros(v.shape, np.float64) for v in variables], None
    for number, widths in enumerate(arms):
        with tf.GradientTape() as tape:
            logits = graph.run(x, widths, batch_statistics=True, training=True, execution="mask")
            targets = taught * soft + (1 - taught) * truth if taught and number > 0 else truth
            loss = -tf.reduce_mean(tf.reduce_sum(targets * tf.nn.log_softmax(logits), -1))
            if number == 0:
                loss += tf.add_n(
                    [1e-2 * tf.reduce_sum(v**2) for v in variables if v.path.endswith("kernel")][::3]
                )
        if number == 0:
            soft = tf.nn.softmax(logits).numpy()
        gradients = tape.gradient(loss, variables, unconnected_gradients="zero")
        total = [t + g.numpy() for t, g in zip(total, gradients, strict=True)]
    return total


RAMPS = {  # options, and the share that is taught in step 7 of 20
    "distilled": ({"distill_ramp": 0.0}, 1.0),
    "labels": ({"distill": False}, 0.0),
    "on the way": ({"distill_ramp": 0.5}, 0.7),
    "after the way": ({"distill_ramp": 0.3}, 1.0),
}


@pytest.mark.parametrize("ramp", RAMPS)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_sandwich_gradient_is_the_sum_over_the_arms(ramp, smoothing):
    """SGD without momentum at rate 1 moves the weights by minus the gradient."""
    options, taught = RAMPS[ramp]
    model = network(regularizer="l2")  # on conv1 and logits: the first and the fourth kernel
    graph = ChannelGraph(model)
    levels = Levels.spaced(graph, 4, divisor=2)
    x, y = images(8)
    arms = draw_arms(levels, 4, 3, 7)
    expected = independent_gradients(model, graph, arms, x, y, taught, smoothing)
    before = [v.numpy() for v in model.trainable_variables]
    moving = [v.numpy() for v in model.non_trainable_variables]
    sgd_at_one = keras.optimizers.SGD(1.0)
    step = sandwich_step(
        graph, levels, sgd_at_one, seed=3, steps=20, arms=4, label_smoothing=smoothing, **options
    )
    step(tf.constant(x), tf.constant(y), 7)
    for variable, old, gradient in zip(model.trainable_variables, before, expected, strict=True):
        np.testing.assert_allclose(
            old - variable.numpy(), gradient, rtol=2e-3, atol=2e-5, err_msg=variable.path
        )
    for variable, old in zip(model.non_trainable_variables, moving, strict=True):
        np.testing.assert_array_equal(variable.numpy(), old)


@pytest.mark.parametrize("how", [{}, {"jit": "on"}, {"accumulate": 2}], ids=str)
def test_masked_arms_learn_as_sliced_ones(how):
    """The same losses and weights from all channels, most of them zeros, at static shapes."""
    results = []
    for execution in ("slice", "mask"):
        model = network(regularizer="l2")
        graph = ChannelGraph(model)
        step = sandwich_step(graph, Levels.spaced(graph, 4, divisor=2), sgd(), execution=execution, **how)
        losses = []
        for number in range(6):
            metrics = step(*map(tf.constant, images(8, number)), number)
            losses += [float(value) for value in metrics.values()]
        assert step.traces == 1
        results.append((losses, [v.numpy() for v in model.variables]))
    (losses, weights), (masked_losses, masked_weights) = results
    np.testing.assert_allclose(masked_losses, losses, rtol=1e-4, atol=1e-5)
    for a, b in zip(masked_weights, weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_one_trace_serves_every_step():
    graph = ChannelGraph(network(dropout=0.2))
    step = sandwich_step(graph, Levels.spaced(graph, 4, divisor=1), sgd(), arms=5)
    x, y = map(tf.constant, images(8))
    for number in range(12):
        metrics = step(x, y, number)
    assert step.traces == 1
    assert list(metrics)[:3] == ["largest/loss", "largest/top1", "smallest/loss"]
    assert len(metrics) == 10


def test_a_step_is_a_function_of_its_number():
    """The same widths in whatever process or order: no hidden state."""
    results = []
    for warm in (False, True):
        graph = ChannelGraph(network())
        step = sandwich_step(graph, Levels.spaced(graph, 4, divisor=1), keras.optimizers.SGD(0.0), arms=4)
        x, y = map(tf.constant, images(8))
        for number in [3, 9, 1] if warm else []:
            step(x, y, number)
        results.append([float(v) for v in step(x, y, 5).values()])
    assert results[0] == results[1]


def test_labels_of_any_integer_type():
    graph = ChannelGraph(network())
    x, y = images(8)
    losses = [
        float(
            plain_step(graph, keras.optimizers.SGD(0.0))(tf.constant(x), tf.constant(y.astype(t)), 0)[
                "train/loss"
            ]
        )
        for t in (np.uint8, np.int32, np.int64)
    ]
    assert losses[0] == losses[1] == losses[2]


@pytest.mark.parametrize(
    "y", [np.zeros((8, 2, 1), np.int32), np.zeros((8, 3, 1), np.float32), np.zeros(8, np.float32)]
)
def test_labels_that_are_no_indices(y):
    with pytest.raises(AutoslimError, match=r"expected integers \[B\], one class index for each image"):
        plain_step(ChannelGraph(network()), sgd())(tf.constant(images(8)[0]), tf.constant(y), 0)


def test_probabilities_of_other_classes():
    y = tf.ones((8, CLASSES + 1)) / (CLASSES + 1)
    with pytest.raises(AutoslimError) as error:
        plain_step(ChannelGraph(network()), sgd())(tf.constant(images(8)[0]), y, 0)
    assert str(error.value) == (
        "Labels of shape (8, 4) were given as probabilities; the network has 3 outputs: expected [B, 3]."
    )


def test_labels_as_probabilities():
    """One-hot ones are the labels themselves; mixed ones are the mixture of the losses."""
    x, y = images(8)
    other = np.roll(y, 1)
    hot = lambda labels: np.eye(CLASSES, dtype=np.float32)[labels]  # noqa: E731

    def step(labels):
        metrics = plain_step(ChannelGraph(network()), keras.optimizers.SGD(0.0), label_smoothing=0.2)(
            tf.constant(x), tf.constant(labels), 0
        )
        return float(metrics["train/loss"]), float(metrics["train/top1"])

    assert step(hot(y)) == pytest.approx(step(y), rel=1e-6)
    loss, correct = step(0.75 * hot(y) + 0.25 * hot(other))
    assert loss == pytest.approx(0.75 * step(y)[0] + 0.25 * step(other)[0], rel=1e-5)
    assert correct == step(y)[1]


def accumulated(make, parts, batch=12):
    """Losses and weights after three steps with the batch in so many parts."""
    model = network(norm=False, regularizer="l2")
    step = make(ChannelGraph(model), parts)
    losses = []
    for number in range(3):
        metrics = step(*map(tf.constant, images(batch, number)), number)
        losses += [float(value) for value in metrics.values()]
    return losses, [v.numpy() for v in model.variables]


def plain(graph, parts):
    return plain_step(graph, sgd(), accumulate=parts)


def sandwich(graph, parts):
    return sandwich_step(graph, Levels.spaced(graph, 3, divisor=2), sgd(), arms=3, accumulate=parts)


@pytest.mark.parametrize("make", [plain, sandwich])
@pytest.mark.parametrize(("parts", "batch"), [(3, 12), (2, 11)])
def test_parts_of_a_batch_sum_up_to_the_whole(make, parts, batch):
    losses, weights = accumulated(make, 1, batch)
    in_parts = accumulated(make, parts, batch)
    assert in_parts[0] == pytest.approx(losses, abs=1e-6)
    for a, b in zip(weights, in_parts[1], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_nothing_to_train():
    model = network()
    model.trainable = False
    graph = ChannelGraph(model)
    for make in (lambda: plain_step(graph, sgd()), lambda: sandwich_step(graph, Levels.spaced(graph), sgd())):
        with pytest.raises(AutoslimError, match="has no trainable weights"):
            make()


def test_optimizer_of_another_network():
    optimizer = sgd()
    plain_step(ChannelGraph(network()), optimizer)
    with pytest.raises(AutoslimError, match="Give each training an optimizer of its own"):
        plain_step(ChannelGraph(network()), optimizer)


def test_teacher_of_other_classes():
    step = plain_step(ChannelGraph(network()), sgd(), teacher=lambda x: tf.zeros([8, CLASSES + 1]))
    with pytest.raises(AutoslimError, match="both must know the same classes"):
        step(*map(tf.constant, images(8)), 0)


@pytest.mark.parametrize("arms", [1, 0])
def test_too_few_arms(arms):
    graph = ChannelGraph(network())
    with pytest.raises(AutoslimError, match="is out of range: 2, the largest and the smallest width, to"):
        sandwich_step(graph, Levels.spaced(graph), sgd(), arms=arms)
