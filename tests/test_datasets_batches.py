"""Splits and batches in memory: the balanced hold-out, and the stateless pipeline."""

import numpy as np
import pytest
from trees import assert_same, random_images, read, refused

from autoslim.datasets import (
    ArrayImages,
    Augmentation,
    TrainingBatches,
    balanced_subset,
    evaluation_batches,
    split_holdout,
)

# ---- hold-out ----


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_holdout_is_class_balanced_and_a_partition(share):
    labels = np.repeat(np.arange(5), [3, 20, 100, 101, 250])
    train, holdout = split_holdout(labels, share, seed=3)
    assert train.dtype == holdout.dtype == np.int64
    assert (np.diff(train) > 0).all() and (np.diff(holdout) > 0).all()
    assert sorted([*train, *holdout]) == list(range(len(labels)))
    expected = [max(1, round(share * n)) for n in (3, 20, 100, 101, 250)]
    assert np.bincount(labels[holdout]).tolist() == expected
    assert np.bincount(labels[train]).min() >= 1


def test_holdout_is_a_function_of_the_seed():
    labels = np.random.default_rng(0).integers(0, 4, 200)
    same, again, other = (split_holdout(labels, 0.2, seed)[1] for seed in (5, 5, 6))
    assert (same == again).all() and (same != other).any()


def test_holdout_refuses():
    for share in (0, 0.6):
        refused(
            f"dataset.holdout={share} is outside (0, 0.5]: it is the share of the training images to hold "
            "out for the search.",
            split_holdout, np.array([0, 0, 1, 1]), share, 0,
        )  # fmt: skip
    refused(
        "Cannot hold out images for the search: class 1 has one training image. Expected at least 2 of "
        "every class. Raise dataset.train_images, or use more data.",
        split_holdout, np.array([0, 1, 0]), 0.2, 0,
    )  # fmt: skip


def test_balanced_subset_keeps_shares_and_nests():
    labels = np.repeat(np.arange(3), [100, 300, 4])
    small, large = balanced_subset(labels, 40, seed=1), balanced_subset(labels, 80, seed=1)
    assert len(small) == 40 and len(set(small)) == 40 and (np.diff(small) > 0).all()
    assert np.bincount(labels[small]).tolist() == [10, 29, 1]
    assert set(small) <= set(large)


# ---- pipeline ----

MEAN, STD = np.array([0.3, 0.5], np.float32), np.array([0.2, 0.4], np.float32)


def batches(count=23, batch_size=5, seed=7, pad=1, flip=True):
    """Images of 4x3x2 pixels whose label is their index."""
    images = ArrayImages(random_images(count, (4, 3, 2)))
    how = Augmentation(pad=pad, flip=flip)
    return TrainingBatches(images, np.arange(count), batch_size, seed, MEAN, STD, how)


def test_types_shapes_and_steps():
    pipeline = batches()
    assert pipeline.steps_per_epoch == 4
    images, labels = pipeline.dataset(2).element_spec
    assert (images.shape, images.dtype.name) == ((5, 4, 3, 2), "float32")
    assert (labels.shape, labels.dtype.name) == ((5,), "int32")
    assert len(read(pipeline.dataset(2))) == 8


def test_same_batches_from_any_start():
    pipeline = batches()
    whole = read(pipeline.dataset(3))
    for epoch, batch in [(0, 0), (0, 3), (1, 0), (1, 2), (1, 4), (2, 3)]:
        assert_same(read(pipeline.dataset(3, epoch, batch)), whole[epoch * 4 + batch :])
    assert_same(read(batches().dataset(3)), whole)


def test_every_image_once_an_epoch_in_an_order_of_seed_and_epoch():
    orders = [
        np.concatenate([y for _, y in read(batches(20, 5, seed).dataset(epoch + 1, epoch))])
        for seed in (0, 1)
        for epoch in (0, 1)
    ]
    for order in orders:
        assert sorted(order) == list(range(20))
    assert len({tuple(order) for order in orders}) == 4


def test_augmentation_does_not_depend_on_the_batch_size():
    by_index = [
        {
            label: image
            for x, y in read(batches(20, size).dataset(1))
            for image, label in zip(x, y, strict=True)
        }
        for size in (1, 4, 20)
    ]
    for index in range(20):
        np.testing.assert_array_equal(by_index[0][index], by_index[1][index])
        np.testing.assert_array_equal(by_index[0][index], by_index[2][index])


def test_augmentation_is_a_shift_in_black_and_a_mirror():
    pipeline = batches(pad=1)
    padded = np.pad(pipeline.images.pixels, ((0, 0), (1, 1), (1, 1), (0, 0)))
    seen = set()
    for x, y in read(pipeline.dataset(60)):
        for image, index in zip(np.rint((x * STD + MEAN) * 255), y, strict=True):
            variants = {
                (top, left, mirror): padded[index, top : top + 4, left : left + 3][:, :: -1 if mirror else 1]
                for top in range(3)
                for left in range(3)
                for mirror in (False, True)
            }
            found = [key for key, variant in variants.items() if (variant == image).all()]
            assert len(found) == 1
            seen.update(found)
    assert len(seen) == 18


@pytest.mark.parametrize(("pad", "flip"), [(0, False), (1, False), (0, True)])
def test_shift_and_mirror_can_be_left_out(pad, flip):
    pipeline = batches(pad=pad, flip=flip)
    unchanged = mirrored = 0
    for x, y in read(pipeline.dataset(4)):
        raw = (pipeline.images.pixels[y] / 255 - MEAN) / STD
        unchanged += sum(np.allclose(a, b, atol=1e-5) for a, b in zip(x, raw, strict=True))
        mirrored += sum(np.allclose(a, b[:, ::-1], atol=1e-5) for a, b in zip(x, raw, strict=True))
    total = 4 * 4 * 5
    assert (unchanged == total) == (not pad and not flip)
    assert (mirrored > 0) == flip
    assert unchanged + mirrored == total or pad


def test_batch_size_is_lowered_to_the_images(caplog):
    caplog.set_level("INFO")
    pipeline = batches(count=6, batch_size=128)
    assert (pipeline.batch_size, pipeline.steps_per_epoch) == (6, 1)
    assert caplog.messages == ["Batch size 128 lowered to the 6 training images."]
    assert sorted(read(pipeline.dataset(1))[0][1]) == list(range(6))


def test_pipeline_refuses():
    refused(
        "Got 3 images and 2 labels to train on: expected as many labels as images, and at least one. Check "
        "the dataset.",
        TrainingBatches, ArrayImages(random_images(3, (2, 2, 2))), np.arange(2), 1, 0, MEAN, STD,
    )  # fmt: skip
    refused(
        "batch_size=0: expected at least 1 image.",
        TrainingBatches, ArrayImages(random_images(3, (2, 2, 2))), np.arange(3), 0, 0, MEAN, STD,
    )  # fmt: skip


def test_evaluation_batches_are_all_images_in_order():
    images = random_images(11, (4, 3, 2))
    found = read(evaluation_batches(ArrayImages(images), np.arange(11, dtype=np.uint8), 4, MEAN, STD))
    assert [len(y) for _, y in found] == [4, 4, 3]
    assert np.concatenate([y for _, y in found]).tolist() == list(range(11))
    x = np.concatenate([x for x, _ in found])
    np.testing.assert_allclose(x, (images / 255.0 - MEAN) / STD, atol=1e-5)
    assert x.dtype == np.float32 and found[0][1].dtype == np.int32
