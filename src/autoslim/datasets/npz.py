"""Images and labels in one .npz file, under the names that numpy.savez was given."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from autoslim.datasets.custom import SPLITS, from_arrays
from autoslim.datasets.dataset import Dataset
from autoslim.errors import AutoslimError

NAMES = {
    "train": (("x_train", "y_train"), ("train_images", "train_labels")),
    "test": (("x_test", "y_test"), ("test_images", "test_labels")),
    "holdout": (("x_holdout", "y_holdout"), ("x_val", "y_val"), ("val_images", "val_labels")),
}
"""The names of images and labels of each split; the first that a file has are read."""

EXPECTED = "the arrays x_train, y_train, x_test, y_test (or train_images, train_labels, ...)"


def npz(path: str | Path | None, **options: Any) -> Dataset:
    """The data set in an .npz file.

    It holds images uint8 [N, height, width, channels] or [N, height, width] and labels as x_train, y_train,
    x_test and y_test, or train_images, train_labels, test_images and test_labels; images that are held out
    for the search may stand there as x_holdout, x_val or val_images, with their labels.

    Args:
        path: the file.
        options: as of `custom.from_arrays`, from `name` on.

    Raises:
        AutoslimError: the file is missing, damaged or pickled, or lacks images and labels.
    """
    if path is None:
        raise AutoslimError("dataset.path is missing: give the .npz file, dataset.path=FILE.npz.")
    file = Path(path).expanduser()
    if not file.is_file():
        found = "is a folder" if file.is_dir() else "does not exist"
        raise AutoslimError(f"dataset.path={path} {found}: expected an .npz file with {EXPECTED}.")
    try:
        with zipfile.ZipFile(file):  # not a zip archive: np.load would take it for a pickle or an .npy file
            pass
        with np.load(file, allow_pickle=False) as archive:
            names = {split: _named(archive.files, split) for split in SPLITS}
            missing = [split for split in ("train", "test") if not names[split]]
            if missing:
                raise AutoslimError(
                    f"dataset.path={path} has no images and labels of {' and '.join(missing)} (it has "
                    f"{', '.join(archive.files) or 'nothing'}): expected {EXPECTED}."
                )
            pairs = {split: pair for split, pair in names.items() if pair}
            arrays = {split: tuple(archive[name] for name in pair) for split, pair in pairs.items()}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, AutoslimError):
            raise
        raise AutoslimError(
            f"dataset.path={path} cannot be read as .npz ({error}): expected {EXPECTED}, nothing pickled. "
            "Write it again with numpy.savez_compressed."
        ) from error
    return from_arrays(arrays, f"dataset.path={path}", **options)


def _named(there: list[str], split: str) -> tuple[str, ...]:
    """The names of a split's images and labels in a file; empty: they are not there."""
    return next((pair for pair in NAMES[split] if set(pair) <= set(there)), ())
