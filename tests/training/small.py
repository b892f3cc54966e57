"""Small networks and images for the tests of training."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from autoslim.datasets import ArrayImages, Augmentation, GivenBatches, TrainingBatches

L = keras.layers
SHAPE, CLASSES = (6, 6, 2), 3
LENGTH, WORDS = 5, 6  # of a text, of the table


def network(seed=0, width=8, dropout=0.0, regularizer=None, norm=True, frozen=(), dtype=None):
    """conv, batch norm, relu, conv, batch norm, add, pooling, logits."""
    keras.utils.set_random_seed(seed)
    x = image = keras.Input(SHAPE, name="image", dtype="float32")
    bias = not norm
    x = L.Conv2D(width, 3, use_bias=bias, kernel_regularizer=regularizer, name="conv1", dtype=dtype)(x)
    x = L.BatchNormalization(momentum=0.9, name="bn1", dtype=dtype)(x) if norm else x
    x = y = L.ReLU(name="relu1", dtype=dtype)(x)
    x = L.Conv2D(width, 3, padding="same", use_bias=bias, name="conv2", dtype=dtype)(x)
    x = L.BatchNormalization(momentum=0.9, name="bn2", dtype=dtype)(x) if norm else x
    x = L.Add(name="add", dtype=dtype)([x, y])
    x = L.Conv2D(2 * width, 3, use_bias=bias, name="conv3", dtype=dtype)(x)
    x = L.ReLU(name="relu3", dtype=dtype)(x)
    x = L.Dropout(dropout, seed=5, name="dropout", dtype=dtype)(x) if dropout else x
    x = L.GlobalAveragePooling2D(name="pool", dtype=dtype)(x)
    model = keras.Model(
        image, L.Dense(CLASSES, kernel_regularizer=regularizer, name="logits", dtype=dtype)(x)
    )
    for name in frozen:
        model.get_layer(name).trainable = False
    return model


def text_network(seed=0, one_hot=False):
    """A table of words, or the same as a dense layer of their one-hot rows (word 0: zeros); a GRU, logits."""
    keras.utils.set_random_seed(seed)
    if one_hot:
        x = image = keras.Input((LENGTH, WORDS))
        x = L.Dense(6, use_bias=False, name="table")(L.Masking()(x))
    else:
        x = image = keras.Input((LENGTH,), dtype="int32")
        x = L.Embedding(WORDS, 6, mask_zero=True, name="table")(x)
    return keras.Model(image, L.Dense(CLASSES, name="logits")(L.GRU(5, name="gru")(x)))


def texts(count=24, seed=0):
    """Words int32 [N, LENGTH] of which some stand in many places, and some are 0, and labels int32 [N]."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int32) % CLASSES
    words = generator.integers(1, 3, (count, LENGTH)) + labels[:, None]
    words[::2, -2:] = 0  # there is no word
    return words.astype(np.int32), labels


def images(count=24, seed=0):
    """Images float32 [N, 6, 6, 2] whose class shows in their brightness, and labels int32 [N]."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int32) % CLASSES
    x = generator.normal(size=(count, *SHAPE)) + 1.5 * labels[:, None, None, None]
    return x.astype(np.float32), labels


def given(count=24, batch=8, seed=0):
    return GivenBatches(tf.data.Dataset.from_tensor_slices(images(count, seed)).batch(batch))


def shuffled(count=24, batch=8, seed=0):
    x, labels = images(count, seed)
    pixels = np.clip(40 * x + 60, 0, 255).astype(np.uint8)
    moments = np.full(2, 0.4), np.full(2, 0.2)
    return TrainingBatches(ArrayImages(pixels), labels, batch, seed, *moments, Augmentation(pad=1, flip=True))


def sgd(rate=0.05, **kwargs):
    return keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, **kwargs)


def bits(model, optimizer=None):
    """Every variable as bytes."""
    variables = [*model.variables, *(optimizer.variables if optimizer else [])]
    return [np.asarray(v).tobytes() for v in variables]


def running(step, **keys):
    """The step with other options of the loop."""
    step.options = dataclasses.replace(step.options, **keys)
    return step
