"""Training, search and evaluation from Python: arrays, weights, several inputs and outputs, uint8."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import autoslim
from autoslim.errors import AutoslimError

L = keras.layers
SHAPE, CLASSES = (8, 8, 2), 3


def features(image, filters=8):
    x = L.Conv2D(filters, 3, padding="same", use_bias=False)(image)
    return L.GlobalAveragePooling2D()(L.ReLU()(L.BatchNormalization()(x)))


def network(end=None, outputs=CLASSES):
    keras.utils.set_random_seed(1)
    image = keras.Input(SHAPE)
    return keras.Model(image, L.Dense(outputs, activation=end)(features(image)))


def images(count=48, seed=0):
    generator = np.random.default_rng(seed)
    y = np.arange(count) % CLASSES
    return (generator.normal(size=(count, *SHAPE)) + y[:, None, None, None]).astype(np.float32), y


def shortly(**keys):
    return {"epochs": 1, "warmup_epochs": 0, "schedule": "constant", "learning_rate": 0.05, **keys}


@pytest.mark.parametrize(
    ("end", "task", "loss", "labels"),
    [
        ("softmax", "classification", keras.losses.SparseCategoricalCrossentropy(), lambda y: y),
        (None, "regression", keras.losses.Huber(), lambda y: np.eye(CLASSES, dtype=np.float32)[y] * 2),
        ("sigmoid", "multilabel", keras.losses.BinaryCrossentropy(), lambda y: np.eye(CLASSES)[y]),
    ],
    ids=["softmax", "huber", "sigmoid"],
)
def test_the_losses_are_those_of_a_plain_keras_loop(end, task, loss, labels):
    """Three steps with images of unlike weights: GradientTape, Keras's own layers, loss and optimizer."""
    (x, y), weights = images(24), np.linspace(0.2, 2, 24).astype(np.float32)
    y = labels(y)
    batches = [(x[k : k + 8], y[k : k + 8], weights[k : k + 8]) for k in (0, 8, 16)]
    own = network(end)
    history = autoslim.fit(own, batches, task=task, loss=loss, optimizer=keras.optimizers.SGD(0.05), epochs=1)
    plain, optimizer, losses = network(end), keras.optimizers.SGD(0.05), []
    for images_, labels_, weight in batches:
        with tf.GradientTape() as tape:
            value = loss(labels_, plain(images_, training=True), sample_weight=weight)
        optimizer.apply(tape.gradient(value, plain.trainable_variables), plain.trainable_variables)
        losses.append(float(value))
    assert history[0]["train/loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    for a, b in zip(own.variables, plain.variables, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6)


def as_given(kind, x, y):
    if kind == "arrays":
        return x, y
    if kind == "tf.data":
        return tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
    return [(x[k : k + 16], y[k : k + 16]) for k in range(0, len(x), 16)]


@pytest.mark.parametrize("kind", ["arrays", "tf.data", "list"])
def test_batches_as_users_have_them(kind):
    model, (x, y) = network(), images()
    graph = autoslim.ChannelGraph(model)
    levels = autoslim.Levels.spaced(graph, levels=2, min_width=0.5, divisor=2)
    history = autoslim.train_supernet(graph, levels, as_given(kind, x, y), batch_size=16, **shortly(arms=2))
    assert {"largest/loss", "smallest/top1"} <= set(history[0])
    path = autoslim.search(graph, levels, as_given(kind, x, y), target=0.7)
    small = graph.materialize(path.at(0.7).widths)
    autoslim.fit(small, as_given(kind, x, y), batch_size=16, **shortly())
    autoslim.calibrate(autoslim.ChannelGraph(small), as_given(kind, x, y))
    found = autoslim.evaluate(small, as_given(kind, x, y))
    assert len(found.values) == 48 and found.metric == found.top1


def test_one_hot_labels_train_as_integers_do():
    x, y = images()
    rows = np.eye(CLASSES, dtype=np.float32)[y]
    first, second = (autoslim.fit(network(), (x, labels), batch_size=16, **shortly()) for labels in (y, rows))
    assert first[0]["train/loss"] == pytest.approx(second[0]["train/loss"], rel=1e-6)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (5, "Got a int as batches: expected"),
        (np.zeros((4, *SHAPE)), "Got a ndarray as batches: expected"),
        ((np.zeros((4, *SHAPE)), np.zeros(3)), "are of 4, 3 images: expected the same"),
        (tf.data.Dataset.from_tensor_slices(images(4)), "gives single images: batch it first"),
        (tf.data.Dataset.from_tensor_slices(images(4)[0]).batch(2), r"expected batches \(images, labels\)"),
    ],
)
def test_what_is_no_batch_is_refused(given, expected):
    with pytest.raises(AutoslimError, match=expected):
        autoslim.fit(network(), given, **shortly())


def two_inputs(structure):
    keras.utils.set_random_seed(2)
    left, right = (keras.Input(SHAPE, name=name) for name in ("left", "right"))
    joined = L.Concatenate()([features(left), features(right)])
    inputs = {"left": left, "right": right} if structure is dict else [left, right]
    return keras.Model(inputs, {"kind": L.Dense(CLASSES)(joined), "size": L.Dense(1)(joined)})


@pytest.mark.parametrize("structure", [dict, list])
def test_several_inputs_and_outputs(structure):
    model, (x, y) = two_inputs(structure), images()
    other = x[::-1].copy()
    inputs = {"right": other, "left": x} if structure is dict else [x, other]
    labels = {"kind": y, "size": x.mean((1, 2, 3))}
    how = {"task": {"size": "regression", "kind": "classification"}, "loss_weights": {"size": 0.5}}
    graph = autoslim.ChannelGraph(model)
    levels = autoslim.Levels.spaced(graph, levels=2, min_width=0.5, divisor=2)
    before = autoslim.evaluate(model, (inputs, labels), **how)
    autoslim.train_supernet(
        graph, levels, (inputs, labels), batch_size=16, **how, **shortly(arms=2, epochs=3)
    )
    after = autoslim.evaluate(model, (inputs, labels), **how)
    assert before.measure.name == after.measure.name == "top1"
    losses, outputs = [], model(inputs, training=False)
    losses.append(keras.losses.SparseCategoricalCrossentropy(from_logits=True)(y, outputs["kind"]))
    losses.append(0.5 * keras.losses.MeanSquaredError()(labels["size"][:, None], outputs["size"]))
    assert after.loss == pytest.approx(float(sum(losses)), rel=1e-4)
    path = autoslim.search(graph, levels, (inputs, labels), target=0.7, task=how["task"])
    small = graph.materialize(path.at(0.7).widths)
    assert set(small(inputs)) == {"kind", "size"}


def test_inputs_go_by_their_names():
    model, (x, _) = two_inputs(list), images(4)
    graph, given = autoslim.ChannelGraph(model), {"right": x[::-1], "left": x}
    np.testing.assert_allclose(graph.run(given)["kind"], model([x, x[::-1]])["kind"], atol=1e-5)
    with pytest.raises(AutoslimError, match="not right: the model's inputs are left, right"):
        graph.run({"left": x, "top": x})


def test_early_exits_learn_the_same_labels():
    keras.utils.set_random_seed(3)
    image = keras.Input(SHAPE)
    first = L.ReLU()(L.Conv2D(8, 3, name="first")(image))
    second = L.ReLU()(L.Conv2D(8, 3, name="second")(first))
    ends = [
        L.Dense(CLASSES, name=f"exit{i}")(L.GlobalAveragePooling2D()(x))
        for i, x in enumerate((first, second))
    ]
    model, (x, y) = keras.Model(image, ends), images()
    before = [np.array(layer.kernel) for layer in (model.get_layer("exit0"), model.get_layer("exit1"))]
    history = autoslim.fit(model, (x, y), batch_size=16, loss_weights={"exit0": 0.3}, **shortly())
    assert all(
        np.abs(np.array(model.get_layer(f"exit{i}").kernel) - old).max() > 0 for i, old in enumerate(before)
    )
    outputs = model(x, training=False)
    found = autoslim.evaluate(model, (x, y), loss_weights={"exit0": 0.3})
    losses = [float(keras.losses.SparseCategoricalCrossentropy(from_logits=True)(y, one)) for one in outputs]
    assert found.loss == pytest.approx(0.3 * losses[0] + losses[1], rel=1e-5)
    assert found.top1 == np.mean(np.argmax(outputs[1], -1) == y) and "train/top1" in history[0]


def of_pixels():
    keras.utils.set_random_seed(4)
    image = keras.Input(SHAPE, dtype="uint8")
    x = L.RandomFlip(seed=1)(L.Rescaling(1 / 255)(image))
    return keras.Model(image, L.Dense(CLASSES)(features(x)))


def test_pixels_are_not_normalised():
    model = of_pixels()
    x, y = np.random.default_rng(0).integers(0, 256, (48, *SHAPE)).astype(np.uint8), images()[1]
    autoslim.fit(model, (x, y), batch_size=16, **shortly())
    found, outputs = autoslim.evaluate(model, (x, y)), model(x, training=False)
    assert found.top1 == np.mean(np.argmax(outputs, -1) == y)
    np.testing.assert_allclose(autoslim.ChannelGraph(model).run(x), outputs, atol=1e-5)
    with pytest.raises(AutoslimError, match="takes uint8, and got float32: expected pixels as they are"):
        autoslim.fit(model, (x / np.float32(255), y), batch_size=16, **shortly())


def test_augmentation_within_a_network_is_for_training_alone():
    model, (x, _) = of_pixels(), images(8)
    graph, x = autoslim.ChannelGraph(model), (x * 40 + 80).clip(0, 255).astype(np.uint8)
    plain = np.asarray(graph.run(x, batch_statistics=True))
    np.testing.assert_array_equal(plain, graph.run(x, batch_statistics=True))
    flipped = [np.asarray(graph.run(x, batch_statistics=True, training=True)) for _ in range(2)]
    assert np.abs(flipped[0] - flipped[1]).max() > 1e-6
    small = graph.materialize(graph.uniform(0.5))
    assert any(isinstance(layer, L.RandomFlip) for layer in small.layers)
    np.testing.assert_allclose(small(x, training=False), graph.run(x, graph.uniform(0.5)), atol=1e-5)


class Adds(L.Layer):
    """A layer that adds a loss of its own."""

    def call(self, x):
        self.add_loss(0.1 * keras.ops.mean(keras.ops.square(x)))
        return x


def adding(nested):
    """Activity regularizers and an added loss, in the network itself or in one that is nested."""
    keras.utils.set_random_seed(5)
    image = keras.Input(SHAPE)
    x = L.Conv2D(6, 3, activity_regularizer=keras.regularizers.L2(1e-3))(image)
    x = L.GlobalAveragePooling2D()(Adds()(L.ActivityRegularization(l1=1e-3)(x)))
    inner = keras.Model(image, x)
    outer = keras.Input(SHAPE)
    x = inner(outer) if nested else x
    return keras.Model(outer if nested else image, L.Dense(CLASSES, kernel_regularizer="l2")(x))


@pytest.mark.parametrize("nested", [False, True], ids=["in it", "nested"])
def test_losses_that_layers_add_are_learnt(nested):
    own, plain, (x, y) = adding(nested), adding(nested), images(16)
    autoslim.fit(own, [(x, y)], optimizer=keras.optimizers.SGD(0.1), epochs=1)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    with tf.GradientTape() as tape:
        outputs = plain(x, training=True)
        value = loss(y, outputs) + sum(plain.losses)
    gradients = tape.gradient(value, plain.trainable_variables)
    keras.optimizers.SGD(0.1).apply(gradients, plain.trainable_variables)
    for a, b in zip(own.trainable_variables, plain.trainable_variables, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_a_sequential_model_that_is_not_built():
    model, (x, y) = keras.Sequential([L.Conv2D(8, 3), L.GlobalAveragePooling2D(), L.Dense(CLASSES)]), images()
    history = autoslim.fit(model, (x, y), batch_size=16, **shortly())
    assert history[0]["train/loss"] > 0 and autoslim.evaluate(model, (x, y)).loss > 0
    assert autoslim.ChannelGraph(model).slimmable
