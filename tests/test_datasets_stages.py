"""All stages on images in files, from the command line's configuration to the report; several devices."""

import json
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf
from runs import TINY
from tensorflow.python.data.experimental.ops.distribute import _AutoShardDataset
from trees import CLASSES, write_tree

from autoslim.config import compose
from autoslim.datasets import image_folder
from autoslim.datasets.verify import lost_images_reported
from autoslim.errors import AutoslimError
from autoslim.stages.experiment import Experiment
from autoslim.stages.pipeline import run_stages

SETTINGS = {
    **TINY,
    "dataset.train_images": "null",
    "dataset": "image_folder",
    "dataset.name": "animals/small",
    "dataset.shape": [12, 12, 3],
    "dataset.mixup": 0.2,
    "dataset.max_broken": 0.05,
    "train.batch_size": 6,
    "slim.divisor": 2,
}


@pytest.mark.slow
def test_all_stages_on_a_folder_and_again_where_it_was_moved(tmp_path):
    write_tree(tmp_path / "here", train=10, test=3)
    (tmp_path / "here" / "train" / "ant" / "0.jpg").write_bytes(b"no image")
    settings = {**SETTINGS, "output": str(tmp_path / "out")}
    first = run_stages(compose({**settings, "dataset.path": str(tmp_path / "here")}))
    assert [row["network"] for row in first.rows] == ["baseline", "autoslim", "uniform"]
    baseline = tmp_path / "out" / "resnet8-animals-small"
    [result] = baseline.glob("baseline-*/result.json")
    result = json.loads(result.read_text())
    assert (result["test_images"], result["classes"]) == (9, list(CLASSES))
    shutil.move(tmp_path / "here", tmp_path / "there")
    again = run_stages(compose({**settings, "dataset.path": str(tmp_path / "there")}))
    assert again.folders == first.folders


def break_jpeg(path):
    path.write_bytes(path.read_bytes()[:200])


@pytest.mark.parametrize(
    "harm, several, reason",
    [
        (lambda path: path.unlink(), 1, "{path}; No such file or directory"),
        (lambda path: path.write_bytes(b"no image"), 1, "Unknown image file format. .*"),
        (break_jpeg, 3, "Invalid JPEG data, size 200"),
    ],
)
def test_an_image_that_breaks_after_it_was_looked_at(tmp_path, harm, several, reason):
    write_tree(tmp_path, train=4)
    data = image_folder(str(tmp_path), (6, 6, 3)).training(4, seed=1)
    path = tmp_path / "train" / "bee" / "2.jpg"
    harm(path)

    @tf.function
    def take(iterator):  # several batches in one call, as train.steps_per_execution takes them
        for _ in range(several):
            images, _ = next(iterator)
        return images

    with pytest.raises(AutoslimError) as caught, lost_images_reported("animals"):
        batches = iter(data.dataset(1))
        for _ in range(3):
            take(batches) if several > 1 else next(batches)
    reason = reason.format(path=re.escape(str(path)))
    assert re.fullmatch(
        rf"An image of animals can't be read \({reason}\)\. Mend or remove its file: the same "
        r"command then looks at all files again, and names what is broken \(dataset\.verify=true\)\.",
        str(caught.value),
    )


def test_errors_of_other_origin_are_left_alone():
    with pytest.raises(tf.errors.InvalidArgumentError), lost_images_reported("animals"):
        tf.io.decode_jpeg(b"no image")


def test_workers_share_a_batch(tmp_path):
    """What tf.distribute makes of the pipeline for each of two workers: every image goes to one of them."""
    write_tree(tmp_path, train=4)
    data = image_folder(str(tmp_path), (6, 6, 3)).training(4, seed=1, crop="resized", mixup=0.2).dataset(1)
    whole = np.concatenate([x.numpy() for x, _ in data])
    parts = [list(_AutoShardDataset(data.unbatch(), 2, worker)) for worker in (0, 1)]
    assert [len(part) for part in parts] == [6, 6]
    seen = {x.numpy().tobytes() for part in parts for x, _ in part}
    assert seen == {x.tobytes() for x in whole} and len(CLASSES) == 3


def test_one_device_strategy_gives_the_same_batches(tmp_path):
    write_tree(tmp_path, train=4)
    data = image_folder(str(tmp_path), (6, 6, 3)).training(4, seed=1, flip=True).dataset(2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    for (x, y), (a, b) in zip(strategy.experimental_distribute_dataset(data), data, strict=True):
        assert (x.numpy() == a.numpy()).all() and (y.numpy() == b.numpy()).all()


def test_calibration_takes_images_as_training_does(tmp_path):
    write_tree(tmp_path, train=8)
    given = {**SETTINGS, "dataset.path": str(tmp_path), "train.calibration_batches": 2}
    images = Experiment(compose({**given, "dataset.mixup": 0.0, "dataset.pad": 3})).images
    found = [x.numpy() for x, _ in images.calibration()]
    trained_on = [x.numpy() for x, _ in images.training().dataset(1).take(2)]
    np.testing.assert_array_equal(found, trained_on)
    plain = {x.tobytes() for batch, _ in images.data.training(6).dataset(1) for x in batch.numpy()}
    assert not plain & {x.tobytes() for batch in found for x in batch}  # all are moved by a few pixels
