"""Read images and labels from files: IDX, .npz and the binary CIFAR format. Pickled files are never read."""

import gzip
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from autoslim.errors import AutoslimError

IDX_NAMES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
    "holdout": ("holdout-images-idx3-ubyte", "holdout-labels-idx1-ubyte"),
}


class CifarLayout(NamedTuple):
    """The binary files of CIFAR-10 or CIFAR-100: records of label bytes and 3 x 32 x 32 pixel bytes."""

    folder: str  # folder in which the archive holds them
    train: tuple[str, ...]  # file names
    test: tuple[str, ...]
    label_bytes: int  # labels before the pixels; the last one is read


CIFAR_LAYOUTS = {
    "cifar10": CifarLayout(
        "cifar-10-batches-bin", tuple(f"data_batch_{n}.bin" for n in range(1, 6)), ("test_batch.bin",), 1
    ),
    "cifar100": CifarLayout("cifar-100-binary", ("train.bin",), ("test.bin",), 2),
}


class Split(NamedTuple):
    """Training or test images as a file holds them, not yet compared with what the dataset should be."""

    images: np.ndarray  # uint8 [N, height, width, channels]
    labels: np.ndarray  # integers [N]
    source: str  # the file or files, for messages


def read_folder(path: str | Path, name: str) -> tuple[Split, Split]:
    """Read the training and the test images of the dataset `name` from a folder, or from one .npz file.

    The folder holds, in this order of preference, <name>.npz with the arrays x_train, y_train, x_test and
    y_test; the four IDX files of MNIST and its kin, plain or .gz; or the binary CIFAR files, for cifar10 and
    cifar100.

    Raises:
        AutoslimError: the path or files are missing, or a file is damaged; names the file.
    """
    path = Path(path).expanduser()
    if path.suffix == ".npz" and path.is_file():
        return _train_and_test(path)
    if not path.is_dir():
        found = "is a file" if path.exists() else "does not exist"
        raise AutoslimError(
            f"dataset.path={path} {found}: expected a folder with {_expected(name)}, or one .npz file. "
            "Correct dataset.path."
        )
    if (path / f"{name}.npz").is_file():
        return _train_and_test(path / f"{name}.npz")
    if any(_idx_file(path, file_name) for split in ("train", "test") for file_name in IDX_NAMES[split]):
        return _read_idx_pair(path, *IDX_NAMES["train"]), _read_idx_pair(path, *IDX_NAMES["test"])
    if layout := CIFAR_LAYOUTS.get(name):
        folder = path / layout.folder if (path / layout.folder).is_dir() else path
        if any((folder / file_name).is_file() for file_name in layout.train + layout.test):
            return _read_cifar(folder, layout.train, layout), _read_cifar(folder, layout.test, layout)
    raise AutoslimError(
        f"dataset.path={path} holds no files of {name}: expected {_expected(name)}. Correct dataset.path, or "
        "put them there."
    )


def read_holdout(path: str | Path, name: str) -> Split:
    """Read images that are held apart for the search from a file or a folder.

    It is an .npz file with the arrays x and y (or x_holdout and y_holdout); a binary CIFAR file, for cifar10
    and cifar100; or a folder with holdout.npz, with the two IDX files holdout-images-idx3-ubyte and
    holdout-labels-idx1-ubyte, plain or .gz, or with binary CIFAR files (*.bin), in this order of preference.

    Raises:
        AutoslimError: the path or files are missing, or a file is damaged; names the file.
    """
    path = Path(path).expanduser()
    layout = CIFAR_LAYOUTS.get(name)
    if path.is_dir() and (path / "holdout.npz").is_file():
        path = path / "holdout.npz"
    if path.suffix == ".npz" and path.is_file():
        return _read_npz(path, ("x", "y"), ("x_holdout", "y_holdout"))[0]
    if path.is_dir() and any(_idx_file(path, file_name) for file_name in IDX_NAMES["holdout"]):
        return _read_idx_pair(path, *IDX_NAMES["holdout"])
    if layout and path.suffix == ".bin" and path.is_file():
        return _read_cifar(path.parent, (path.name,), layout)
    if layout and path.is_dir() and (files := sorted(file.name for file in path.glob("*.bin"))):
        return _read_cifar(path, tuple(files), layout)
    binary = ", or binary CIFAR files (*.bin)" if layout else ""
    raise AutoslimError(
        f"dataset.holdout_path={path} {'holds no such images' if path.exists() else 'does not exist'}: "
        "expected an .npz file with the arrays x and y, or a folder with holdout.npz or the IDX files "
        f"{' and '.join(IDX_NAMES['holdout'])}{binary}. Correct dataset.holdout_path."
    )


def _expected(name: str) -> str:
    """The accepted files in words."""
    formats = [f"{name}.npz", f"the IDX files {IDX_NAMES['train'][0]}[.gz] and its three companions"]
    if layout := CIFAR_LAYOUTS.get(name):
        formats.append(f"the binary files {', '.join(layout.train + layout.test)}")
    return " or ".join(formats)


def _train_and_test(file: Path) -> tuple[Split, Split]:
    train, test = _read_npz(file)
    return train, test


def _read_npz(
    file: Path, wanted: tuple[str, ...] = ("x_train", "y_train", "x_test", "y_test"), *others: tuple[str, ...]
) -> list[Split]:
    """Pairs of images and labels under the names wanted, or under other names where those are not there."""
    arrays: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(file):  # not a zip archive: np.load would take it for a pickle or an .npy file
            pass
        with np.load(file, allow_pickle=False) as archive:
            wanted = next((names for names in others if set(names) <= set(archive.files)), wanted)
            missing = [key for key in wanted if key not in archive.files]
            if not missing:
                arrays = {key: archive[key] for key in wanted}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise AutoslimError(
            f"{file} cannot be read as .npz ({error}): expected plain arrays {', '.join(wanted)}, nothing "
            "pickled. Write it again with numpy.savez_compressed."
        ) from error
    if missing:
        raise AutoslimError(
            f"{file} has no {', '.join(missing)}: expected the arrays {', '.join(wanted)}. Write it again "
            "with numpy.savez_compressed."
        )
    return [
        _checked_split(arrays[x], arrays[y], f"{file} ({x}, {y})")
        for x, y in zip(wanted[::2], wanted[1::2], strict=True)
    ]


def _idx_file(folder: Path, file_name: str) -> Path | None:
    """The file of this name in the folder, plain or .gz."""
    candidates = (folder / file_name, folder / f"{file_name}.gz")
    return next((file for file in candidates if file.is_file()), None)


def _read_idx_pair(folder: Path, images_name: str, labels_name: str) -> Split:
    images_file, labels_file = _idx_file(folder, images_name), _idx_file(folder, labels_name)
    if images_file is None or labels_file is None:
        missing = images_name if images_file is None else labels_name
        raise AutoslimError(
            f"{folder / missing} is missing: expected the four IDX files, each plain or .gz. Put it there, "
            "or correct dataset.path."
        )
    return _checked_split(
        _read_idx(images_file), _read_idx(labels_file), f"{images_file} and {labels_file.name}"
    )


def _read_idx(file: Path) -> np.ndarray:
    """One IDX file of unsigned bytes: 0, 0, 8, rank; the sizes as big-endian int32; the data."""
    try:
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(file, str(error)) from error
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise _damaged(
            file, f"it starts with {data[:4].hex(' ') or 'nothing'}, an IDX file of bytes with 00 00 08"
        )
    header = 4 + 4 * data[3]
    if len(data) < header:
        raise _damaged(file, f"it ends within its header, after {len(data)} bytes")
    shape = tuple(int(size) for size in np.frombuffer(data, ">i4", data[3], 4))
    expected = header + int(np.prod(shape, dtype=object))
    if len(data) != expected:
        raise _damaged(
            file, f"it has {len(data)} bytes where its header, shape {shape}, announces {expected}"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _read_cifar(folder: Path, file_names: tuple[str, ...], layout: CifarLayout) -> Split:
    record = layout.label_bytes + 3 * 32 * 32
    parts = []
    for file in (folder / file_name for file_name in file_names):
        if not file.is_file():
            raise AutoslimError(
                f"{file} is missing: expected {', '.join(layout.train + layout.test)}. Put it there, or "
                "correct dataset.path."
            )
        try:
            data = np.frombuffer(file.read_bytes(), np.uint8)
        except OSError as error:
            raise _damaged(file, str(error)) from error
        if len(data) == 0 or len(data) % record:
            raise _damaged(file, f"its {len(data)} bytes are not a whole number of records of {record} bytes")
        parts.append(data.reshape(-1, record))
    records = np.concatenate(parts)
    images = records[:, layout.label_bytes :].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    source = f"{folder / file_names[0]}{f' to {file_names[-1]}' if len(file_names) > 1 else ''}"
    return _checked_split(np.ascontiguousarray(images), records[:, layout.label_bytes - 1], source)


def _damaged(file: Path, reason: str) -> AutoslimError:
    return AutoslimError(f"{file} is damaged: {reason}. Expected a whole file. Download or write it again.")


def _checked_split(images: np.ndarray, labels: np.ndarray, source: str) -> Split:
    """Make grey images [N, H, W, 1] and labels [N]; AutoslimError for other ranks, types or counts."""
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if images.ndim != 4 or images.dtype != np.uint8 or labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise AutoslimError(
            f"{source}: images are {images.dtype} {images.shape} and labels {labels.dtype} {labels.shape}. "
            "Expected uint8 images [N, height, width, channels] or [N, height, width], and integer labels "
            "[N]. Convert the file."
        )
    if len(images) != len(labels) or len(images) == 0:
        raise AutoslimError(
            f"{source}: {len(images)} images and {len(labels)} labels. Expected as many labels as images, "
            "and at least one. Download or write the files again."
        )
    return Split(images, labels, source)
