"""Images and labels in an .npz file: every name they may have, and what is refused."""

import numpy as np
import pytest
from runs import TINY

from autoslim.config import compose
from autoslim.datasets import npz
from autoslim.errors import AutoslimError
from autoslim.stages import run_stages

DRAW = np.random.default_rng(0)
X, Y = DRAW.integers(0, 256, (30, 6, 6, 3), dtype=np.uint8), np.arange(30) % 3
TEST = {"x_test": X[:9], "y_test": Y[:9]}
TRAIN = {"x_train": X, "y_train": Y}


def saved(tmp_path, **arrays):
    np.savez_compressed(tmp_path / "mine.npz", **arrays)
    return tmp_path / "mine.npz"


def test_a_file_as_keras_writes_them(tmp_path):
    data = npz(saved(tmp_path, **TRAIN, **TEST), name="mine")
    assert (data.name, data.shape, data.classes) == ("mine", (6, 6, 3), 3)
    np.testing.assert_array_equal(data.train_labels, Y)


def test_a_file_as_medmnist_has_them(tmp_path):
    """Labels [N, 1], grey images [N, height, width]; the images of "val" are held out for the search."""
    grey, column = X[..., 0], Y[:, None].astype(np.uint8)
    names = {"train": slice(0, 15), "val": slice(15, 24), "test": slice(24, 30)}
    parts = {f"{name}_images": grey[part] for name, part in names.items()}
    parts |= {f"{name}_labels": column[part] for name, part in names.items()}
    data = npz(saved(tmp_path, **parts))
    assert data.shape == (6, 6, 1) and len(data.train_labels) == 15
    kept, held = data.split(0.2, 0)
    assert len(kept) == 15 and len(held) == 9


@pytest.mark.parametrize(
    "arrays, message",
    [
        (TRAIN, r"has no images and labels of test \(it has x_train, y_train\): expected the arrays x_train"),
        (
            {**TRAIN, **TEST, "x_train": X / 255},
            r"train: images are float64 .*expected uint8",
        ),
        ({**TRAIN, **TEST, "y_train": Y.astype(object)}, "cannot be read as .npz .*nothing pickled"),
    ],
)
def test_what_is_refused(tmp_path, arrays, message):
    with pytest.raises(AutoslimError, match=message):
        npz(saved(tmp_path, **arrays))


def test_files_that_are_none(tmp_path):
    (tmp_path / "short.npz").write_bytes(b"PK")
    with pytest.raises(AutoslimError, match="cannot be read as .npz"):
        npz(tmp_path / "short.npz")
    with pytest.raises(AutoslimError, match="is a folder: expected an .npz file"):
        npz(tmp_path)
    with pytest.raises(AutoslimError, match=r"dataset.path=null is out of range: the .npz file"):
        compose(["dataset=npz"])
    with pytest.raises(AutoslimError, match=r"dataset.test_split=0.2 is out of range: null with dataset=npz"):
        compose(["dataset=npz", "dataset.path=a.npz", "dataset.test_split=0.2"])


@pytest.mark.slow
def test_a_run(tmp_path):
    file = saved(tmp_path, **TRAIN, **TEST)
    settings = {**TINY, "dataset": "npz", "dataset.path": file, "dataset.train_images": 24}
    outcome = run_stages(
        compose({**settings, "dataset.name": "mine", "train.batch_size": 12, "output": tmp_path})
    )
    assert [row["network"] for row in outcome.rows] == ["baseline", "autoslim", "uniform"]
