"""Batch-norm calibration against NumPy."""

import keras
import numpy as np
import pytest
from nets import CLASSES, SHAPE, batches, graph, images, network

import autoslim
from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.slimming.levels import Levels

L = keras.layers


def norm_inputs(model, x):
    """What each batch norm is given when all before it use the batch's own statistics."""
    found = {}
    for layer in model.layers[1:]:
        if isinstance(layer, L.BatchNormalization):
            values = np.asarray(x, np.float64)
            axes = tuple(range(values.ndim - 1))
            mean, variance = values.mean(axes), values.var(axes)
            found[layer.name] = (mean, variance)
            x = (values - mean) / np.sqrt(variance + layer.epsilon)
            x = (x * layer.gamma.numpy() + layer.beta.numpy()).astype(np.float32)
        else:
            x = layer(x)
    return found


@pytest.mark.parametrize("batch", [8, 24, 7])  # 7: the last has three images
def test_average_over_the_batches(batch):
    model = network()
    parts = list(batches(24, batch))
    assert autoslim.calibrate(ChannelGraph(model), parts) == len(parts)
    found = [norm_inputs(model, x.numpy()) for x, _ in parts]
    share = [len(x) / 24 for x, _ in parts]
    for name in ("bn1", "bn2", "bn3"):
        layer = model.get_layer(name)
        mean = sum(s * f[name][0] for s, f in zip(share, found, strict=True))
        variance = sum(s * f[name][1] for s, f in zip(share, found, strict=True))
        np.testing.assert_allclose(layer.moving_mean.numpy(), mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(layer.moving_variance.numpy(), variance, rtol=1e-4, atol=1e-5)


def test_first_layer_statistics_are_those_of_all_images():
    """Without a shift between batches the average of equal batches is the statistics of all of them."""
    model = network()
    x = np.tile(images(8)[0], (3, 1, 1, 1))
    autoslim.calibrate(ChannelGraph(model), [(x[:8], None), (x[8:16], None), (x[16:], None)])
    outputs = model.get_layer("conv1")(x).numpy().astype(np.float64)
    np.testing.assert_allclose(
        model.get_layer("bn1").moving_mean, outputs.mean((0, 1, 2)), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(model.get_layer("bn1").moving_variance, outputs.var((0, 1, 2)), rtol=1e-4)


def test_a_slimmed_supernet_evaluates_sensibly():
    big = graph()
    levels = Levels.spaced(big, 3, 0.5, 2)
    source = autoslim.datasets.GivenBatches(batches(48, 16))
    autoslim.train_supernet(big, levels, source, epochs=25, optimizer=keras.optimizers.SGD(0.1, 0.9), arms=3)
    small = big.materialize(levels.smallest)
    before = autoslim.evaluate(small, batches(30, 7, seed=1))
    autoslim.calibrate(ChannelGraph(small), batches(48, 16))
    after = autoslim.evaluate(small, batches(30, 7, seed=1))
    assert after.loss < before.loss and after.top1 > 0.8


def test_what_is_left_alone():
    """No batch norm at all; a batch norm that is not trainable."""
    x = keras.Input(SHAPE)
    model = keras.Model(x, L.Dense(CLASSES)(L.GlobalAveragePooling2D()(L.Conv2D(4, 3)(x))))
    assert autoslim.calibrate(ChannelGraph(model), batches()) == 3
    model = network()
    model.get_layer("bn2").trainable = False
    autoslim.calibrate(ChannelGraph(model), batches())
    assert not model.get_layer("bn2").moving_mean.numpy().any()
    assert model.get_layer("bn3").moving_mean.numpy().any()


def test_a_shared_batch_norm_averages_its_calls():
    norm = L.BatchNormalization(name="shared", momentum=0.9)
    x = keras.Input((3,))
    y = norm(L.Rescaling(5.0)(norm(x)))
    model = keras.Model(x, L.Dense(2)(y))
    data = np.random.default_rng(0).normal(4.0, 2.0, (32, 3)).astype(np.float32)
    autoslim.calibrate(ChannelGraph(model), [(data, None)])
    np.testing.assert_allclose(norm.moving_mean, data.mean(0) / 2, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(norm.moving_variance, (data.var(0) + 25) / 2, rtol=1e-2)


def test_no_batches():
    with pytest.raises(AutoslimError, match="There are no batches to calibrate with"):
        autoslim.calibrate(graph(), [])
