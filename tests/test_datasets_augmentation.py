"""Augmentation: each operation against Pillow or plain arithmetic, mixing, and that nothing has a state."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps
from scipy.ndimage import map_coordinates
from trees import assert_same, picture, read

from autoslim.datasets import ArrayImages, Augmentation, TrainingBatches, batches
from autoslim.datasets.augmentation import recolored
from autoslim.datasets.mixing import mixed
from autoslim.datasets.randaugment import OPERATIONS, rand_augment
from autoslim.errors import AutoslimError

EVERYTHING = {
    "crop": "resized",
    "pad": 1,
    "flip": True,
    "color": (0.4, 0.4, 0.4),
    "randaugment": (2, 9.0),
    "mixup": 0.2,
    "cutmix": 1.0,
}


def noise(seed=0, shape=(13, 17, 3)):
    return np.random.default_rng(seed).integers(20, 230, shape, dtype=np.uint8)


def applied(name, image, strength):
    result = OPERATIONS[name](tf.cast(image, tf.float32), tf.constant(strength))
    return np.clip(np.round(result.numpy()), 0, 255)


def enhanced(kind):
    return lambda image, m: kind(Image.fromarray(image)).enhance(1 + 0.9 * m)


PILLOW = {
    "identity": lambda image, m: image,
    "auto_contrast": lambda image, m: ImageOps.autocontrast(Image.fromarray(image)),
    "equalize": lambda image, m: ImageOps.equalize(Image.fromarray(image)),
    "solarize": lambda image, m: ImageOps.solarize(Image.fromarray(image), 256 * (1 - abs(m))),
    "posterize": lambda image, m: ImageOps.posterize(Image.fromarray(image), 8 - round(4 * abs(m))),
    "color": enhanced(ImageEnhance.Color),
    "contrast": enhanced(ImageEnhance.Contrast),
    "brightness": enhanced(ImageEnhance.Brightness),
    "sharpness": enhanced(ImageEnhance.Sharpness),
}


@pytest.mark.parametrize("name", PILLOW)
def test_colour_operations_are_those_of_pillow(name):
    for image in (noise(), picture(1)):
        for strength in (-0.9, -0.4, 0.3, 1.0):
            slow = np.asarray(PILLOW[name](image, strength), float)
            np.testing.assert_allclose(applied(name, image, strength), slow, atol=1.01)


def sampled(image, x, y):
    """Bilinear samples at columns x and rows y, black outside."""
    return np.stack([map_coordinates(image[..., c].astype(float), [y, x], order=1) for c in range(3)], -1)


@pytest.mark.parametrize("strength", [-1.0, 0.4])
def test_geometric_operations(strength):
    image = noise()
    y, x = np.mgrid[:13, :17].astype(float)
    angle = np.deg2rad(30 * strength)
    turned_x = 8 + np.cos(angle) * (x - 8) - np.sin(angle) * (y - 6)
    turned_y = 6 + np.sin(angle) * (x - 8) + np.cos(angle) * (y - 6)
    places = {
        "rotate": (turned_x, turned_y),
        "shear_x": (x + 0.3 * strength * y, y),
        "shear_y": (x, y + 0.3 * strength * x),
        "shift_x": (x + round(0.45 * 17 * strength), y),
        "shift_y": (x, y + round(0.45 * 13 * strength)),
    }
    assert set(places) | set(PILLOW) == set(OPERATIONS)
    for name, (column, row) in places.items():
        # at the very border the two libraries blend with black differently
        inside = (column >= 0) & (column <= 16) & (row >= 0) & (row <= 12)
        outside = (column <= -1) | (column >= 17) | (row <= -1) | (row >= 13)
        found, slow = applied(name, image, strength), sampled(image, column, row)
        np.testing.assert_allclose(found[inside], slow[inside], atol=0.6, err_msg=name)
        assert inside.sum() > 60 and (found[outside] == 0).all(), name


def test_rand_augment_draws_from_all_operations():
    image = tf.constant(noise())
    found = {rand_augment(image, 1, 5.0, [k, 0]).numpy().tobytes() for k in range(150)}
    signed = [OPERATIONS[name](tf.cast(image, tf.float32), s) for name in OPERATIONS for s in (-0.5, 0.5)]
    expected = {tf.cast(tf.clip_by_value(tf.round(x), 0, 255), tf.uint8).numpy().tobytes() for x in signed}
    assert found <= expected and len(found) > len(OPERATIONS)
    one, two = (rand_augment(image, layers, 5.0, [3, 1]).numpy() for layers in (1, 2))
    assert (one == rand_augment(image, 1, 5.0, [3, 1]).numpy()).all() and (one != two).any()
    assert rand_augment(image[..., :1], 2, 5.0, [0, 0]).shape == (13, 17, 1)


def test_brightness_contrast_and_saturation_change_within_bounds():
    image = np.full((4, 4, 3), [60, 90, 120], np.uint8)
    levels = np.array([recolored(tf.constant(image), (0.5, 0.0, 0.0), [k, 0])[0, 0] for k in range(200)])
    assert 28 <= levels[:, 0].min() < 40 and 80 < levels[:, 0].max() <= 91
    np.testing.assert_allclose(levels / levels[:, :1], [[1, 1.5, 2]] * 200, rtol=0.05)
    flat = recolored(tf.constant(image), (0.0, 1.0, 0.0), [1, 0]).numpy()
    luminance = 0.299 * 60 + 0.587 * 90 + 0.114 * 120
    factor = (flat[0, 0] - luminance) / (np.array([60, 90, 120]) - luminance)
    assert np.ptp(factor) < 0.2 and 0 <= factor.mean() <= 2
    spread = [np.ptp(recolored(tf.constant(image), (0.0, 0.0, 1.0), [k, 0])[0, 0]) for k in range(100)]
    assert min(spread) < 15 and max(spread) > 100
    assert (recolored(tf.constant(image), (0.0, 0.0, 0.0), [1, 1]).numpy() == image).all()


# ---- mixing ----


def pixels_and_labels(size=399):
    """Images whose pixels are all their own number, and labels."""
    numbers = np.arange(size, dtype=np.float32)
    return np.tile(numbers[:, None, None, None], (1, 12, 10, 1)), (np.arange(size) % 7).astype(np.int32)


def shares(labels, probabilities):
    """What is left of each image's own label, checked against its neighbour's part."""
    other = np.roll(labels, 1)
    rows = np.arange(len(labels))
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-6)
    own = probabilities[rows, labels]
    np.testing.assert_allclose(own + probabilities[rows, other], 1, rtol=1e-6)
    return own


def test_mixup_adds_neighbours_in_the_shares_of_the_labels():
    x, y = pixels_and_labels()
    images, probabilities = (
        part.numpy() for part in mixed(tf.constant(x), tf.constant(y), 7, 0.4, 0.0, [1, 2])
    )
    own = shares(y, probabilities)
    expected = own[:, None, None, None] * x + (1 - own[:, None, None, None]) * np.roll(x, 1, 0)
    np.testing.assert_allclose(images, expected, rtol=1e-3, atol=1e-3)
    # Beta(a, a): mean 1/2, variance 1 / (4 (2a + 1))
    assert abs(own.mean() - 0.5) < 0.07 and abs(own.var() - 1 / (4 * 1.8)) < 0.03


def test_cutmix_pastes_one_rectangle_of_the_area_in_the_labels():
    x, y = pixels_and_labels()
    images, probabilities = (
        part.numpy() for part in mixed(tf.constant(x), tf.constant(y), 7, 0.0, 1.0, [1, 2])
    )
    own, other = shares(y, probabilities), np.roll(x, 1, 0)
    pasted = images == other
    assert ((images == x) | pasted).all()
    np.testing.assert_allclose(own, 1 - pasted.mean((1, 2, 3)), atol=1e-6)
    for mask in pasted[..., 0]:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert mask.sum() == len(rows) * len(columns)
        assert len(rows) == 0 or np.ptp(rows) + 1 == len(rows)
    assert own.min() < 0.3 and own.max() == 1.0


def test_with_both_each_image_gets_one_of_them():
    x, y = pixels_and_labels()
    images, probabilities = (
        part.numpy() for part in mixed(tf.constant(x), tf.constant(y), 7, 1.0, 1.0, [5, 2])
    )
    own = shares(y, probabilities)
    uniform = np.ptp(images, axis=(1, 2, 3)) < 1e-3
    assert 0.4 < uniform.mean() < 0.75  # a rectangle may cover all or nothing
    expected = own * np.arange(399) + (1 - own) * np.roll(np.arange(399), 1)
    np.testing.assert_allclose(images.mean((1, 2, 3)), expected, rtol=1e-3, atol=1e-2)


def test_tiny_shapes_of_the_distribution_give_numbers():
    x, y = pixels_and_labels(64)
    images, probabilities = mixed(tf.constant(x), tf.constant(y), 7, 0.001, 0.0, [1, 2])
    assert np.isfinite(images).all() and np.isfinite(probabilities).all()


# ---- the whole pipeline ----


def source(size=5, seed=3, **augmentation):
    images = ArrayImages(noise(1, (23, 9, 8, 3)))
    labels = np.arange(23) % 4
    moments = np.full(3, 0.4), np.full(3, 0.2)
    return TrainingBatches(images, labels, size, seed, *moments, Augmentation(**augmentation), None, 4)


@pytest.mark.slow
def test_all_at_once_from_any_start_with_any_number_of_threads(monkeypatch):
    images, labels = source(**EVERYTHING).dataset(1).element_spec
    assert (images.shape, images.dtype.name) == ((5, 9, 8, 3), "float32")
    assert (labels.shape, labels.dtype.name) == ((5, 4), "float32")
    whole = read(source(**EVERYTHING).dataset(2))
    assert len(whole) == 8 and all(np.isfinite(x).all() for x, _ in whole)
    assert_same(read(source(**EVERYTHING).dataset(2, 1, 1)), whole[5:])
    monkeypatch.setattr(batches, "THREADS", 1)
    assert_same(read(source(**EVERYTHING).dataset(2)), whole)
    other = read(source(**EVERYTHING, seed=4).dataset(1))
    assert (other[0][0] != whole[0][0]).any()


def test_images_one_by_one_are_shifted_and_mirrored_as_in_batches():
    """A crop of the whole image changes nothing, but goes the other way through the pipeline."""
    plain = read(source(pad=2, flip=True).dataset(2))
    one_by_one = read(source(pad=2, flip=True, color=(1e-9, 0.0, 0.0)).dataset(2))
    assert_same(one_by_one, plain)


@pytest.mark.slow
def test_an_images_augmentation_does_not_depend_on_the_batch():
    how = {**EVERYTHING, "mixup": 0.0, "cutmix": 0.0}
    by_size = []
    for size in (1, 23):
        found = read(source(size, **how).dataset(1))
        by_size.append(np.concatenate([x for x, _ in found]))
    np.testing.assert_array_equal(by_size[0], by_size[1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop": "some"}, "crop=some is unknown. There are: none, resized."),
        ({"pad": -1}, "pad=-1: expected pixels, 0 or more."),
        ({"scale": (0, 1)}, "scale=[0, 1]: expected shares of the area, 0 < low <= high <= 1."),
        ({"ratio": (2, 1)}, "ratio=[2, 1]: expected widths to heights, 0 < low <= high."),
        (
            {"color": (2, 0, 0)},
            "color=[2, 0, 0]: expected changes of brightness, contrast and saturation, 0 to 1.",
        ),
        (
            {"randaugment": (0, 5)},
            "randaugment=[0, 5]: expected a number of operations of at least 1 and a magnitude in [0, 10].",
        ),
        ({"mixup": -1}, "mixup=-1, cutmix=0.0: expected numbers of 0 or more."),
    ],
)
def test_settings_that_are_refused(settings, message):
    with pytest.raises(AutoslimError) as error:
        Augmentation(**settings)
    assert str(error.value) == message


def test_mixing_needs_the_number_of_classes():
    images, moments = ArrayImages(noise(1, (4, 3, 3, 3))), (np.full(3, 0.4), np.full(3, 0.2))
    with pytest.raises(AutoslimError) as error:
        TrainingBatches(images, np.arange(4), 2, 0, *moments, Augmentation(mixup=0.2))
    assert str(error.value) == "Mixing images needs the number of classes: give classes."
