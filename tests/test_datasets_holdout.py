"""Held-out images: which they are, and in which order, depends on the images and the seed alone."""

import logging
import shutil
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from test_datasets_records import example, write_records
from trees import jpeg, picture, png, read, write_tree

import autoslim
from autoslim.config import compose
from autoslim.datasets import ArrayDataset, ArrayImages, Choice, image_folder, load, split_holdout, tfrecord
from autoslim.datasets.holdout import mixed_order
from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.slimming.levels import Levels
from autoslim.stages import baseline, supernet
from autoslim.stages.experiment import Experiment

SIZES = ([10] * 7, [900, *[1] * 99], [3, 20, 100, 101], [1], [5, 3])
PLAIN = {"normalization": "pixels", "eval_crop": 1.0}


def noise(count, side=8, seed=0, channels=3):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, channels), dtype=np.uint8)


def sorted_and_shuffled(doubles=0):
    """The same 60 images of 3 classes, by class and in a random order; the first few are copies of one."""
    x, y = noise(60), np.repeat(np.arange(3), [30, 20, 10])
    x[:doubles] = x[0]
    order = np.random.default_rng(1).permutation(60)
    make = partial(ArrayDataset, "x", test_images=x[:4], test_labels=y[:4], classes=3)
    return make(train_images=x, train_labels=y), make(train_images=x[order], train_labels=y[order])


def batches_of(data, seed=3, size=7):
    """The held-out batches."""
    return read(data.heldout(data.split(0.3, seed)[1], size, seed))


def assert_equal(left, right):
    assert len(left) == len(right) > 0
    for (x, y), (a, b) in zip(left, right, strict=True):
        np.testing.assert_array_equal(x, a)
        np.testing.assert_array_equal(y, b)


# ---- order ----


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_every_beginning_holds_the_classes_in_their_shares(sizes):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    order = mixed_order(labels, seed=1)
    assert sorted(order) == list(range(len(labels)))
    counts = np.zeros(len(sizes))
    for n, index in enumerate(order, 1):
        counts[labels[index]] += 1
        assert np.abs(counts - n * np.array(sizes) / len(labels)).max() < 1


@pytest.mark.parametrize("doubles", [0, 12])
def test_sorted_and_shuffled_images_give_the_same_batches(doubles):
    one, other = sorted_and_shuffled(doubles)
    assert_equal(batches_of(one), batches_of(other))
    assert_equal(read(one.clean(8, 3, seed=2)), read(other.clean(8, 3, seed=2)))
    for a, b in zip(one.sample(17, train=True), other.sample(17, train=True), strict=True):
        np.testing.assert_array_equal(a, b)
    first, second = (np.concatenate([x for x, _ in batches_of(one, seed)]) for seed in (3, 4))
    assert (first != second).any()


def test_copies_of_an_image_lie_on_one_side():
    one, _ = sorted_and_shuffled(doubles=12)
    for seed in range(10):
        train, held = (one.train.keys[index] for index in one.split(0.3, seed))
        assert not set(train) & set(held)
    same = np.zeros(6, np.uint64)  # nothing but copies: no other way
    assert [len(part) for part in split_holdout(np.zeros(6, int), 0.5, 0, same)] == [3, 3]


def test_train_images_chooses_the_same_of_sorted_and_shuffled_files(tmp_path):
    x, y = noise(200, 32), np.repeat(np.arange(10), 20)
    order = np.random.default_rng(1).permutation(200)
    parts = []
    for place in (np.arange(200), order):
        file = tmp_path / f"{len(parts)}.npz"
        np.savez(file, x_train=x[place], y_train=y[place], x_test=x[:9], y_test=y[:9])
        parts.append(load("cifar10", str(file), train_images=50))
    assert {i.tobytes() for i in parts[0].train_images} == {i.tobytes() for i in parts[1].train_images}
    assert_equal(batches_of(parts[0]), batches_of(parts[1]))


def test_records_in_another_order_and_other_files(tmp_path):
    items = [example(jpeg(picture((1, n))), n // 8) for n in range(24)]
    order = np.random.default_rng(0).permutation(24)
    found = []
    for name, place, cut in (("a", np.arange(24), 12), ("b", order, 5)):
        (tmp_path / name).mkdir()
        write_records(tmp_path / name / "train-0.tfrecord", [items[n] for n in place[:cut]])
        write_records(tmp_path / name / "train-1.tfrecord", [items[n] for n in place[cut:]])
        write_records(tmp_path / name / "val-0.tfrecord", items[:3])
        found.append(batches_of(tfrecord(str(tmp_path / name), (8, 8, 3), **PLAIN)))
    assert_equal(*found)


def test_a_search_on_sorted_images_equals_the_one_on_shuffled_images():
    x = keras.Input((8, 8, 3))
    y = x
    for width in (8, 8):
        y = keras.layers.Conv2D(width, 3, padding="same", use_bias=False)(y)
        y = keras.layers.ReLU()(keras.layers.BatchNormalization()(y))
    y = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(y))
    keras.utils.set_random_seed(0)
    graph = ChannelGraph(keras.models.clone_model(keras.Model(x, y)))
    levels = Levels.spaced(graph, 4, 0.25, 2)
    paths = []
    for data in sorted_and_shuffled():
        held = data.heldout(data.split(0.3)[1], 6)
        paths.append(autoslim.search(graph, levels, held, target=[0.5]).to_dict())
    assert paths[0] == paths[1]


# ---- batches ----


@pytest.mark.parametrize("count, size", [(21, 5), (9, 2), (20, 3), (10, 4), (6, 6), (3, 9), (1, 4), (7, 1)])
def test_batches_differ_by_at_most_one_image(count, size):
    x = noise(count)
    data = ArrayDataset("x", x, np.zeros(count, np.int32), x, np.zeros(count, np.int32), 1)
    sizes = [len(y) for _, y in read(data.heldout(np.arange(count), size))]
    assert sum(sizes) == count and max(sizes) - min(sizes) <= 1
    assert max(sizes) <= max(size, 3) and min(sizes) >= min(2, count)


def test_batches_too_small_for_the_classes_are_named_once(caplog):
    x, y = noise(40), np.arange(40, dtype=np.int32) % 10
    data = ArrayDataset("x", x, y, x, y, 10)
    with caplog.at_level(logging.WARNING):
        data.heldout(np.arange(40), 10)
        assert not caplog.messages
        for _ in range(2):
            data.heldout(np.arange(40), 4)
    assert caplog.messages == [
        "x: held-out batches of 4 images cannot hold the 10 classes (slim.batch_size=4, 40 held-out images). "
        "Each batch is normalised by its own statistics, so scores are worse and noisier than with all "
        "classes in it. Raise slim.batch_size to 20 or more, if memory allows."
    ]


# ---- one way of resizing ----


def textures(root):
    """Class folders and records of the same 64x64 photographs of noise, 3 classes: (folder, folder)."""
    (root / "records").mkdir()
    for split, count in (("train", 30), ("val", 30)):
        items = []
        for n in range(count):
            folder = root / "tree" / split / "abc"[n % 3]
            folder.mkdir(parents=True, exist_ok=True)
            image = png(noise(1, 64, (split == "train") * 100 + n)[0])
            (folder / f"{n}.png").write_bytes(image)
            items.append(example(image, n % 3))
        write_records(root / "records" / f"{split}-0.tfrecord", items)
    return root / "tree", root / "records"


def statistics(images):
    """Mean, deviation and mean step between neighbours, which antialiasing lowers."""
    images = np.asarray(images, np.float64)
    return np.array([images.mean(), images.std(), np.abs(np.diff(images, axis=2)).mean()])


CROPS = {"none": {}, "resized": {"crop": "resized", "scale": (0.99, 1.0), "ratio": (1.0, 1.0)}}


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("source", ["image_folder", "tfrecord", "arrays"])
def test_training_images_have_the_statistics_of_all_others(tmp_path, source, crop):
    if source == "arrays":
        x, y = noise(60, 16), np.arange(60, dtype=np.int32) % 3
        data = ArrayDataset("x", x[:30], y[:30], x[30:], y[30:], 3, **PLAIN)
    else:
        tree, records = textures(tmp_path)
        data = image_folder(str(tree), (16, 16, 3), **PLAIN) if source == "image_folder" else None
        data = data or tfrecord(str(records), (16, 16, 3), **PLAIN)
    streams = {
        "training": data.training(30, **CROPS[crop]).dataset(3),
        "held out": data.heldout(np.arange(30), 10),
        "test": data.test(10),
        "calibration": data.clean(10, 3),
        "sample": [data.sample(30, train=True)],
    }
    found = {name: statistics(np.concatenate([x for x, _ in batches])) for name, batches in streams.items()}
    for name, values in found.items():
        np.testing.assert_allclose(values, found["training"], rtol=0.02, err_msg=name)


def test_jpeg_is_decoded_as_pillow_does(tmp_path):
    write_tree(tmp_path, train=2)
    path = tmp_path / "val" / "ant" / "0.jpg"
    Image.fromarray(noise(1, 16)[0]).save(path, quality=80)
    [(x, _)] = read(image_folder(str(tmp_path), (16, 16, 3), **PLAIN).test(6))
    np.testing.assert_allclose(x[0], np.asarray(Image.open(path)), atol=1e-3)


# ---- images held apart ----


def write_apart(root):
    """Class folders with train, val and, beside them, images held apart."""
    write_tree(root / "data", train=4)
    for number, name in enumerate(("ant", "cat")):
        (root / "apart" / name).mkdir(parents=True)
        for k in range(3):
            (root / "apart" / name / f"new{k}.jpg").write_bytes(jpeg(picture((5, number, k))))
    return str(root / "data"), str(root / "apart")


def test_folder_held_apart(tmp_path):
    path, apart = write_apart(tmp_path)
    data = image_folder(path, (8, 8, 3), choice=Choice(holdout=apart), **PLAIN)
    train, held = data.split(0.2, seed=0)
    assert train.tolist() == list(range(12)) and held.tolist() == list(range(6))
    [(_, y)] = read(data.heldout(held, 6))
    assert sorted(y) == [0, 0, 0, 2, 2, 2]
    plain = image_folder(path, (8, 8, 3), **PLAIN)
    assert plain.fingerprint == data.fingerprint and plain.holdout_fingerprint is None
    (tmp_path / "apart" / "dog").mkdir()
    with pytest.raises(AutoslimError, match="apart has class folders that train has not: dog"):
        image_folder(path, choice=Choice(holdout=apart))


@pytest.mark.parametrize("split, what", [("train", "training"), ("val", "test")])
def test_images_that_are_not_kept_apart_are_refused(tmp_path, split, what):
    path, _ = write_apart(tmp_path)
    choice = Choice(holdout=f"{path}/{split}")
    with pytest.raises(
        AutoslimError, match=rf"images of dataset.holdout_path are {what} images too, such as"
    ):
        image_folder(path, (8, 8, 3), choice=choice).split()


def test_training_images_that_are_not_used_may_be_held_out(tmp_path):
    """With `dataset.train_images` the others of the folder are as unseen as those of another one."""
    path, apart = write_apart(tmp_path)
    few = Choice(train_images=6)
    used = {image_folder(path, (8, 8, 3), choice=few).train.name(k) for k in range(6)}
    for file in Path(path, "train").glob("*/*"):
        if not any(str(file).endswith(name) for name in used):
            Path(apart, file.parent.name).mkdir(exist_ok=True)
            shutil.copy(file, Path(apart, file.parent.name))
    data = image_folder(path, (8, 8, 3), choice=Choice(train_images=6, holdout=apart))
    assert [len(part) for part in data.split()] == [6, 6 + 6]
    with pytest.raises(AutoslimError, match="about 6 of the 12 images of .* are training images too"):
        image_folder(path, (8, 8, 3), choice=Choice(holdout=apart)).split()


def test_records_held_apart(tmp_path):
    items = [example(jpeg(picture((1, n))), n % 3) for n in range(20)]
    for name, part in (("train-0", items[:9]), ("val-0", items[9:12])):
        write_records(tmp_path / f"{name}.tfrecord", part)
    (tmp_path / "more").mkdir()
    write_records(tmp_path / "more" / "kept-00000-of-00001", items[12:])
    for apart in (tmp_path / "more", tmp_path / "more" / "kept-00000-of-00001"):
        data = tfrecord(str(tmp_path), (8, 8, 3), choice=Choice(holdout=str(apart)), **PLAIN)
        assert [len(part) for part in data.split()] == [9, 8]
        assert sum(len(y) for _, y in read(data.heldout(data.split()[1], 4))) == 8
    with pytest.raises(AutoslimError, match="of dataset.holdout_path are training images too"):
        choice = Choice(holdout=str(tmp_path / "train-0.tfrecord"))
        tfrecord(str(tmp_path), (8, 8, 3), choice=choice).split()


def test_arrays_held_apart(tmp_path):
    x, y = noise(60, 32), np.arange(60) % 10
    file, apart = tmp_path / "cifar10.npz", tmp_path / "apart.npz"
    np.savez(file, x_train=x[:40], y_train=y[:40], x_test=x[40:50], y_test=y[40:50])
    np.savez(apart, x=x[50:], y=y[50:])
    binary = b"".join(bytes([n % 10]) + x[n].transpose(2, 0, 1).tobytes() for n in range(50, 60))
    (tmp_path / "mine.bin").write_bytes(binary)
    for place in (apart, tmp_path / "mine.bin"):
        data = load("cifar10", str(file), holdout=str(place))
        assert [len(part) for part in data.split()] == [40, 10]
        [(images, labels)] = read(data.heldout(data.split()[1], 10))
        for image, label in zip(images, labels, strict=True):  # by the training images' constants
            np.testing.assert_allclose(image, (x[50 + label] / 255 - data.mean) / data.std, atol=1e-4)
    np.savez(apart, x=x[30:40], y=y[30:40])
    with pytest.raises(AutoslimError, match="about 10 of the 10 images of dataset.holdout_path are training"):
        load("cifar10", str(file), holdout=str(apart))
    with pytest.raises(AutoslimError, match=r"nowhere does not exist: expected an \.npz file"):
        load("cifar10", str(file), holdout=str(tmp_path / "nowhere"))


def test_images_held_apart_are_part_of_the_supernets_key_and_not_of_the_baselines(tmp_path):
    path, apart = write_apart(tmp_path)
    settings = {
        "dataset": "image_folder", "dataset.shape": [12, 12, 3], "arch": "resnet20", "arch.depth": 8,
        "dataset.path": path, "output": str(tmp_path / "out"),
    }  # fmt: skip
    plain, given = (Experiment(compose(settings | more)) for more in ({}, {"dataset.holdout_path": apart}))
    assert baseline.STAGE.folder(plain).path == baseline.STAGE.folder(given).path
    assert supernet.STAGE.folder(plain).path != supernet.STAGE.folder(given).path
    (tmp_path / "apart" / "ant" / "one_more.jpg").write_bytes(jpeg(picture(9)))
    other = Experiment(compose(settings | {"dataset.holdout_path": apart}))
    assert supernet.STAGE.folder(other).path != supernet.STAGE.folder(given).path
    assert len(given.images.split[0]) == 12


# ---- nothing held out is trained on ----


class Recorded(ArrayImages):
    """Images that note which of them were read."""

    def __init__(self, pixels):
        super().__init__(pixels)
        self.seen = set()

    def reader(self):
        read = super().reader()

        def note(index):
            self.seen.update(np.atleast_1d(index.numpy()).tolist())
            return read(index)

        def recorded(index):
            return tf.ensure_shape(tf.py_function(note, [index], tf.uint8), [None, *self.shape])

        return recorded


@pytest.mark.parametrize("init", ["scratch", "weights"])
def test_the_supernet_never_reads_a_held_out_image_in_training(tmp_path, monkeypatch, init):
    settings = {
        "arch": "resnet20", "arch.depth": 8, "arch.width": 4, "dataset.train_images": 100,
        "train.batch_size": 20, "supernet.epochs": 3, "supernet.init": init, "output": str(tmp_path),
    }  # fmt: skip
    experiment = Experiment(compose(settings))
    data = experiment.data
    train, held = experiment.images.split
    data.mean, data.std  # noqa: B018  # of all training images, before the record begins
    data._train = Recorded(data.train_images)
    evaluate, read = supernet.evaluate, []

    def evaluated(*args):
        """The first evaluation comes after the training."""
        read.append(set(data.train.seen))
        return evaluate(*args)

    monkeypatch.setattr(supernet, "evaluate", evaluated)
    with supernet.STAGE.folder(experiment).locked(0.0) as folder:
        supernet.run_supernet(experiment, folder)
    assert read[0] == set(train.tolist()) and not read[0] & set(held.tolist())
