"""Images that can be read one by one, in any order, inside tf.data: arrays in memory, or encoded in files.

Reading stands apart from decoding: `read` brings what is stored of one image, `window` decodes the part of it
that is wanted. So a part of a JPEG is decoded without the rest, and nothing that is skipped is read.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from autoslim.errors import AutoslimError

Box = Callable[[Any, Any], Any]  # (height, width) of the whole image -> int32 [4]: top, left, height, width

JPEG_MARGIN = 2  # columns; colours are stored at half the size
NOT_FINITE = "hold NaN or infinite values. Mend them, or leave them out."


class ImageStore(Protocol):
    """Images of one split."""

    shape: tuple[int, int, int]  # (height, width, channels) that they come in
    in_memory: bool  # whether they are decoded already, and the reader gives batches of them

    def __len__(self) -> int:
        """How many there are."""

    def name(self, index: int) -> str:
        """What to call an image in a message."""

    @property
    def keys(self) -> np.ndarray:
        """A hash of what each image is, uint64 [N], the same wherever it stands among the others."""

    def reader(self) -> Callable[[Any], Any]:
        """A function: index, int64 scalar -> what is stored of that image; of images in memory also [B] -> a
        batch."""

    def stream(self, threads: int) -> Callable[[tf.data.Dataset], tf.data.Dataset]:
        """A function for use within tf.data: indices, int64 scalars -> what is stored of these images.

        Made outside of tf.data's own functions, so that names and places are held once.
        """

    def window(self, stored: Any, box: Box) -> Any:
        """The part of an image that `box` chooses, uint8 [height, width, channels]."""


class ArrayImages:
    """Images in memory: uint8 [N, height, width, channels]."""

    in_memory = True

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels
        height, width, channels = pixels.shape[1:]
        self.shape: tuple[int, int, int] = (height, width, channels)

    def __len__(self) -> int:
        return len(self.pixels)

    def name(self, index: int) -> str:
        """What to call an image in a message."""
        return f"image {index}"

    @cached_property
    def keys(self) -> np.ndarray:
        """A hash of each image's pixels, uint64 [N]."""
        return hashes(np.ascontiguousarray(image).data for image in self.pixels)

    def reader(self) -> Callable[[Any], Any]:
        """index -> the image, uint8 [height, width, channels]; a vector of indices gives a batch."""
        pixels = on_host(self.pixels)
        return lambda index: tf.gather(pixels, index)

    def stream(self, threads: int) -> Callable[[tf.data.Dataset], tf.data.Dataset]:
        """indices -> images."""
        return mapped(self.reader(), threads)

    def window(self, stored: Any, box: Box) -> Any:
        """The part of an image that `box` chooses."""
        return part_of(stored, box(*self.shape[:2]))


class EncodedImages(ABC):
    """JPEG, PNG, BMP, GIF or WebP images of any size, in files."""

    in_memory = False

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape = shape

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def name(self, index: int) -> str:
        """What to call an image in a message."""

    @property
    @abstractmethod
    def keys(self) -> np.ndarray:
        """A hash of what each image is, uint64 [N], the same wherever it stands among the others."""

    @abstractmethod
    def reader(self) -> Callable[[Any], Any]:
        """index -> the encoded image, string scalar."""

    def stream(self, threads: int) -> Callable[[tf.data.Dataset], tf.data.Dataset]:
        """indices -> encoded images, in that order."""
        return mapped(self.reader(), threads)

    @abstractmethod
    def take(self, index: np.ndarray) -> EncodedImages:
        """The images at `index`, int64 [n]."""

    def window(self, stored: Any, box: Box) -> Any:
        """Decode the part of an image that `box` chooses, with the channels of `shape`.

        Grey becomes colour or colour grey, transparency is dropped, and a camera's orientation mark is not
        heeded. JPEGs are decoded to the levels that other decoders give, Pillow's among them: by the accurate
        cosine transform, and with some columns more, without which the colours of the last one would differ.
        """
        channels = self.shape[-1]

        def jpeg() -> Any:
            size = tf.io.extract_jpeg_shape(stored)
            part = box(size[0], size[1])
            wider = tf.minimum(part[3] + JPEG_MARGIN, size[1] - part[1])
            image = tf.image.decode_and_crop_jpeg(
                stored,
                tf.stack([part[0], part[1], part[2], wider]),
                channels=channels,
                dct_method="INTEGER_ACCURATE",
            )
            return image[:, : part[3]]

        def other() -> Any:
            image = decoded(stored, channels)
            size = tf.shape(image)
            return part_of(image, box(size[0], size[1]))

        return tf.ensure_shape(tf.cond(tf.io.is_jpeg(stored), jpeg, other), [None, None, channels])


def check_finite(images: Any, where: str) -> None:
    """Refuse inputs, an array [N, ...] or a structure of them, that hold NaN or infinite values.

    Raises:
        AutoslimError: with the number of the first one.
    """
    for one in tf.nest.flatten(images):
        if one.dtype.kind == "f" and not np.isfinite(one).all():
            bad = ~np.isfinite(one.reshape(len(one), -1)).all(1)
            raise AutoslimError(
                f"{where}: {int(bad.sum())} images, number {int(bad.argmax())} the first, {NOT_FINITE}"
            )


def central_box(shape: tuple[int, int, int], share: float = 1.0) -> Box:
    """The largest central window with the height to width of `shape`, times `share` in each direction.

    Share 0.875 = 224 / 256 keeps what the usual "resize the shorter side to 256, cut out 224" keeps.
    """
    rows, columns = shape[:2]

    def box(height: Any, width: Any) -> Any:
        # in whole numbers, so that an image of the shape itself stays as it is
        fits = tf.cast(tf.minimum(height * columns, width * rows), tf.float32)
        size = tf.stack([fits / columns, fits / rows]) * share
        cut = tf.clip_by_value(tf.cast(tf.round(size), tf.int32), 1, tf.stack([height, width]))
        return tf.concat([(tf.stack([height, width]) - cut) // 2, cut], 0)

    return box


def decoded(stored: Any, channels: int) -> Any:
    """An encoded image that is no JPEG, uint8 [h, w, channels]; of one that moves, the first picture.

    TensorFlow decodes PNG to grey or colour, BMP, GIF and WebP to colour alone: grey is made of it as Pillow
    does. Of a BMP of 256 colours it gives each colour's number in place of the colour: see `_from_table`.
    """
    head = tf.strings.join([tf.strings.substr(stored, 0, 30), 30 * b"\0"])  # also of a file that ends before
    if channels == 1:
        png = tf.strings.substr(head, 0, 4) == b"\x89PNG"
        image = tf.cond(png, lambda: tf.io.decode_png(stored, 1), lambda: _grey(decoded(stored, 3)))
    else:
        table = (tf.strings.substr(head, 0, 2) == b"BM") & (tf.strings.substr(head, 28, 2) == b"\x08\0")
        image = tf.cond(
            table,
            lambda: _from_table(stored),
            lambda: tf.io.decode_image(stored, channels, expand_animations=False),
        )
    image.set_shape([None, None, channels])
    return image


def _grey(image: Any) -> Any:
    """Rounded 0.299 red + 0.587 green + 0.114 blue, in whole numbers."""
    parts = tf.cast(image, tf.int32) * [19595, 38470, 7471]
    return tf.cast((tf.reduce_sum(parts, -1, keepdims=True) + 2**15) // 2**16, tf.uint8)


def _from_table(stored: Any) -> Any:
    """A BMP of 256 colours: its pixels are places in a table of blue, green, red, 0 behind the headers."""
    pixels, header = (_whole_number(tf.strings.substr(stored, place, 4)) for place in (10, 14))
    table = tf.io.decode_raw(tf.strings.substr(stored, 14 + header, pixels - 14 - header), tf.uint8)
    colours = tf.reverse(tf.reshape(table[: tf.size(table) // 4 * 4], [-1, 4])[:, :3], [1])
    return tf.gather(colours, tf.cast(tf.io.decode_bmp(stored, 0)[..., 0], tf.int32))


def _whole_number(four_bytes: Any) -> Any:
    return tf.io.decode_raw(four_bytes, tf.int32)[0]


def resized(image: Any, shape: tuple[int, int, int]) -> Any:
    """An image uint8 [h, w, channels] in the height and width of `shape`, rounded to uint8.

    Bilinear and antialiased, as Pillow's BILINEAR. Training and evaluation both take this one way: an image
    that is made smaller without antialiasing is sharper and noisier than one with.
    """
    if image.shape.as_list() == list(shape):
        return image
    image = tf.image.resize(image, shape[:2], antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(image), 0.0, 255.0), tf.uint8)


def hashes(contents: Iterable[Any]) -> np.ndarray:
    """A hash of each bytes-like object, uint64 [N]."""
    digests = b"".join(hashlib.blake2b(content, digest_size=8).digest() for content in contents)
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def mapped(function: Callable[..., Any], threads: int) -> Callable[[tf.data.Dataset], tf.data.Dataset]:
    """The function applied to every element of a dataset, in order, by several threads."""
    return lambda data: data.map(function, num_parallel_calls=threads, deterministic=True)


def on_host(values: Any, dtype: Any = None) -> tf.Tensor:
    """A tensor in the host's memory, where the pipeline runs, also when there is an accelerator."""
    with tf.device("CPU:0"):
        return tf.constant(values, dtype)


def part_of(image: Any, box: Any) -> Any:
    """The part of an image [h, w, channels] at int32 [4]: top, left, height, width."""
    return image[box[0] : box[0] + box[2], box[1] : box[1] + box[3]]
