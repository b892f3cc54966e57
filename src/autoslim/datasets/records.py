"""Images in TFRecord files, read at random.

Nothing tells where the records of a file are but reading it. So one pass at first use notes where each begins
and what its label is; no image is decoded. From then on records are read by their places: shuffling is of the
whole data set, and what a resumed run skips is neither read nor decoded.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from filelock import FileLock
from google.protobuf.message import DecodeError

from autoslim.datasets.encoded import Choice, EncodedDataset, EncodedSplit
from autoslim.datasets.folder import TEST_NAMES, existing_folder, files_hash, found_there
from autoslim.datasets.images import EncodedImages, mapped, on_host
from autoslim.errors import AutoslimError, first_line
from autoslim.writing import replacing

log = logging.getLogger(__name__)

LAYOUT = (
    "expected train-*.tfrecord and val-*.tfrecord (or test-*.tfrecord; also names as train-00000-of-00128)"
)
IMAGE_KEY, LABEL_KEY = "image/encoded", "image/class/label"
_KINDS = {"bytes_list": "bytes", "int64_list": "integer", "float_list": "float"}
_FRAME = 16  # bytes of a record in addition to its content: length, and two check sums
_BUFFER = 2**16
_AT_ONCE = 4096
_BUCKETS = 2**63 - 1  # of the hash of an image
_STRING: dict[str, Any] = {"output_types": [tf.string], "output_shapes": [[]]}


class Records(NamedTuple):
    """Where the records of some files are."""

    number: np.ndarray  # int32 [N], which file
    offset: np.ndarray  # int64 [N], where in it the record begins, bytes
    label: np.ndarray  # int64 [N], as it is written there
    image: np.ndarray  # uint64 [N], a hash of the encoded image


class RecordImages(EncodedImages):
    """Encoded images in TFRecord files, of `tf.train.Example`.

    Args:
        files: paths.
        file: int32 [N], which file each image is in.
        offset: int64 [N], where in it its record begins, bytes.
        key: of the feature that holds the encoded image.
        shape: (height, width, channels) that the images come in.
        keys: uint64 [N], a hash of each encoded image.
    """

    def __init__(
        self,
        files: Sequence[str],
        file: np.ndarray,
        offset: np.ndarray,
        key: str,
        shape: tuple[int, int, int],
        keys: np.ndarray,
    ) -> None:
        super().__init__(shape)
        self.files, self.file, self.offset, self.key = files, file, offset, key
        self._keys = keys

    def __len__(self) -> int:
        return len(self.file)

    def name(self, index: int) -> str:
        """The file, and where in it."""
        return f"{self.files[self.file[index]]}, record at byte {self.offset[index]}"

    @property
    def keys(self) -> np.ndarray:
        """A hash of each encoded image, uint64 [N]."""
        return self._keys

    def reader(self) -> Callable[[Any], Any]:
        """index -> the encoded image."""
        record = self._record()

        def read(index: Any) -> Any:
            [serialized] = tf.raw_ops.DatasetToSingleElement(dataset=record(index), **_STRING)
            return self._image(serialized)

        return read

    def stream(self, threads: int) -> Callable[[tf.data.Dataset], tf.data.Dataset]:
        """indices -> encoded images, in that order.

        By interleaving, as a map that opens files runs in one thread where TensorFlow is to be deterministic.
        """
        record = self._record()

        def one(index: Any) -> tf.data.Dataset:
            return tf.data.experimental.from_variant(record(index), tf.TensorSpec([], tf.string))

        return lambda data: mapped(self._image, threads)(
            data.interleave(one, cycle_length=threads, num_parallel_calls=threads, deterministic=True)
        )

    def _record(self) -> Callable[[Any], Any]:
        """index -> a dataset of one record, as a variant tensor."""
        files, file, offset = on_host(list(self.files)), on_host(self.file), on_host(self.offset)

        def record(index: Any) -> Any:
            # tf.data.TFRecordDataset from a place in the file, which only the op underneath can do
            records = tf.raw_ops.TFRecordDatasetV2(
                filenames=files[file[index]][None],
                compression_type="",
                buffer_size=_BUFFER,
                byte_offsets=offset[index][None],
            )
            return tf.raw_ops.TakeDataset(input_dataset=records, count=1, **_STRING)

        return record

    def _image(self, serialized: Any) -> Any:
        feature = {self.key: tf.io.FixedLenFeature([], tf.string)}
        return tf.io.parse_single_example(serialized, feature)[self.key]

    def take(self, index: np.ndarray) -> RecordImages:
        """The images at `index`, int64 [n]."""
        place = self.file[index], self.offset[index]
        return RecordImages(self.files, *place, self.key, self.shape, self._keys[index])


def tfrecord(
    path: str | None,
    shape: tuple[int, int, int] = (224, 224, 3),
    *,
    name: str = "tfrecord",
    test: str | None = None,
    classes: int | None = None,
    image_key: str = IMAGE_KEY,
    label_key: str = LABEL_KEY,
    label_offset: int = 0,
    choice: Choice | None = None,
    normalization: str = "imagenet",
    eval_crop: float = 0.875,
) -> EncodedDataset:
    """Images in TFRecord files, not compressed.

    Args:
        path: folder that holds train-*.tfrecord and val-*.tfrecord.
        shape: (height, width, channels) that the images come in.
        name: of the dataset.
        test: what the names of the files with the test images begin with; None: the first of val, validation,
            test.
        classes: labels lie in [0, classes) after `label_offset` is taken off; None: as many as there are.
        image_key: of the feature with the encoded image.
        label_key: of the feature with the label, an integer.
        label_offset: the first class's label.
        choice: which of the images are used.
        normalization, eval_crop: as in `Dataset`.

    Raises:
        AutoslimError: files missing, damaged, or without these keys.
    """
    root = existing_folder(path, LAYOUT)
    train = _files(root, "train")
    names = (test,) if test else TEST_NAMES
    test_paths = next((files for files in (_files(root, prefix) for prefix in names) if files), [])
    if not train or not test_paths:
        lacking = "train" if not train else " or ".join(names)
        raise AutoslimError(
            f"dataset.path={path} holds no TFRecord files of {lacking}: {LAYOUT}. {found_there(root)}"
        )
    return record_dataset(
        name,
        train,
        test_paths,
        shape,
        image_key=image_key,
        label_key=label_key,
        label_offset=label_offset,
        classes=classes,
        choice=choice,
        normalization=normalization,
        eval_crop=eval_crop,
        apart=_held_apart(choice.holdout) if choice and choice.holdout else (),
    )


def record_dataset(
    name: str,
    train: Sequence[str],
    test: Sequence[str],
    shape: tuple[int, int, int],
    *,
    image_key: str,
    label_key: str,
    label_offset: int = 0,
    classes: int | None = None,
    class_names: tuple[str, ...] | None = None,
    choice: Choice | None = None,
    normalization: str = "imagenet",
    eval_crop: float = 0.875,
    apart: Sequence[str] = (),
) -> EncodedDataset:
    """Images in the TFRecord files named, `apart` those of held-out images; the rest as in `tfrecord`.

    Raises:
        AutoslimError: a file that is damaged or lacks the keys.
    """
    choice = choice or Choice()
    for first in (train[0], *apart[:1]):
        _check_keys(first, image_key, label_key)

    def split(files: Sequence[str]) -> EncodedSplit:
        status = [os.stat(file) for file in files]
        times = np.array([s.st_mtime_ns for s in status], np.int64)
        state = files_hash(files, np.array([s.st_size for s in status]), times, [image_key, label_key])
        records = _kept(files, image_key, label_key, state, choice.cache)
        if not len(records.label):
            raise AutoslimError(f"{files[0]} holds no records: {LAYOUT}, each with images. Write it again.")
        place = records.number, records.offset
        images = RecordImages(files, *place, image_key, shape, records.image)
        return EncodedSplit(images, records.label - label_offset, state)

    def fingerprint(files: Sequence[str]) -> str:
        sizes = np.array([os.path.getsize(file) for file in files], np.int64)
        return files_hash([os.path.basename(file) for file in files], sizes)

    return EncodedDataset(
        name,
        lambda: [split(files) for files in (train, test, apart) if files],
        shape,
        fingerprint([*train, *test]),
        class_names=class_names,
        classes=classes,
        choice=choice,
        normalization=normalization,
        eval_crop=eval_crop,
        holdout_fingerprint=fingerprint(apart) if apart else None,
    )


def _held_apart(path: str) -> list[str]:
    """The file or the files of the folder at `dataset.holdout_path`."""
    if Path(path).is_file():
        return [path]
    layout = "expected a TFRecord file, or a folder of them (*.tfrecord, or names as holdout-00000-of-00004)"
    root = existing_folder(path, layout, "dataset.holdout_path")
    files = _files(root, None)
    if not files:
        raise AutoslimError(
            f"dataset.holdout_path={path} holds no TFRecord files: {layout}. {found_there(root)}"
        )
    return files


def _files(root: Path, prefix: str | None) -> list[str]:
    """The TFRecord files of a folder whose names begin with `prefix`, sorted; None: all."""
    begin = ".*?" if prefix is None else re.escape(prefix)
    name = re.compile(rf"{begin}([-.].*)?(\.tfrecords?|-\d+-of-\d+)")
    return sorted(str(path) for path in root.iterdir() if path.is_file() and name.fullmatch(path.name))


def _check_keys(file: str, image_key: str, label_key: str) -> None:
    """Refuse a file whose first record has not these features, of the right kind, naming those it has."""
    try:
        first = next(iter(tf.data.TFRecordDataset(file).take(1)), None)
    except tf.errors.OpError as error:
        raise _damaged(file, error) from error
    if first is None:
        return
    try:
        features = tf.train.Example.FromString(first.numpy()).features.feature
    except DecodeError as error:
        raise AutoslimError(
            f"{file}: its first record is no tf.train.Example ({first_line(error, 120)}). Write it again, an "
            f"Example with the features {image_key} and {label_key} for each image."
        ) from error
    kinds = {key: feature.WhichOneof("kind") for key, feature in features.items()}
    wrong = [
        f"no {_KINDS[kind]} feature {key}"
        for key, kind in ((image_key, "bytes_list"), (label_key, "int64_list"))
        if kinds.get(key) != kind
    ]
    if wrong:
        found = ", ".join(f"{key} ({_KINDS.get(kinds[key], 'empty')})" for key in sorted(kinds))
        raise AutoslimError(
            f"{file}: its records have {' and '.join(wrong)}. There are: {found}. Set dataset.image_key and "
            "dataset.label_key to the encoded image and its label."
        )


def _kept(files: Sequence[str], image_key: str, label_key: str, state: str, cache: Path | None) -> Records:
    """Where the records are, as an earlier run found it, or found now and kept."""
    if cache is None:
        return _find(files, image_key, label_key)
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / f"records-{state}.npz"
    with FileLock(f"{path}.lock"):  # several workers begin together: one of them looks
        records = _read_kept(path)
        if records is None:
            records = _find(files, image_key, label_key)
            with replacing(path) as part:
                np.savez(part, **records._asdict())
    return records


def _read_kept(path: Path) -> Records | None:
    """What an earlier run found; None: nothing that can be used."""
    try:
        with open(path, "rb") as file, np.load(file) as kept:
            return Records(**kept)
    except FileNotFoundError:
        return None
    except Exception as error:  # NumPy and zipfile raise many kinds for a damaged archive
        log.warning("%s can't be used (%s): the records are read again.", path, first_line(error, 120))
        return None


def _find(files: Sequence[str], image_key: str, label_key: str) -> Records:
    """Read the files once for places, labels and hashes of the images."""
    log.info("Reading %d TFRecord files once for the places and labels of their records.", len(files))

    def one(file: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        def place(record: Any) -> tuple[Any, Any, Any]:
            feature = {
                label_key: tf.io.FixedLenFeature([], tf.int64),
                image_key: tf.io.FixedLenFeature([], tf.string),
            }
            found = tf.io.parse_single_example(record, feature)
            image = tf.strings.to_hash_bucket_fast(found[image_key], _BUCKETS)
            return tf.strings.length(record), found[label_key], image

        try:
            parts = list(tf.data.TFRecordDataset(file).map(place).batch(_AT_ONCE).as_numpy_iterator())
        except tf.errors.OpError as error:
            raise _damaged(file, error) from error
        parts = parts or [(np.zeros(0, np.int64),) * 3]
        lengths, labels, images = (
            np.concatenate(column).astype(np.int64) for column in zip(*parts, strict=True)
        )
        return np.cumsum(lengths + _FRAME) - lengths - _FRAME, labels, images.astype(np.uint64)

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        found = list(threads.map(one, files))
    counts = [len(labels) for _, labels, _ in found]
    number = np.repeat(np.arange(len(files), dtype=np.int32), counts)
    return Records(number, *(np.concatenate(column) for column in zip(*found, strict=True)))


def _damaged(file: str, error: tf.errors.OpError) -> AutoslimError:
    reason = first_line(AutoslimError(re.sub(r"\{\{.*?\}\} ?| \[Op:\w+\].*", "", error.message)), 120)
    return AutoslimError(
        f"{file} is damaged or no TFRecord file ({reason}). Expected a whole file, not compressed, with an "
        "integer label in each record. Write it again."
    )
