"""Images in class folders: layout, decoding, order, hold-out, broken files, and skipping without reading."""

import json
import logging
import os

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from trees import CLASSES, assert_same, jpeg, picture, png, read, refused, write_tree

from autoslim.datasets import Choice, batches, evaluation_batches, image_folder

LAYOUT = (
    "expected train/<class>/* (.jpg, .jpeg, .png, .bmp, .gif, .webp) and val/<class>/* (or test/<class>/*)"
)
SHAPE = (8, 8, 3)


def opened(path, shape=SHAPE, **more):
    return image_folder(str(path), shape, **{"normalization": "pixels", **more})


def in_order(data):
    """The training images by their index, not augmented."""
    return evaluation_batches(data.train, data.train_labels, 100, data.mean, data.std, crop=data.eval_crop)


# ---- layout ----


def test_classes_are_numbered_by_name_and_files_sorted(tmp_path):
    write_tree(tmp_path)
    (tmp_path / "train" / "bee" / "notes.txt").write_text("no image")
    (tmp_path / "train" / ".cache").mkdir()
    data = opened(tmp_path)
    assert (data.classes, data.class_names, data.shape) == (3, CLASSES, SHAPE)
    assert data.train_labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert data.test_labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert data.train.name(5) == str(tmp_path / "train" / "bee" / "1.jpg")


def test_layouts_that_are_refused(tmp_path):
    refused(
        f"dataset.path is missing: {LAYOUT}. Set dataset.path to that folder.",
        image_folder, None,
    )  # fmt: skip
    refused(
        f"dataset.path={tmp_path / 'no'} does not exist: {LAYOUT}. Correct dataset.path.",
        opened, tmp_path / "no",
    )  # fmt: skip
    (tmp_path / "ant").mkdir()
    refused(
        f"dataset.path={tmp_path} has no folder train: {LAYOUT}. Found there: ant. Arrange the images so, or "
        "correct dataset.path. Of class folders alone a share of each class "
        "can be the test images: dataset.test_split=0.2.",
        opened, tmp_path,
    )  # fmt: skip
    (tmp_path / "train" / "ant").mkdir(parents=True)
    refused(
        f"dataset.path={tmp_path} has no folder val or validation or test: {LAYOUT}. Found there: ant, "
        "train. Arrange the images so, or correct dataset.path. Of class folders alone a share of each class "
        "can be the test images: dataset.test_split=0.2.",
        opened, tmp_path,
    )  # fmt: skip
    (tmp_path / "val" / "cow").mkdir(parents=True)
    refused(
        f"dataset.path={tmp_path}: its folder train holds 1 class folders: {LAYOUT}, with at least 2 "
        "classes. Put the images into one folder for each class.",
        opened, tmp_path,
    )  # fmt: skip
    (tmp_path / "train" / "bee").mkdir()
    refused(
        f"{tmp_path}/val has class folders that train has not: cow. Expected the same classes, such as ant, "
        "bee. Rename or remove them.",
        opened, tmp_path,
    )  # fmt: skip
    (tmp_path / "val" / "cow").rename(tmp_path / "val" / "ant")
    refused(f"{tmp_path}/train holds no images: {LAYOUT}. Put them there.", opened, tmp_path)


def test_number_of_classes_that_is_not_there(tmp_path):
    write_tree(tmp_path)
    refused(
        "dataset.classes=5, but image_folder has 3 classes. Set dataset.classes=null to count them, or "
        "correct dataset.path.",
        opened, tmp_path, classes=5,
    )  # fmt: skip
    assert opened(tmp_path, classes=3).classes == 3


def test_test_images_of_a_named_folder(tmp_path):
    write_tree(tmp_path)
    (tmp_path / "val").rename(tmp_path / "held")
    assert len(opened(tmp_path, test="held").test_labels) == 6
    assert len(opened(tmp_path, test="train").test_labels) == 12


def test_fingerprint_is_of_the_files_and_not_of_their_place(tmp_path):
    write_tree(tmp_path / "a")
    first = opened(tmp_path / "a").fingerprint
    (tmp_path / "a").rename(tmp_path / "b")
    assert opened(tmp_path / "b").fingerprint == first
    (tmp_path / "b" / "val" / "cat" / "1.jpg").write_bytes(jpeg(picture(7)))
    assert opened(tmp_path / "b").fingerprint != first


# ---- decoding ----


def test_evaluation_is_resize_and_central_crop_in_order(tmp_path):
    images = write_tree(tmp_path, encode=png, suffix=".png")["val"]
    data = opened(tmp_path, eval_crop=0.75)
    found = read(data.test(4))
    assert [len(y) for _, y in found] == [4, 2]
    assert np.concatenate([y for _, y in found]).tolist() == [0, 0, 1, 1, 2, 2]
    for x, image in zip(np.concatenate([x for x, _ in found]), images, strict=True):
        height, width = image.shape[:2]
        side = round(0.75 * min(height, width))
        top, left = (height - side) // 2, (width - side) // 2
        box = (left, top, left + side, top + side)
        slow = Image.fromarray(image).crop(box).resize((8, 8), Image.Resampling.BILINEAR)
        np.testing.assert_allclose(x, np.asarray(slow), atol=1.01)


KINDS = [(mode, "png") for mode in ("L", "RGB", "RGBA", "P")] + [(m, "jpeg") for m in ("L", "RGB", "CMYK")]


@pytest.mark.parametrize(("mode", "kind"), KINDS)
def test_every_kind_of_pixels_becomes_the_channels_asked_for(tmp_path, mode, kind):
    write_tree(tmp_path)
    colour = Image.fromarray(picture(3, 16, 16))
    colour.convert(mode).save(tmp_path / "val" / "ant" / f"0.{kind}", kind, **QUALITY[kind])
    (tmp_path / "val" / "ant" / "0.jpg").unlink()
    [(x, _)] = read(opened(tmp_path, (16, 16, 3), eval_crop=1.0).test(6))
    expected = np.asarray(colour.convert("L").convert("RGB") if mode == "L" else colour)
    np.testing.assert_allclose(x[0], expected, atol=60 if mode == "P" else 12)
    if mode in ("L", "RGB"):
        [(x, _)] = read(opened(tmp_path, (16, 16, 1), eval_crop=1.0).test(6))
        np.testing.assert_allclose(x[0, ..., 0], np.asarray(colour.convert("L")), atol=8)


QUALITY = {"jpeg": {"quality": 100, "subsampling": 0}, "png": {}}


def test_training_images_are_whole_or_random_parts(tmp_path):
    """Images whose columns and rows are numbered show which part of them a crop is."""
    for split in ("train", "val"):
        for name in ("ant", "bee"):
            (tmp_path / split / name).mkdir(parents=True)
            ramp = np.zeros((64, 64, 3), np.uint8)
            ramp[..., 0], ramp[..., 1] = np.arange(64)[:, None] * 4, np.arange(64) * 4
            (tmp_path / split / name / "0.png").write_bytes(png(ramp))
    data = opened(tmp_path, (16, 16, 3))
    for x, _ in read(data.training(2).dataset(2)):
        np.testing.assert_allclose(x[0, :, 0, 0], np.arange(16) * 16 + 6, atol=2)
    shares, ratios = [], []
    source = data.training(2, crop="resized", scale=(0.25, 0.5), ratio=(0.5, 2.0))
    for x, _ in read(source.dataset(60)):
        for image in x:
            height, width = (np.ptp(image[..., c]) / 4 * 16 / 15 for c in (0, 1))
            shares.append(height * width / 64**2)
            ratios.append(width / height)
    assert min(shares) > 0.2 and max(shares) < 0.58 and np.std(shares) > 0.05
    assert 0.44 < min(ratios) < 0.7 and 1.4 < max(ratios) < 2.2


# ---- order, hold-out, skipping ----


def test_holdout_and_subset_are_balanced(tmp_path):
    write_tree(tmp_path, train=5)
    data = opened(tmp_path)
    train, held = data.split(0.4, seed=1)
    assert np.bincount(data.train_labels[held]).tolist() == [2, 2, 2]
    assert sorted([*train, *held]) == list(range(15))
    heldout = read(data.heldout(held, 4))
    assert [len(y) for _, y in heldout] == [3, 3]
    assert [sorted(y) for _, y in heldout] == [[0, 1, 2]] * 2
    part = opened(tmp_path, choice=Choice(train_images=6))
    assert np.bincount(part.train_labels).tolist() == [2, 2, 2]
    assert len(part.train) == 6 and len(part.test_labels) == 6


def test_an_epoch_holds_every_image_of_the_index_once(tmp_path):
    write_tree(tmp_path, train=5)
    data = opened(tmp_path)
    index = np.array([0, 3, 4, 7, 8, 9, 12, 14])
    source = data.training(4, index=index, seed=2)
    assert source.steps_per_epoch == 2
    whole = np.concatenate([x for x, _ in read(in_order(data))])
    for epoch in range(2):
        x, y = (np.concatenate(part) for part in zip(*read(source.dataset(epoch + 1, epoch)), strict=True))
        nearest = [int(np.abs(whole - image).mean((1, 2, 3)).argmin()) for image in x]
        assert sorted(nearest) == index.tolist()
        assert y.tolist() == data.train_labels[nearest].tolist()


VARIED = {"crop": "resized", "pad": 1, "flip": True, "color": (0.4, 0.4, 0.4), "mixup": 0.2, "cutmix": 1.0}


@pytest.mark.slow
def test_same_batches_from_any_start_with_any_number_of_threads(tmp_path, monkeypatch):
    write_tree(tmp_path, train=5)
    data = opened(tmp_path)

    def source():
        return data.training(4, index=np.arange(14), seed=5, **VARIED)

    whole = read(source().dataset(3))
    assert len(whole) == 9
    assert_same(read(source().dataset(3, 1, 1)), whole[4:])
    monkeypatch.setattr(batches, "THREADS", 1)
    assert_same(read(source().dataset(3)), whole)


def test_what_is_skipped_is_not_read(tmp_path):
    write_tree(tmp_path, train=6)
    data = opened(tmp_path, choice=Choice(memory=0))
    source = data.training(3, seed=1)
    last = read(source.dataset(2, 1, 5))
    whole = np.concatenate([x for x, _ in read(in_order(data))])
    used = {int(np.abs(whole - image).mean((1, 2, 3)).argmin()) for image in last[0][0]}
    assert len(last) == 1 and len(used) == 3
    for index in set(range(18)) - used:
        os.remove(data.train.name(index))
    assert_same(read(source.dataset(2, 1, 5)), last)
    with pytest.raises(tf.errors.NotFoundError):
        read(source.dataset(2, 1, 4))


# ---- mean and deviation ----


def test_mean_and_deviation_of_the_training_images(tmp_path):
    images = write_tree(tmp_path, encode=png, suffix=".png")["train"]
    data = opened(tmp_path, (16, 16, 3), normalization="dataset", eval_crop=1.0)
    pixels = np.concatenate(
        [
            np.asarray(
                Image.fromarray(image).resize(
                    (16, 16), Image.Resampling.BILINEAR, ((w - h) // 2, 0, (w - h) // 2 + h, h)
                )
            ).reshape(-1, 3)
            for image in images
            for h, w in [(min(image.shape[:2]), image.shape[1])]
        ]
    )
    np.testing.assert_allclose(data.mean, pixels.mean(0) / 255, atol=0.02)
    np.testing.assert_allclose(data.std, pixels.std(0) / 255, atol=0.02)
    assert opened(tmp_path, normalization="imagenet").mean.tolist() == pytest.approx([0.485, 0.456, 0.406])


# ---- broken files ----


def break_one(root, how=b"<html>not found</html>"):
    path = root / "train" / "bee" / "1.jpg"
    path.write_bytes(how)
    return path


def test_broken_images_are_named_and_left_out(tmp_path, caplog):
    write_tree(tmp_path)
    whole = (tmp_path / "train" / "cat" / "0.jpg").read_bytes()
    broken = break_one(tmp_path)
    cut = tmp_path / "train" / "cat" / "0.jpg"
    cut.write_bytes(whole[: len(whole) // 2])
    data = opened(tmp_path, choice=Choice(max_broken=0.2))
    with caplog.at_level(logging.WARNING):
        assert len(data.train) == 10 and data.train_labels.tolist() == [0] * 4 + [1] * 3 + [2] * 3
    [message] = caplog.messages
    assert message.startswith(
        f"2 of 12 training images of image_folder cannot be decoded and are left out: {broken} (Unknown "
        "image file format."
    )
    assert f"{cut} (jpeg::Uncompress failed" in message
    assert len(read(data.training(5).dataset(1))) == 2


def test_too_many_broken_images_stop_the_run(tmp_path):
    write_tree(tmp_path)
    broken = break_one(tmp_path, b"")
    refused(
        "1 of 12 training images of image_folder cannot be decoded, more than the share "
        f"dataset.max_broken=0.05: {broken} (Input is empty). Replace or remove them, or raise "
        "dataset.max_broken.",
        lambda: opened(tmp_path, choice=Choice(max_broken=0.05)).train,
    )


def test_what_was_found_is_kept_until_a_file_changes(tmp_path, monkeypatch):
    write_tree(tmp_path / "data")
    broken = break_one(tmp_path / "data")
    choice = Choice(max_broken=0.2, cache=tmp_path / "cache")
    assert len(opened(tmp_path / "data", choice=choice).train) == 11
    kept = sorted((tmp_path / "cache").glob("verified-*.json"))
    assert [json.loads(path.read_text())["images"] for path in kept] in ([12, 6], [6, 12])
    decoded = []
    monkeypatch.setattr(
        "autoslim.datasets.verify._decode_all", lambda images: decoded.append(len(images)) or {}
    )
    assert len(opened(tmp_path / "data", choice=choice).train) == 11
    assert decoded == []
    broken.write_bytes(jpeg(picture(1)))
    os.utime(broken, (1, 1))
    assert len(opened(tmp_path / "data", choice=choice).train) == 12
    assert decoded == [12]


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[:-9], lambda b: b.replace(b"12", b"13")])
def test_a_damaged_cache_is_only_a_cache(tmp_path, caplog, damage):
    write_tree(tmp_path / "data")
    break_one(tmp_path / "data")
    choice = Choice(max_broken=0.2, cache=tmp_path / "cache")
    assert len(opened(tmp_path / "data", choice=choice).train) == 11
    kept = sorted((tmp_path / "cache").glob("verified-*.json"))
    good = [path.read_bytes() for path in kept]
    for path in kept:
        path.write_bytes(damage(path.read_bytes()))
    assert len(opened(tmp_path / "data", choice=choice).train) == 11
    assert [path.read_bytes() for path in kept] == good
    assert "the images are looked at again" in caplog.text


def test_verification_can_be_left_out(tmp_path):
    write_tree(tmp_path)
    break_one(tmp_path)
    assert len(opened(tmp_path, choice=Choice(verify=False)).train) == 12


# ---- other formats, and folders of classes alone ----

FORMATS = [("bmp", mode) for mode in ("L", "P", "RGB")] + [("gif", "P"), ("webp", "RGB"), ("webp", "RGBA")]


@pytest.mark.parametrize(("kind", "mode"), FORMATS)
def test_other_formats_are_read_as_pillow_reads_them(tmp_path, kind, mode):
    write_tree(tmp_path)
    path = tmp_path / "val" / "ant" / f"0.{kind}"
    Image.fromarray(picture(3, 16, 16)).convert(mode).save(path, lossless=True)
    (tmp_path / "val" / "ant" / "0.jpg").unlink()
    for channels, wanted in ((3, "RGB"), (1, "L")):
        [(x, _)] = read(opened(tmp_path, (16, 16, channels), eval_crop=1.0).test(6))
        with Image.open(path) as opened_image:
            whole = np.asarray(opened_image.convert(wanted)).reshape(16, 16, channels)
        np.testing.assert_allclose(x[0], whole, atol=1e-3)


def test_what_is_no_image_is_named(tmp_path, caplog):
    write_tree(tmp_path)
    folder = tmp_path / "train" / "bee"
    (folder / "scan.tiff").write_bytes(b"")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "gone.jpg").symlink_to("nowhere.jpg")
    (folder / "notes.txt").write_text("")
    assert len(opened(tmp_path).train_labels) == 12
    [told] = caplog.messages
    assert told == (
        f"{tmp_path}/train: 3 files, folders or links in the class folders are no images (.jpg, .jpeg, .png, "
        ".bmp, .gif, .webp) and are left out: bee/gone.jpg, bee/loop.jpg, bee/scan.tiff."
    )


def test_names_that_are_no_utf8(tmp_path):
    write_tree(tmp_path)
    for split in ("train", "val"):
        os.rename(tmp_path / split / "bee", os.path.join(os.fsencode(tmp_path / split), b"b\xff"))
    data = opened(tmp_path)
    assert data.class_names == ("ant", "b\N{REPLACEMENT CHARACTER}", "cat")
    assert [len(y) for _, y in read(data.test(6))] == [6]
    assert "b\N{REPLACEMENT CHARACTER}" in data.train.name(5)


def test_a_share_of_each_class_is_tested_on(tmp_path):
    write_tree(tmp_path)
    flat = tmp_path / "train"
    data = opened(flat, test="0.25")
    assert data.train_labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert data.test_labels.tolist() == [0, 1, 2]
    names = {data.train.name(k) for k in range(9)} | {data.test_set.name(k) for k in range(3)}
    assert len(names) == 12
    tested = [data.test_set.name(k) for k in range(3)]
    (flat / "ant" / "new.jpg").write_bytes(jpeg(picture(9)))
    more = opened(flat, test="0.25")
    assert [more.test_set.name(k) for k in range(len(more.test_labels))][-2:] == tested[-2:]
    for path in list((flat / "bee").iterdir())[1:]:
        path.unlink()
    refused(
        f"{flat}/bee holds 1 images: at least 2 are needed, one to train on and one to test on "
        "(dataset.test_split=0.25).",
        opened, flat, test="0.25",
    )  # fmt: skip


def test_classes_without_test_images_are_named(tmp_path, caplog):
    write_tree(tmp_path)
    for path in (tmp_path / "val" / "cat").iterdir():
        path.unlink()
    assert len(opened(tmp_path).test_labels) == 4
    assert caplog.messages == [
        "image_folder: 1 classes with training images have no test image (cat): the test metric says nothing "
        "of them."
    ]
