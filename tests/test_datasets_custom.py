"""A data set of the user's own, by the dotted path of a function: every form, and what is refused."""

import sys
import textwrap

import numpy as np
import pytest
from runs import TINY
from trees import read

from autoslim.config import compose
from autoslim.datasets import custom
from autoslim.datasets.given_labels import LabelKinds
from autoslim.errors import AutoslimError
from autoslim.stages import run_stages

MODULE = """
    import numpy as np
    import tensorflow as tf

    def pixels(count, seed, size=6):
        return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)

    LABELS, TEST = np.arange(30) % 3, np.arange(9) % 3

    def arrays(size=6):
        return (pixels(30, 0, size), LABELS), (pixels(9, 1, size), TEST)

    def keras_like():
        (x, y), (x_test, y_test) = arrays()
        return (x, y[:, None]), (x_test, np.eye(3)[y_test])

    def streams():
        (x, y), (x_test, y_test) = arrays()
        train = tf.data.Dataset.from_tensor_slices((x, y))
        return {"train": train.batch(7), "test": tf.data.Dataset.from_tensor_slices((x_test, y_test))}

    def apart():
        train, test = arrays()
        return {"train": train, "test": test, "holdout": (pixels(12, 2), np.arange(12) % 3)}

    def grey():
        (x, y), (x_test, y_test) = arrays()
        return (x[..., 0], y), (x_test[..., 0], y_test)

    def floats():
        (x, y), test = arrays()
        return (x / 255, y), test

    def sizes():
        return arrays()[0], arrays(8)[1]

    def soft():
        (x, y), test = arrays()
        return (x, np.full((30, 3), 1 / 3)), test

    def wide():
        (x, y), test = arrays()
        return (x, np.where(y == 0, 2**40, y)), test

    def fails():
        raise OSError("no such disk")

    def nothing():
        return None

    NUMBER = 3
"""


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    """The module `own_images`, found by its name."""
    (tmp_path / "own_images.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("own_images", None)


def loaded(function, **options):
    return custom(f"own_images.{function}", **options)


def test_all_forms_give_the_same_data_set():
    first = loaded("arrays")
    assert (first.shape, first.classes, len(first.train), len(first.test_set)) == ((6, 6, 3), 3, 30, 9)
    for form in ("keras_like", "streams"):
        other = loaded(form)
        assert other.fingerprint == first.fingerprint
        for one, two in zip(read(first.test(4)), read(other.test(4)), strict=True):
            np.testing.assert_array_equal(one[0], two[0])
            np.testing.assert_array_equal(one[1], two[1])


def test_arguments_grey_images_and_images_held_apart():
    assert loaded("arrays", args={"size": 8}).shape == (8, 8, 3)
    assert loaded("grey").shape == (6, 6, 1)
    data = loaded("apart")
    _, held = data.split(0.2)
    assert len(held) == 12 and data.holdout_fingerprint
    assert len(loaded("arrays", train_images=12).train) == 12


@pytest.mark.parametrize(
    "function, options, message",
    [
        ("floats", {}, "train: images are float64 [30, 6, 6, 3]: expected uint8 pixels, 0 to 255"),
        ("sizes", {}, "test images are 8x8x3: expected 6x6x3, as the training images are"),
        ("arrays", {"shape": (4, 4, 3)}, "train images are 6x6x3: expected 4x4x3, as dataset.shape says"),
        ("soft", {}, "labels are float64 [30, 3] for 30 images: expected one whole number for each image"),
        (
            "wide",
            {"kinds": LabelKinds(classes=3)},
            "labels of train images go from 1 to 1099511627776, but there are 3 classes",
        ),
        ("fails", {}, "failed with OSError: no such disk It was called with () and should return"),
        ("nothing", {}, "returned a NoneType: expected (images, labels) of training and of test images"),
        ("NUMBER", {}, "holds a int, not a function, as NUMBER. Expected a function that returns images and"),
        ("none", {}, "own_images has no none. Expected a function that returns images and labels"),
        ("arrays", {"args": {"size": 6, "colour": 1}}, "failed with TypeError: "),
    ],
)
def test_what_is_no_data_set_is_refused(function, options, message):
    with pytest.raises(AutoslimError) as error:
        loaded(function, **options)
    assert str(error.value).startswith(f"dataset._target_=own_images.{function}")
    assert message in str(error.value)


def test_the_keys_of_files_are_refused_with_it():
    given = ["dataset=custom", "dataset._target_=own_images.arrays"]
    assert compose(given).dataset.shape is None
    with pytest.raises(AutoslimError, match="dataset.path=/data is out of range: .*dataset.args.NAME=VALUE"):
        compose([*given, "dataset.path=/data"])
    with pytest.raises(AutoslimError, match="dataset._target_=null is out of range: the dotted path"):
        compose(["dataset=custom"])


def test_through_the_stages(tmp_path):
    settings = {**TINY, "dataset": "custom", "dataset.train_images": 24, "train.batch_size": 12}
    settings |= {"dataset._target_": "own_images.arrays", "dataset.name": "mine", "output": tmp_path / "out"}
    outcome = run_stages(compose({**settings, "stages": "[baseline]"}))
    assert "resnet8-mine" in outcome.folders["baseline"]
