"""Networks and images of every task, made from scikit-learn's digits: for the command line and for tests."""

import keras
import numpy as np
from sklearn.datasets import load_digits

L = keras.layers


def digits(count):
    """Images uint8 [N, 8, 8, 1] and classes [N]."""
    found = load_digits()
    return (found.images[:count] * 255 / 16).astype(np.uint8)[..., None], found.target[:count]


def halves(x, y):
    """Training and test images: two thirds and one third."""

    def part(values, which):
        if isinstance(values, dict):
            return {name: part(one, which) for name, one in values.items()}
        cut = len(values) * 2 // 3
        return values[:cut] if which == 0 else values[cut:]

    return tuple((part(x, which), part(y, which)) for which in (0, 1))


def classes(count=180):
    return halves(*digits(count))


def segmentation(count=180):
    """Digits somewhere on canvases of 16 x 16; masks: 0 background, 1 digits below 5, 2 the others."""
    x, y = digits(count)
    images, masks = np.zeros((count, 16, 16, 1), np.uint8), np.zeros((count, 16, 16), np.uint8)
    for i, (row, column) in enumerate(np.random.default_rng(0).integers(0, 9, (count, 2))):
        images[i, row : row + 8, column : column + 8] = x[i]
        masks[i, row : row + 8, column : column + 8] = (x[i, ..., 0] > 60) * (1 + (y[i] >= 5))
    return halves(images, masks)


def regression(count=180):
    """How much ink there is."""
    x, _ = digits(count)
    return halves(x, x.mean((1, 2, 3)) / 64)


def multilabel(count=180):
    """Even, at least five, divisible by three."""
    x, y = digits(count)
    return halves(x, np.stack([y % 2 == 0, y >= 5, y % 3 == 0], -1).astype(int))


def pairs(count=180):
    """Two digits, and whether they are the same."""
    x, y = digits(count)
    other = np.random.default_rng(1).permutation(count)
    other[: count // 2] = [np.flatnonzero(y == label)[0] for label in y[: count // 2]]
    mixed = np.random.default_rng(2).permutation(count)
    return halves({"left": x[mixed], "right": x[other][mixed]}, (y == y[other])[mixed].astype(int))


def two_heads(count=180):
    """The digit, and how much ink there is."""
    x, y = digits(count)
    return halves(x, {"digit": y, "ink": x.mean((1, 2, 3)) / 64})


def convolved(x, filters, **keys):
    x = L.Conv2D(filters, 3, padding="same", use_bias=False, **keys)(x)
    return L.ReLU()(L.BatchNormalization()(x))


def body(x):
    return L.GlobalAveragePooling2D()(convolved(convolved(x, 8), 16, strides=2))


def unet(input_shape, classes):
    image = keras.Input(input_shape)
    fine = convolved(image, 8)
    coarse = convolved(L.MaxPooling2D()(fine), 16)
    joined = convolved(L.Concatenate()([L.UpSampling2D()(coarse), fine]), 8)
    return keras.Model(image, L.Conv2D(classes, 1, activation="softmax", name="mask")(joined))


def regressor(input_shape, classes):
    image = keras.Input(input_shape)
    return keras.Model(image, L.Dense(classes, name="value")(body(image)))


def sigmoids(input_shape, classes):
    image = keras.Input(input_shape)
    return keras.Model(image, L.Dense(classes, activation="sigmoid", name="labels")(body(image)))


def siamese(input_shape, classes):
    image = keras.Input(input_shape["left"])
    tower = keras.Model(image, L.Dense(8)(body(image)), name="tower")
    left, right = (keras.Input(input_shape[name], name=name) for name in ("left", "right"))
    apart = L.Subtract()([tower(left), tower(right)])
    same = L.Dense(1, activation="sigmoid", name="same")(L.Multiply()([apart, apart]))
    return keras.Model({"left": left, "right": right}, same)


def heads(input_shape, classes):
    image = keras.Input(input_shape)
    x = body(image)
    outputs = {name: L.Dense(classes[name], name=name)(x) for name in ("digit", "ink")}
    return keras.Model(image, outputs)


def sequential(input_shape, classes):
    return keras.Sequential(
        [
            L.Conv2D(8, 3, padding="same"),
            L.BatchNormalization(),
            L.ReLU(),
            L.GlobalAveragePooling2D(),
            L.Dense(classes, activation="softmax"),
        ]
    )
