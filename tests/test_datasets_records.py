"""TFRecord files and TensorFlow Datasets: places and labels, the same batches as from a folder, messages."""

import logging
import sys

import numpy as np
import pytest
import tensorflow as tf
from trees import CLASSES, assert_same, jpeg, read, write_tree

from autoslim.config import compose
from autoslim.datasets import Choice, batches, image_folder, tfds, tfrecord
from autoslim.errors import AutoslimError
from autoslim.stages.images import open_dataset

LAYOUT = (
    "expected train-*.tfrecord and val-*.tfrecord (or test-*.tfrecord; also names as train-00000-of-00128)"
)
SHAPE = (8, 8, 3)
PLAIN = {"normalization": "pixels", "eval_crop": 1.0}


def refused(message, call, *args, **kwargs):
    with pytest.raises(AutoslimError) as error:
        call(*args, **kwargs)
    assert str(error.value) == message


def example(image, label, image_key="image/encoded", label_key="image/class/label"):
    feature = {
        image_key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[image])),
        label_key: tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
        "image/filename": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"x" * label])),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def write_records(path, examples):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for item in examples:
            writer.write(item)


def write_both(root, train=5, per_file=4, **keys):
    """The same images as class folders and as records: (folder, folder of records)."""
    images = write_tree(root / "tree", train)
    (root / "records").mkdir()
    for split, count in (("train", train), ("val", 2)):
        items = [example(jpeg(x), n // count, **keys) for n, x in enumerate(images[split])]
        for number, start in enumerate(range(0, len(items), per_file)):
            write_records(
                root / "records" / f"{split}-{number:05d}.tfrecord", items[start : start + per_file]
            )
    return root / "tree", root / "records"


def test_records_give_what_a_folder_of_the_same_images_gives(tmp_path):
    tree, records = write_both(tmp_path)
    one, other = image_folder(str(tree), SHAPE, **PLAIN), tfrecord(str(records), SHAPE, **PLAIN)
    assert (other.classes, other.class_names) == (3, None)
    assert other.train_labels.tolist() == one.train_labels.tolist()
    assert_same(read(other.test(4)), read(one.test(4)))
    index = one.split(0.4, seed=1)[1]
    contents = []  # in orders of their own: a file is known by its name, a record by its content
    for data in (one, other):
        x, y = (np.concatenate(part) for part in zip(*read(data.heldout(index, 4)), strict=True))
        assert sorted(y) == sorted(one.train_labels[index])
        contents.append(sorted(image.tobytes() for image in x))
    assert contents[0] == contents[1]
    how = {"index": np.arange(14), "seed": 3, "crop": "resized", "flip": True, "mixup": 0.3}
    assert_same(read(other.training(4, **how).dataset(2)), read(one.training(4, **how).dataset(2)))


def test_same_batches_from_any_start_with_any_number_of_threads(tmp_path, monkeypatch):
    data = tfrecord(str(write_both(tmp_path)[1]), SHAPE)
    how = {"crop": "resized", "pad": 1, "flip": True, "cutmix": 1.0}
    whole = read(data.training(4, seed=5, **how).dataset(3))
    for epoch, batch in [(0, 2), (2, 1)]:
        assert_same(
            read(data.training(4, seed=5, **how).dataset(3, epoch, batch)), whole[epoch * 3 + batch :]
        )
    monkeypatch.setattr(batches, "THREADS", 1)
    assert_same(read(data.training(4, seed=5, **how).dataset(3)), whole)


def test_keys_label_offset_and_subset(tmp_path):
    keys = {"image_key": "png", "label_key": "kind"}
    records = write_both(tmp_path, **keys)[1]
    data = tfrecord(str(records), SHAPE, **keys, label_offset=-2, choice=Choice(train_images=9))
    assert data.classes == 5 and np.bincount(data.train_labels).tolist() == [0, 0, 3, 3, 3]
    assert len(read(data.training(9).dataset(1))) == 1
    refused(
        f"{records}/train-00000.tfrecord: its records have no bytes feature image/encoded and no integer "
        "feature image/class/label. There are: image/filename (bytes), kind (integer), png (bytes). Set "
        "dataset.image_key and dataset.label_key to the encoded image and its label.",
        tfrecord, str(records),
    )  # fmt: skip
    refused(
        f"{records}/train-00000.tfrecord: its records have no integer feature png. There are: image/filename "
        "(bytes), kind (integer), png (bytes). Set dataset.image_key and dataset.label_key to the encoded "
        "image and its label.",
        lambda: tfrecord(str(records), SHAPE, image_key="png", label_key="png"),
    )
    refused(
        "tfrecord: labels of training images go from -1 to 1, but there are 3 classes: expected 0 to 2. "
        "Correct dataset.classes, dataset.label_offset or the files.",
        lambda: tfrecord(str(records), SHAPE, **keys, label_offset=1, classes=3).train,
    )


def test_files_by_the_names_that_imagenet_has(tmp_path):
    records = write_both(tmp_path)[1]
    for path in records.glob("val-*"):
        path.rename(records / "validation-00000-of-00001")
    (records / "train-notes.txt").write_text("no records")
    data = tfrecord(str(records), SHAPE)
    assert len(data.test_labels) in (2, 4) and len(data.train_labels) == 15


def test_files_that_are_missing_or_damaged(tmp_path):
    refused(
        f"dataset.path={tmp_path} holds no TFRecord files of train: {LAYOUT}. Found there: nothing. Arrange "
        "the images so, or correct dataset.path.",
        tfrecord, str(tmp_path),
    )  # fmt: skip
    records = write_both(tmp_path)[1]
    damaged = records / "train-00001.tfrecord"
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-7])
    refused(
        f"{damaged} is damaged or no TFRecord file (truncated record at {place(content)}' failed with Read "
        "less bytes than requested). Expected a whole file, not compressed, with an integer label in each "
        "record. Write it again.",
        lambda: tfrecord(str(records), SHAPE).train,
    )


def place(content):
    """Where the last of the records begins, walking over their lengths."""
    starts = [0]
    while starts[-1] < len(content):
        length = int.from_bytes(content[starts[-1] : starts[-1] + 8], "little")
        starts.append(starts[-1] + length + 16)
    return starts[-2]


def test_places_are_kept_until_a_file_changes(tmp_path, monkeypatch):
    records = write_both(tmp_path)[1]
    choice = Choice(cache=tmp_path / "cache")
    first = tfrecord(str(records), SHAPE, choice=choice)
    whole = read(first.training(5).dataset(1))
    monkeypatch.setattr("autoslim.datasets.records._find", lambda *args: 1 / 0)
    again = tfrecord(str(records), SHAPE, choice=choice)
    assert_same(read(again.training(5).dataset(1)), whole)
    assert again.fingerprint == first.fingerprint
    (records / "train-00000.tfrecord").write_bytes((records / "val-00000.tfrecord").read_bytes())
    other = tfrecord(str(records), SHAPE, choice=choice)
    assert other.fingerprint != first.fingerprint
    with pytest.raises(ZeroDivisionError):
        _ = other.train


@pytest.mark.parametrize(
    "damage", [lambda b: b"", lambda b: b[: len(b) // 2], lambda b: b[:-200] + bytes(200)]
)
def test_a_damaged_cache_is_only_a_cache(tmp_path, caplog, damage):
    records = write_both(tmp_path)[1]
    choice = Choice(cache=tmp_path / "cache")
    whole = read(tfrecord(str(records), SHAPE, choice=choice).training(5).dataset(1))
    for path in (tmp_path / "cache").glob("records-*.npz"):
        path.write_bytes(damage(path.read_bytes()))
    assert_same(read(tfrecord(str(records), SHAPE, choice=choice).training(5).dataset(1)), whole)
    assert "the records are read again" in caplog.text
    caplog.clear()
    assert_same(read(tfrecord(str(records), SHAPE, choice=choice).training(5).dataset(1)), whole)
    assert not caplog.messages


def test_broken_images_are_named_by_their_place(tmp_path, caplog):
    records = write_both(tmp_path)[1]
    last = records / "train-00009.tfrecord"
    write_records(last, [example(b"\xff\xd8\xffno", 1), example(jpeg(np.zeros((9, 9, 3), np.uint8)), 2)])
    with caplog.at_level(logging.WARNING):
        data = tfrecord(str(records), SHAPE, choice=Choice(max_broken=0.1))
        assert data.train_labels.tolist()[-3:] == [2, 2, 2] and len(data.train) == 16
    assert caplog.messages[0].startswith(
        f"1 of 17 training images of tfrecord cannot be decoded and are left out: {last}, record at byte 0 ("
    )


@pytest.mark.parametrize("source", ["image_folder", "tfrecord"])
def test_from_the_configuration(tmp_path, source):
    tree, records = write_both(tmp_path)
    path = tree if source == "image_folder" else records
    config = compose(
        [f"dataset={source}", f"dataset.path={path}", "dataset.shape=[8,8,1]", "dataset.name=own"]
    )
    config.dataset.normalization = "unit"
    data = open_dataset(config.dataset, tmp_path / "cache")
    assert (data.name, data.shape, data.classes, len(data.test_labels)) == ("own", (8, 8, 1), 3, 6)
    assert data.eval_crop == 0.875 and list((tmp_path / "cache").iterdir())


# ---- tensorflow-datasets ----


def test_tfds_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    refused(
        "dataset=tfds needs the package tensorflow-datasets (import of tensorflow_datasets halted; None in "
        "sys.modules). Install it with pip install 'autoslim[tfds]'.",
        tfds, "mnist",
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_tfds(tmp_path):
    library = pytest.importorskip("tensorflow_datasets")
    tree, _ = write_both(tmp_path)

    class OwnAnimals(library.core.GeneratorBasedBuilder):
        VERSION = library.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": library.features.Image(),
                "label": library.features.ClassLabel(names=CLASSES),
            }
            return library.core.DatasetInfo(
                builder=self,
                features=library.features.FeaturesDict(features),
                supervised_keys=("image", "label"),
            )

        def _split_generators(self, manager):
            return {name: self._generate_examples(name) for name in ("train", "val")}

        def _generate_examples(self, split):
            for path in sorted((tree / split).glob("*/*.jpg")):
                yield f"{path.parent.name}{path.name}", {"image": path, "label": path.parent.name}

    data = tfds("own_animals", str(tmp_path / "tfds"), SHAPE, **PLAIN)
    assert (data.classes, data.class_names) == (3, CLASSES)
    one = image_folder(str(tree), SHAPE, **PLAIN)
    assert sorted(data.train_labels) == sorted(one.train_labels)
    left, right = (np.concatenate([x for x, _ in read(d.test(4))]) for d in (data, one))
    assert {x.tobytes() for x in left} == {x.tobytes() for x in right}
    refused(
        "dataset.name=own_animals has the splits train, val: expected train and held. Set dataset.test_split "
        "to one of them.",
        tfds, "own_animals", str(tmp_path / "tfds"), test="held",
    )  # fmt: skip
    with pytest.raises(AutoslimError, match=r"^dataset\.name=no_such_set could not be loaded by tensorflow-"):
        tfds("no_such_set", str(tmp_path))
