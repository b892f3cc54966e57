"""Final evaluation against NumPy."""

import numpy as np
import pytest
import tensorflow as tf
from small import images, network

from autoslim.errors import AutoslimError
from autoslim.training.evaluate import evaluate


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.int64])
@pytest.mark.parametrize("batch", [10, 4, 1])
def test_every_image_counts_once(batch, kind):
    model = network()
    x, y = images(10)
    logits = model(x, training=False).numpy().astype(np.float64)
    losses = np.log(np.exp(logits).sum(-1)) - logits[np.arange(10), y]
    found = evaluate(model, tf.data.Dataset.from_tensor_slices((x, y.astype(kind))).batch(batch))
    np.testing.assert_array_equal(found.correct, logits.argmax(-1) == y)
    assert found.correct.dtype == bool
    assert found.top1 == np.mean(logits.argmax(-1) == y)
    assert found.loss == pytest.approx(losses.mean(), rel=1e-5)


def test_functions_and_arrays():
    x, y = images(10)
    logits = np.eye(3, dtype=np.float32)[y] * 9
    found = evaluate(
        lambda x: tf.one_hot(tf.zeros(tf.shape(x)[0], tf.int32), 3), [(x[:6], y[:6]), (x[6:], y[6:])]
    )
    assert found.top1 == np.mean(y == 0)
    assert evaluate(lambda x: tf.cast(logits, tf.bfloat16), [(x, y)]).top1 == 1.0


def test_a_thousand_classes_in_bfloat16():
    """Labels above 256 are not exact in bfloat16."""
    y = np.array([257, 511, 999], np.int64)
    logits = np.eye(1000, dtype=np.float32)[y] * 9
    assert evaluate(lambda x: tf.cast(logits, tf.bfloat16), [(np.zeros((3, 1)), y)]).top1 == 1.0


def test_no_images():
    with pytest.raises(AutoslimError, match="There are no images to evaluate on."):
        evaluate(network(), [])


def test_one_hot_labels():
    model, (x, y) = network(), images(9)
    by_rows, by_index = (evaluate(model, [(x, labels)]) for labels in (np.eye(3, dtype=np.float32)[y], y))
    assert by_rows.top1 == by_index.top1 and by_rows.loss == pytest.approx(by_index.loss, rel=1e-6)
    with pytest.raises(AutoslimError, match=r"has 3 outputs: expected \[B, 3\]"):
        evaluate(model, [(x, np.eye(4, dtype=np.float32)[y])])


def test_labels_out_of_range():
    with pytest.raises(
        AutoslimError, match="Label 3 is out of range: .* has 3 outputs, so labels are 0 to 2"
    ):
        evaluate(network(), [(images(3)[0], np.array([0, 3, 1]))])
