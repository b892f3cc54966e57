"""The classifiers of keras.applications: run, masked, materialised and counted at random widths."""

import time

import keras
import numpy as np
import pytest
from cases import random_widths
from counting import count, peak_memory

from autoslim.graph import ChannelGraph

# name -> height and width of the images: small, to be quick. One of each family: deeper ones repeat
# their blocks. All of them: scripts/applications_table.py.
FAST = {"MobileNetV2": 32, "MobileNetV3Small": 32, "ConvNeXtTiny": 32}
SLOW = {
    **dict.fromkeys(("VGG16", "ResNet50", "MobileNet", "EfficientNetB0", "DenseNet121", "NASNetMobile"), 32),
    "InceptionV3": 75,
    "Xception": 71,
}


def draw_all(model, seed=0):
    """Scales, biases and statistics as a trained network might have them, so that no layer is trivial."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        kind = variable.path.rsplit("/", 1)[-1]
        if kind in ("gamma", "moving_variance", "variance"):
            variable.assign(rng.uniform(0.7, 1.3, variable.shape))
        elif kind in ("beta", "moving_mean", "mean", "bias"):
            variable.assign(rng.normal(0.0, 0.1, variable.shape))
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


def assert_close(got, expected):
    """Differences of float32 rounding, against the largest entry."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    assert np.isfinite(expected).all()
    assert np.std(expected) > 1e-6, "outputs that don't depend on anything show nothing"
    assert np.max(np.abs(got - expected)) <= 1e-4 * np.max(np.abs(expected))


def check(name, size):
    keras.utils.set_random_seed(0)
    model = getattr(keras.applications, name)(
        weights=None, input_shape=(size, size, 3), classes=10, classifier_activation=None
    )
    draw_all(model)
    start = time.perf_counter()
    graph = ChannelGraph(model)
    assert time.perf_counter() - start < 20
    assert not graph.uncovered
    images = np.random.default_rng(0).uniform(0, 255, (2, size, size, 3)).astype("float32")
    assert_close(graph.materialize()(images), model(images))
    widths = random_widths(graph, np.random.default_rng(0))
    small = graph.materialize(widths)
    sliced = graph.run(images, widths)
    assert_close(graph.run(images, widths, execution="mask"), sliced)
    assert_close(small(images), sliced)
    for convention in ("macs", "with_norm", "all"):
        cost = graph.cost(widths, convention)
        assert (cost.flops, cost.params) == count(small, convention)
    assert cost.memory == peak_memory(small)


@pytest.mark.parametrize("name", FAST)
def test_small_networks(name):
    check(name, FAST[name])


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("name", SLOW)
def test_networks(name):
    keras.backend.clear_session()
    check(name, SLOW[name])
