"""Images in class folders, as ImageNet is unpacked: train/<class>/*.JPEG and val/<class>/*.JPEG."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from autoslim.datasets.encoded import Choice, EncodedDataset, EncodedSplit
from autoslim.datasets.images import EncodedImages, hashes, on_host
from autoslim.errors import AutoslimError

log = logging.getLogger(__name__)

TEST_NAMES = ("val", "validation", "test")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")
OTHER_SUFFIXES = (".txt", ".csv", ".json", ".xml", ".md", ".yaml", ".html", ".db", ".ini", ".py")
"""Files that lie with images, and are left out without a word."""
KINDS = f"({', '.join(SUFFIXES)})"
LAYOUT = f"expected train/<class>/* {KINDS} and val/<class>/* (or test/<class>/*)"


class FolderImages(EncodedImages):
    """Image files below one folder, one image each.

    Args:
        root: folder.
        names: paths of the files within it.
        shape: (height, width, channels) that the images come in.
    """

    def __init__(self, root: str, names: Sequence[str], shape: tuple[int, int, int]) -> None:
        super().__init__(shape)
        self.root, self.names = root, names

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        """The path of the file."""
        return readable(os.path.join(self.root, self.names[index]))

    @cached_property
    def keys(self) -> np.ndarray:
        """A hash of each file's path within the folder, uint64 [N]: no file is read for it."""
        return hashes(name.encode(errors="surrogateescape") for name in self.names)

    def reader(self) -> Callable[[Any], Any]:
        """index -> the content of the file."""
        names, root = on_host([os.fsencode(name) for name in self.names]), os.fsencode(self.root)
        return lambda index: tf.io.read_file(tf.strings.join([root, names[index]], "/"))

    def take(self, index: np.ndarray) -> FolderImages:
        """The images at `index`, int64 [n]."""
        return FolderImages(self.root, [self.names[i] for i in index], self.shape)


class Files(NamedTuple):
    """The image files of one split."""

    root: str  # the split's folder
    names: list[str]  # paths within it, class by class, sorted
    sizes: np.ndarray  # int64 [N], bytes
    times: np.ndarray  # int64 [N], nanoseconds, when each was last changed
    labels: np.ndarray  # int32 [N]

    def take(self, index: np.ndarray) -> Files:
        """The files at `index`, int64 [n]."""
        names = [self.names[i] for i in index]
        return Files(self.root, names, self.sizes[index], self.times[index], self.labels[index])


def image_folder(
    path: str | None,
    shape: tuple[int, int, int] = (224, 224, 3),
    *,
    name: str = "image_folder",
    test: str | None = None,
    classes: int | None = None,
    choice: Choice | None = None,
    normalization: str = "imagenet",
    eval_crop: float = 0.875,
) -> EncodedDataset:
    """Images in class folders.

    Args:
        path: folder that holds train/ and val/ (or test/), each with one folder for every class.
        shape: (height, width, channels) that the images come in.
        name: of the dataset.
        test: name of the folder with the test images; None: the first of val, validation, test; or a share in
            (0, 1): path holds class folders alone, and that share of each class is tested on.
        classes: how many there must be; None: as many as there are.
        choice: which of the images are used.
        normalization, eval_crop: as in `Dataset`.

    Raises:
        AutoslimError: for another layout, with the one expected.
    """
    names, *listed = list_folder(path, test)
    apart = [] if choice is None or choice.holdout is None else [_held_apart(choice.holdout, names)]
    splits = [
        EncodedSplit(
            FolderImages(files.root, files.names, shape),
            files.labels,
            files_hash(files.names, files.sizes, files.times),
        )
        for files in (*listed, *apart)
    ]
    parts = (part for files in listed for part in (files.names, files.sizes))
    return EncodedDataset(
        name,
        lambda: splits,
        shape,
        files_hash(names, *parts),
        class_names=tuple(map(readable, names)),
        classes=classes,
        choice=choice,
        normalization=normalization,
        eval_crop=eval_crop,
        holdout_fingerprint=files_hash(apart[0].names, apart[0].sizes) if apart else None,
    )


def list_folder(path: str | None, test: str | None = None) -> tuple[tuple[str, ...], Files, Files]:
    """Find the images of a folder; classes are numbered by their sorted names.

    Args:
        path: folder that holds train/ and val/ (or test/).
        test: name of the folder with the test images; None: the first of val, validation, test; or a share.

    Returns:
        (class names, training files, test files).

    Raises:
        AutoslimError: for another layout, with the one expected.
    """
    root = existing_folder(path, LAYOUT)
    if (share := _share(test)) is not None:
        return _divided(root / "train" if (root / "train").is_dir() else root, share)
    train, test_root = root / "train", test_folder(root, test)
    if not train.is_dir() or test_root is None:
        lacking = "train" if not train.is_dir() else test or " or ".join(TEST_NAMES)
        raise AutoslimError(
            f"dataset.path={path} has no folder {lacking}: {LAYOUT}. {found_there(root)} Of class folders "
            "alone a share of each class can be the test images: dataset.test_split=0.2."
        )
    classes = _folders(train)
    if len(classes) < 2:
        raise AutoslimError(
            f"dataset.path={path}: its folder train holds {len(classes)} class folders: {LAYOUT}, with at "
            "least 2 classes. Put the images into one folder for each class."
        )
    _check_classes(test_root, classes)
    found = _files(train, classes), _files(test_root, classes)
    for files in found:
        if not files.names:
            raise AutoslimError(f"{files.root} holds no images: {LAYOUT}. Put them there.")
    return tuple(classes), *found


def _share(test: str | None) -> float | None:
    """The share of the images that is asked for as test images, or None for the name of a folder."""
    try:
        share = float(test or "")
    except ValueError:
        return None
    return share if 0 < share < 1 else None


def _divided(root: Path, share: float) -> tuple[tuple[str, ...], Files, Files]:
    """Class names, training files and test files of one folder of class folders.

    Which images are tested on depends on the names of the class's files alone: at least one of each class.
    """
    classes = _folders(root)
    files = _files(root, classes)
    if len(classes) < 2 or not files.names:
        raise AutoslimError(
            f"{root} holds {len(classes)} class folders and {len(files.names)} images: expected <class>/* "
            f"{KINDS}, at least 2 classes. {found_there(root)}"
        )
    keys = hashes(os.fsencode(name) for name in files.names)
    tested: list[int] = []
    for label in range(len(classes)):
        own = np.flatnonzero(files.labels == label)
        if len(own) < 2:
            raise AutoslimError(
                f"{root}/{readable(classes[label])} holds {len(own)} images: at least 2 are needed, one to "
                f"train on and one to test on (dataset.test_split={share:g})."
            )
        count = min(max(1, round(share * len(own))), len(own) - 1)
        tested += own[np.argsort(keys[own])[:count]].tolist()
    test = np.sort(np.array(tested))
    return tuple(classes), files.take(np.setdiff1d(np.arange(len(files.names)), test)), files.take(test)


def readable(name: str) -> str:
    """A name as it can be printed: bytes that are no UTF-8 as question marks."""
    return os.fsencode(name).decode("utf-8", "replace")


def _held_apart(path: str, classes: Sequence[str]) -> Files:
    """The images below a folder of class folders, numbered as the training images' classes are."""
    layout = f"expected <class>/* {KINDS}, with the class folders of train"
    root = existing_folder(path, layout, "dataset.holdout_path")
    _check_classes(root, classes)
    files = _files(root, classes)
    if not files.names:
        raise AutoslimError(f"dataset.holdout_path={path} holds no images: {layout}. {found_there(root)}")
    return files


def existing_folder(path: str | None, layout: str, key: str = "dataset.path") -> Path:
    """The folder at `dataset.path`, or at another key.

    Raises:
        AutoslimError: if it is not given, or no folder.
    """
    if path is None:
        raise AutoslimError(f"{key} is missing: {layout}. Set {key} to that folder.")
    root = Path(path)
    if not root.is_dir():
        raise AutoslimError(
            f"{key}={path} {'is a file' if root.exists() else 'does not exist'}: {layout}. Correct {key}."
        )
    return root


def test_folder(root: Path, name: str | None) -> Path | None:
    """The folder with the test images, if it is there."""
    return next((root / n for n in ((name,) if name else TEST_NAMES) if (root / n).is_dir()), None)


def files_hash(*parts: Any) -> str:
    """A short hash of names, sizes and labels."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(np.ascontiguousarray(part).tobytes())
        else:
            digest.update("\0".join(part).encode(errors="surrogateescape"))
        digest.update(b"\1")
    return digest.hexdigest()


def _check_classes(root: Path, classes: Sequence[str]) -> None:
    strangers = sorted(set(_folders(root)) - set(classes))
    if strangers:
        raise AutoslimError(
            f"{root} has class folders that train has not: {', '.join(map(readable, strangers[:5]))}. "
            f"Expected the same classes, such as {', '.join(map(readable, classes[:3]))}. Rename or remove "
            "them."
        )


def _folders(path: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and entry.name[0] != ".")


def _files(root: Path, classes: Sequence[str]) -> Files:
    names: list[str] = []
    sizes, times, labels = [], [], []
    others: list[str] = []
    for label, name in enumerate(classes):
        folder = root / name
        entries = list(os.scandir(folder)) if folder.is_dir() else []
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name[0] == ".":
                continue
            if not (entry.name.lower().endswith(SUFFIXES) and _leads_to_file(entry)):
                others.append(f"{name}/{entry.name}")
                continue
            status = entry.stat()
            names.append(f"{name}/{entry.name}")
            sizes.append(status.st_size)
            times.append(status.st_mtime_ns)
            labels.append(label)
    _name_others(root, [other for other in others if not other.lower().endswith(OTHER_SUFFIXES)])
    return Files(
        str(root), names, np.array(sizes, np.int64), np.array(times, np.int64), np.array(labels, np.int32)
    )


def _leads_to_file(entry: os.DirEntry[str]) -> bool:
    """Whether there is a file, perhaps at the end of links; False also for links that lead in a circle."""
    try:
        return entry.is_file()
    except OSError:
        return False


def _name_others(root: Path, others: Sequence[str]) -> None:
    """Say which files and folders within class folders are no images that can be read."""
    if others:
        shown = ", ".join(map(readable, others[:5])) + (", ..." if len(others) > 5 else "")
        log.warning(
            "%s: %d files, folders or links in the class folders are no images %s and are left out: %s.",
            root,
            len(others),
            KINDS,
            shown,
        )


def found_there(root: Path) -> str:
    """What a folder holds instead, for a message."""
    names = sorted(readable(entry.name) for entry in os.scandir(root))
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return f"Found there: {shown or 'nothing'}. Arrange the images so, or correct dataset.path."
