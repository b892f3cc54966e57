"""Small image files, class folders, and batches as arrays."""

import numpy as np
import pytest
import tensorflow as tf

from autoslim.errors import AutoslimError

CLASSES = ("ant", "bee", "cat")


def picture(seed, height=20, width=24, channels=3):
    """A smooth random image, uint8 [height, width, channels], that JPEG keeps nearly as it is."""
    grid = np.random.default_rng(seed).integers(0, 256, (3, 3, channels), dtype=np.uint8)
    return tf.cast(tf.image.resize(grid, (height, width)), tf.uint8).numpy()


def jpeg(image):
    return tf.io.encode_jpeg(image, quality=100, chroma_downsampling=False).numpy()


def png(image):
    return tf.io.encode_png(image).numpy()


def write_tree(root, train=4, test=2, encode=jpeg, suffix=".jpg", test_name="val"):
    """`train` and `test` images a class, of different sizes: {split: list of images in order}."""
    images = {}
    for split, count in (("train", train), (test_name, test)):
        images[split] = []
        for number, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for k in range(count):
                image = picture((split == "train", number, k), 16 + 3 * k, 24 + k)
                (folder / f"{k}{suffix}").write_bytes(encode(image))
                images[split].append(image)
    return images


def read(dataset):
    """All batches of a dataset as arrays."""
    return [(x.numpy(), y.numpy()) for x, y in dataset]


def assert_same(left, right):
    """The same batches, entry by entry."""
    assert len(left) == len(right) > 0
    for one, other in zip(left, right, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def refused(message, call, *args, **kwargs):
    """The call is refused with exactly this message."""
    with pytest.raises(AutoslimError) as error:
        call(*args, **kwargs)
    assert str(error.value) == message


def random_images(count, shape, seed=0):
    """uint8 [count, *shape]."""
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)
