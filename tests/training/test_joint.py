"""Networks trained as one: what they share, what is each one's own, and how they learn."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from small import bits, given, images, network, sgd
from test_loop import Stopping

from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.training.fit import fit
from autoslim.training.joint import JointNetwork, joint_step
from autoslim.training.loop import train

WIDE, NARROW = {"conv1": 6, "conv3": 12}, {"conv1": 4, "conv3": 5}


def joint(*channels, **kwargs):
    graph = ChannelGraph(network(**kwargs))
    return JointNetwork(graph, [graph.widths_from(one) for one in channels])


def weights(model):
    return {v.path.partition("/")[0] + "/" + v.name: np.asarray(v) for v in model.variables}


def test_one_network_alone_is_trained_as_a_separate_one():
    model = joint(NARROW)
    small = model.materialize(0)
    together = train(joint_step(model, sgd(), names=["train"], label_smoothing=0.1), given(), 3)
    alone = fit(small, given(), epochs=3, optimizer=sgd(), label_smoothing=0.1)
    for one, other in zip(together, alone, strict=True):
        assert one == pytest.approx(other, rel=1e-4)
    after, expected = weights(model.materialize(0)), weights(small)
    assert after.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(after[name], value, rtol=1e-3, atol=1e-5, err_msg=name)


def reference_step(full, small, x, labels, rate, distill):
    """One plain SGD step by Keras's own layers: both small models' gradients, summed where they share."""
    gradients = []
    targets = tf.one_hot(labels, 3)
    for model in small:
        with tf.GradientTape() as tape:
            logits = model(x, training=True)
            loss = keras.losses.categorical_crossentropy(targets, logits, from_logits=True)
            loss = tf.reduce_mean(loss)
        gradients.append(tape.gradient(loss, [v.value for v in model.trainable_variables]))
        if distill and model is small[0]:
            targets = tf.nn.softmax(logits)
    shared = {name: value.copy() for name, value in full.items() if "bn" not in name}
    own = []
    for model, found in zip(small, gradients, strict=True):
        norms = {}
        for variable, gradient in zip(model.trainable_variables, found, strict=True):
            name = variable.path.partition("/")[0] + "/" + variable.name
            if "bn" in name:
                norms[name] = np.asarray(variable) - rate * np.asarray(gradient)
            else:
                shared[name][tuple(slice(n) for n in gradient.shape)] -= rate * np.asarray(gradient)
        own.append(norms)
    return shared, own


@pytest.mark.parametrize("distill", [True, False])
def test_a_step_is_the_sum_of_the_networks_gradients(distill):
    model = joint(WIDE, NARROW)
    x, labels = images(8)
    full = weights(model.graph.model)
    small = [model.materialize(0), model.materialize(1)]
    shared, own = reference_step(full, small, x, labels, 0.1, distill)
    metrics = joint_step(model, keras.optimizers.SGD(0.1), distill=distill)(x, labels, 0)
    assert list(metrics) == ["network1/loss", "network1/top1", "network2/loss", "network2/top1"]
    after = weights(model.graph.model)
    for name, value in shared.items():
        np.testing.assert_allclose(after[name], value, rtol=1e-3, atol=1e-5, err_msg=name)
    for place, norms in enumerate(own):
        found = weights(model.materialize(place))
        for name, value in norms.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-5, err_msg=name)
    for name in ("bn1/gamma", "bn1/moving_mean", "bn2/beta"):  # the full network's own batch norms rest
        np.testing.assert_array_equal(after[name], full[name])


def test_networks_share_slices_and_have_batch_norms_of_their_own():
    model = joint(WIDE, NARROW)
    train(joint_step(model, sgd()), given(), 2)
    wide, narrow = (weights(model.materialize(place)) for place in range(2))
    full = weights(model.graph.model)
    for name, value in narrow.items():
        corner = tuple(slice(n) for n in value.shape)
        if "bn1/moving" in name:  # of the first layer: the same images through the same filters
            np.testing.assert_allclose(value, wide[name][corner], rtol=1e-5)
        elif "bn" in name:
            assert abs(value - wide[name][corner]).min() > 0, name
        else:
            np.testing.assert_array_equal(value, wide[name][corner])
            np.testing.assert_array_equal(value, full[name][corner])
    x = images()[0]
    for place in range(2):
        plain = model.materialize(place)
        np.testing.assert_allclose(plain(x), model.run(x, place), rtol=1e-4, atol=1e-5)


def test_interrupted_equals_uninterrupted(tmp_path):
    def make(seed=0):
        return joint_step(joint(WIDE, NARROW, dropout=0.3, seed=seed), sgd())

    whole = make()
    history = train(whole, given(), 3)
    for seed, stop in enumerate((2, 3)):
        with pytest.raises(KeyboardInterrupt):
            train(Stopping(make(seed), stop), given(), 3, folder=tmp_path)
    resumed = make(8)
    assert train(resumed, given(), 3, folder=tmp_path) == history
    assert bits(resumed.model, resumed.optimizer) == bits(whole.model, whole.optimizer)
    for place in range(2):
        assert bits(resumed.model.materialize(place)) == bits(whole.model.materialize(place))


def test_a_batch_in_parts_without_batch_norms():
    one, parts = joint(WIDE, NARROW, norm=False), joint(WIDE, NARROW, norm=False)
    found = joint_step(one, sgd())(*images(8), 0)
    again = joint_step(parts, sgd(), accumulate=2)(*images(8), 0)
    assert {k: float(v) for k, v in again.items()} == pytest.approx({k: float(v) for k, v in found.items()})
    for a, b in zip(one.variables, parts.variables, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_name_for_each_network():
    with pytest.raises(AutoslimError) as caught:
        joint_step(joint(WIDE, NARROW), sgd(), names=["a"])
    assert str(caught.value) == "1 names were given for 2 networks."
