"""Losses and metrics of each task against scikit-learn, NumPy and Keras; ends of networks; labels."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import f1_score, jaccard_score

from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.metrics import MAE, TOP1
from autoslim.tasks import Outputs, objective_of, segmentation
from autoslim.tasks.configured import given_task
from autoslim.tasks.ends import end_of
from autoslim.tasks.guessing import guessed
from autoslim.tasks.kinds import TASKS
from autoslim.tasks.losses import with_class_weights, with_loss

L, ops = keras.layers, keras.ops
generator = np.random.default_rng(3)
ROWS = np.eye(2)[[0, 1, 1, 0, 1]]


def model(end, shape=(8,)):
    x = keras.Input(shape)
    return keras.Model(x, end(x))


class Softmax(L.Layer):
    def call(self, x):
        return tf.nn.softmax(x)


class WrittenOut(L.Layer):
    def call(self, x):
        e = tf.exp(x)
        return e / tf.reduce_sum(e, -1, keepdims=True)


def nested(x):
    inner = keras.Input((8,))
    return keras.Model(inner, L.Dense(3, activation="softmax")(inner))(x)


ENDS = {
    "dense": (lambda x: L.Dense(3)(x), "linear"),
    "softmax": (lambda x: L.Dense(3, activation="softmax")(x), "softmax"),
    "then float32": (
        lambda x: L.Activation("linear", dtype="float32")(L.Dense(3, activation="softmax")(x)),
        "softmax",
    ),
    "layer": (lambda x: L.Softmax()(L.Dense(3)(x)), "softmax"),
    "ops.softmax": (lambda x: ops.softmax(L.Dense(3)(x)), "softmax"),
    "log": (lambda x: ops.log_softmax(L.Dense(3)(x)), "log_softmax"),
    "nested": (nested, "softmax"),
    "nested, dropped": (lambda x: L.Dropout(0.2)(nested(x)), "softmax"),
    "tf.nn.softmax": (lambda x: Softmax()(L.Dense(3)(x)), "softmax"),
    "written out": (lambda x: WrittenOut()(L.Dense(3)(x)), "softmax"),
    "averaged": (lambda x: L.Average()([nested(x), nested(x)]), "softmax"),
    "sigmoid": (lambda x: L.Dense(3, activation="sigmoid")(x), "sigmoid"),
    "ops.sigmoid": (lambda x: ops.sigmoid(L.Dense(3)(x)), "sigmoid"),
    "gated": (lambda x: L.Multiply()([L.Dense(3)(x), L.Dense(3, activation="sigmoid")(x)]), "linear"),
    "relu": (lambda x: L.Dense(3, activation="relu")(x), "Relu"),
}


@pytest.mark.parametrize("name", ENDS)
def test_ends(name):
    build, expected = ENDS[name]
    traced = ChannelGraph(model(build)).trace
    assert end_of(traced, traced.outputs[0]) == expected


@pytest.mark.parametrize("name", [name for name, (_, end) in ENDS.items() if end not in ("sigmoid", "Relu")])
def test_the_loss_is_of_the_answer_whatever_the_end(name):
    """Cross-entropy of the probabilities that the network answers with."""
    network, y = model(ENDS[name][0]), np.array([0, 2, 1, 1])
    x = generator.normal(size=(4, 8)).astype(np.float32)
    outputs = np.asarray(network(x), np.float64)
    answers = (
        outputs if ENDS[name][1] == "softmax" else np.exp(outputs) / np.exp(outputs).sum(-1, keepdims=True)
    )
    losses, right = objective_of("classification", network).scores(y, network(x))
    np.testing.assert_allclose(losses, -np.log(answers[np.arange(4), y]), rtol=1e-4)
    np.testing.assert_array_equal(right, outputs.argmax(-1) == y)


def test_one_output_for_two_classes():
    x, y = generator.normal(size=(6, 8)).astype(np.float32), np.array([0, 1, 1, 0, 1, 0])
    for activation in (None, "sigmoid"):
        network = model(lambda x, a=activation: L.Dense(1, activation=a)(x))
        outputs = network(x)
        losses, right = objective_of("classification", network).scores(y, outputs)
        expected = keras.losses.BinaryCrossentropy(from_logits=activation is None, reduction="none")(
            y[:, None].astype(np.float32), outputs
        )
        np.testing.assert_allclose(losses, expected, rtol=1e-4)
        edge = 0.0 if activation is None else 0.5
        np.testing.assert_array_equal(right, (np.asarray(outputs)[:, 0] > edge) == y)


def test_multilabel_against_scikit_learn():
    y = generator.integers(0, 2, (20, 5))
    y[0] = 0
    logits = generator.normal(size=(20, 5)).astype(np.float32)
    logits[0] = -1
    losses, f1 = objective_of("multilabel", None).scores(y.astype(np.float32), logits)
    own = [f1_score([a], [b], average="samples", zero_division=1) for a, b in zip(y, logits > 0, strict=True)]
    np.testing.assert_allclose(f1, own, rtol=1e-6)
    expected = keras.losses.BinaryCrossentropy(from_logits=True, reduction="none")(
        y.astype(np.float32), logits
    )
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


@pytest.mark.parametrize("ignore", [None, 255])
def test_segmentation_against_scikit_learn(ignore):
    y = generator.integers(0, 3, (6, 4, 5)).astype(np.uint8)
    if ignore is not None:
        y[:, 0] = ignore
    logits = generator.normal(size=(6, 4, 5, 3)).astype(np.float32)
    losses, iou = objective_of(segmentation(ignore), None).scores(y, logits)
    log_answers = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    for i in range(6):
        counted = y[i] != ignore if ignore is not None else np.ones_like(y[i], bool)
        true, answered = y[i][counted], logits[i].argmax(-1)[counted]
        present = sorted({*true.tolist(), *answered.tolist()})
        expected = jaccard_score(true, answered, labels=present, average="macro")
        assert float(iou[i]) == pytest.approx(expected, rel=1e-5)
        own = -log_answers[i][counted][np.arange(counted.sum()), true].mean()
        assert float(losses[i]) == pytest.approx(own, rel=1e-5)


def test_regression_is_not_broadcast():
    y, outputs = generator.normal(size=7), generator.normal(size=(7, 1)).astype(np.float32)
    losses, errors = objective_of("regression", None).scores(y, outputs)
    np.testing.assert_allclose(losses, (outputs[:, 0] - y) ** 2, rtol=1e-4)
    np.testing.assert_allclose(errors, np.abs(outputs[:, 0] - y), rtol=1e-4)
    with pytest.raises(AutoslimError, match=r"expected as many values for each image, \[3\]"):
        objective_of("regression", None).scores(y, np.zeros((7, 3), np.float32))


@pytest.mark.parametrize(
    ("task", "loss", "y", "end"),
    [
        ("regression", "huber", generator.normal(size=(5, 2)), None),
        ("regression", keras.losses.MeanAbsoluteError(), generator.normal(size=(5, 2)), None),
        (
            "classification",
            keras.losses.CategoricalFocalCrossentropy(),
            np.eye(2)[[0, 1, 1, 0, 1]],
            "softmax",
        ),
        ("multilabel", keras.losses.BinaryFocalCrossentropy(), np.eye(2)[[0, 1, 1, 0, 1]], "sigmoid"),
    ],
    ids=["huber", "mae", "focal", "binary focal"],
)
def test_losses_of_keras(task, loss, y, end):
    network = model(lambda x: L.Dense(2, activation=end)(x))
    x, y = generator.normal(size=(5, 8)).astype(np.float32), y.astype(np.float32)
    own, _ = objective_of(given_task(task, loss), network).scores(y, network(x))
    reference = keras.losses.get(loss)
    expected = (
        reference.call(y, network(x))
        if isinstance(reference, keras.losses.Loss)
        else reference(y, network(x))
    )
    np.testing.assert_allclose(own, expected, rtol=1e-4)


def test_a_loss_tells_its_task():
    assert given_task(None, "huber").metric == MAE
    assert given_task(None, keras.losses.SparseCategoricalCrossentropy()).metric == TOP1
    with pytest.raises(AutoslimError, match="does not tell what its labels are"):
        given_task(None, lambda y, p: p)
    with pytest.raises(AutoslimError, match=r"task.loss=hubert is not a loss of Keras. Did you mean"):
        with_loss(TASKS["regression"], "hubert")


def test_class_weights_are_keras_own():
    network, y = model(lambda x: L.Dense(3)(x)), np.array([0, 2, 1, 1])
    x = generator.normal(size=(4, 8)).astype(np.float32)
    weighed = objective_of(with_class_weights(TASKS["classification"], [1.0, 2.0, 0.5]), network)
    plain = objective_of("classification", network).scores(y, network(x))[0]
    np.testing.assert_allclose(weighed.scores(y, network(x))[0], plain * [1, 0.5, 2, 2], rtol=1e-5)
    with pytest.raises(AutoslimError, match="expected one for each"):
        objective_of(with_class_weights(TASKS["classification"], [1.0, 2.0]), network).scores(y, network(x))


def test_several_outputs():
    x = keras.Input((8,))
    network = keras.Model(x, {"b": L.Dense(1, name="value")(x), "a": L.Dense(3, name="kind")(x)})
    plan = Outputs({"a": TASKS["classification"], "b": TASKS["regression"]}, {"b": 0.5}, "a")
    objective = objective_of(plan, network)
    images = generator.normal(size=(4, 8)).astype(np.float32)
    y = {"a": np.array([0, 1, 2, 2]), "b": np.ones(4, np.float32)}
    outputs = network(images)
    losses, right = objective.scores(y, outputs)
    one = objective_of("classification", None).scores(y["a"], outputs["a"])
    other = objective_of("regression", None).scores(y["b"], outputs["b"])
    np.testing.assert_allclose(losses, one[0] + 0.5 * other[0], rtol=1e-5)
    np.testing.assert_array_equal(right, one[1])
    with pytest.raises(AutoslimError, match="has no output 'c': its outputs are a, b"):
        objective_of(Outputs({"c": TASKS["regression"]}), network)
    with pytest.raises(AutoslimError, match="not for b: expected labels for each output, a, b"):
        objective.scores({"a": y["a"]}, outputs)


def test_ends_that_cannot_be_learnt_are_refused():
    with pytest.raises(AutoslimError, match="ends in a softmax, whose values sum to one"):
        objective_of("multilabel", model(lambda x: L.Dense(3, activation="softmax")(x)))
    with pytest.raises(AutoslimError, match="a softmax of one value, which is always 1"):
        objective_of("classification", model(lambda x: L.Dense(1, activation="softmax")(x)))


def test_an_end_that_limits_answers_is_told(caplog):
    objective_of("classification", model(lambda x: L.Dense(3, activation="relu")(x)))
    assert "ends in Relu, which limits what it can answer" in caplog.text


@pytest.mark.parametrize(
    ("task", "labels", "expected"),
    [
        ("regression", np.array([1.0, 2.0, 6.0]), 5 / 3),
        ("multilabel", np.array([[1, 0], [1, 0], [0, 0]], np.float32), 2 / 3),
        ("classification", np.array([0, 1, 1]), 2 / 3),
        ("segmentation", np.array([[[0, 0], [0, 1]]]), 0.375),
    ],
)
def test_the_best_constant_answer(task, labels, expected):
    assert guessed(Outputs(TASKS[task]), labels) == pytest.approx(expected)
