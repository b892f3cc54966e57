"""What the small models of the tests are built from."""

import keras
import tensorflow as tf

L = keras.layers
IMAGE = (6, 6, 3)
CLASSES = 4


def conv(filters=8, size=3, **kwargs):
    return L.Conv2D(filters, size, **{"padding": "same", **kwargs})


def finish(x, y, name=None):
    """Pool, if there are positions left, and classify."""
    if len(y.shape) > 2:
        y = {3: L.GlobalAveragePooling1D, 4: L.GlobalAveragePooling2D, 5: L.GlobalAveragePooling3D}[
            len(y.shape)
        ]()(y)
    return keras.Model(x, L.Dense(CLASSES, name="logits")(y), name=name)


def chain(*layers, shape=IMAGE):
    """Layers one after another; `layers` are made again at each call of the builder."""
    x = y = keras.Input(shape, name="image")
    for layer in layers:
        y = layer(y)
    return finish(x, y)


class Reversing(L.Layer):
    """A layer without a rule, with weights, which can't be looked into: every channel sees another one."""

    def build(self, shape):
        self.scale = self.add_weight(name="scale", shape=(shape[-1],))

    def call(self, x):
        return x + self.scale * tf.reverse(x, [-1])
