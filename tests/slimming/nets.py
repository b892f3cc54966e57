"""Small networks and images for the tests of slimming."""

import keras
import numpy as np
import tensorflow as tf

from autoslim.graph import ChannelGraph

L = keras.layers
SHAPE, CLASSES = (6, 6, 2), 3


def network(widths=(8, 6, 8), seed=0):
    """Three convolutions with batch norm of their own, pooling, logits; a fourth group in a hidden layer."""
    keras.utils.set_random_seed(seed)
    x = image = keras.Input(SHAPE, name="image")
    for number, width in enumerate(widths, 1):
        x = L.Conv2D(width, 3, padding="same", use_bias=False, name=f"conv{number}")(x)
        x = L.BatchNormalization(name=f"bn{number}", momentum=0.9)(x)
        x = L.ReLU(name=f"relu{number}")(x)
    x = L.GlobalAveragePooling2D(name="pool")(x)
    x = L.Dense(8, activation="relu", name="hidden")(x)
    model = keras.Model(image, L.Dense(CLASSES, name="logits")(x))
    generator = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, L.BatchNormalization):
            layer.gamma.assign(generator.uniform(0.5, 1.5, layer.gamma.shape))
            layer.beta.assign(generator.normal(0, 0.3, layer.beta.shape))
    return model


def images(count=24, seed=0):
    """Images float32 [N, 6, 6, 2] whose class shows in their brightness, and labels int32 [N]."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int32) % CLASSES
    x = generator.normal(size=(count, *SHAPE)) + 1.5 * labels[:, None, None, None]
    return x.astype(np.float32), labels


def batches(count=24, batch=8, seed=0):
    return tf.data.Dataset.from_tensor_slices(images(count, seed)).batch(batch)


def graph(**kwargs):
    return ChannelGraph(network(**kwargs))
