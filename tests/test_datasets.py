"""Datasets in memory: file formats, and what is refused."""

import gzip
import struct
from pathlib import Path

import keras
import numpy as np
import pytest
from trees import random_images, refused

from autoslim.datasets import (
    ArrayDataset,
    cifar10,
    cifar100,
    digits,
    fashion_mnist,
    load,
)

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
CIFAR10_FILES = (
    "data_batch_1.bin, data_batch_2.bin, data_batch_3.bin, data_batch_4.bin, data_batch_5.bin, test_batch.bin"
)


def random_labels(count, classes, seed=0):
    return np.random.default_rng(seed).permutation(np.arange(count) % classes).astype(np.uint8)


# ---- digits ----


def test_digits_are_a_fixed_balanced_split():
    data = digits()
    assert (data.name, data.shape, data.classes) == ("digits", (8, 8, 1), 10)
    assert data.train_images.shape == (1437, 8, 8, 1) and data.test_images.shape == (360, 8, 8, 1)
    assert data.train_images.dtype == np.uint8 and data.train_labels.dtype == np.int32
    assert data.train_images.min() == 0 and data.train_images.max() == 255
    share = np.bincount(data.test_labels) / (np.bincount(data.train_labels) + np.bincount(data.test_labels))
    assert np.abs(share - 360 / 1797).max() < 0.005
    again = load("digits", shape=[8, 8, 1], classes=10)
    assert (again.train_images == data.train_images).all() and (again.test_labels == data.test_labels).all()
    assert not {x.tobytes() for x in data.train_images} & {x.tobytes() for x in data.test_images}


def test_mean_and_std_of_each_channel():
    images = random_images(2500, (3, 2, 3))
    images[..., 1] //= 2
    images[..., 2] = 7
    labels = np.zeros(2500, np.int32)
    data = ArrayDataset("x", images, labels, images[:1], labels[:1], 1)
    scaled = images.reshape(-1, 3).astype(np.float64) / 255
    np.testing.assert_allclose(data.mean, scaled.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(data.std, [*scaled.std(axis=0)[:2], 1e-3], rtol=1e-6)
    assert data.mean.dtype == data.std.dtype == np.float32


def test_train_images_takes_a_balanced_part_and_leaves_the_test_set():
    whole, part = digits(), load("digits", train_images=203)
    counts = np.bincount(part.train_labels)
    assert counts.sum() == 203 and counts.max() - counts.min() <= 2
    assert (part.test_images == whole.test_images).all()
    refused(
        "dataset.train_images=1438 is outside [10, 1437]: expected at least one image a class and at most "
        "the training images of digits. Use null for all.",
        load, "digits", train_images=1438,
    )  # fmt: skip
    refused(
        "dataset.train_images=9 is outside [10, 1437]: expected at least one image a class and at most the "
        "training images of digits. Use null for all.",
        load, "digits", train_images=9,
    )  # fmt: skip


def test_settings_that_do_not_fit_the_dataset():
    refused(
        "dataset.name=cifar is unknown: expected digits, fashion_mnist, cifar10, cifar100. Did you mean "
        "cifar10?",
        load, "cifar",
    )  # fmt: skip
    refused(
        "dataset.name=svhn is unknown: expected digits, fashion_mnist, cifar10, cifar100. Choose one of "
        "these.",
        load, "svhn",
    )  # fmt: skip
    refused(
        "dataset.path=/data, but digits comes with scikit-learn and reads no files: expected null. Leave "
        "dataset.path out, or choose another dataset.",
        load, "digits", "/data",
    )  # fmt: skip
    refused(
        "digits: images are 8x8x1, but dataset.shape is 28x28x1. Set dataset.shape=[8,8,1], or correct "
        "dataset.path.",
        load, "digits", shape=[28, 28, 1],
    )  # fmt: skip
    refused(
        "dataset.classes=5, but digits has 10 classes. Set dataset.classes=10.",
        load, "digits", classes=5,
    )  # fmt: skip


# ---- downloads ----


def test_download_is_keras_and_gets_the_channel_axis(monkeypatch):
    x, y = random_images(20, (28, 28)), random_labels(20, 10)
    monkeypatch.setattr(keras.datasets.fashion_mnist, "load_data", lambda: ((x, y), (x[:5], y[:5])))
    data = fashion_mnist()
    assert (data.train_images == x[..., None]).all() and (data.test_labels == y[:5]).all()
    x, y = random_images(200, (32, 32, 3)), random_labels(200, 100)[:, None]
    monkeypatch.setattr(keras.datasets.cifar100, "load_data", lambda: ((x, y), (x[:5], y[:5])))
    assert (cifar100().train_labels == y[:, 0]).all()


@pytest.mark.parametrize("name", ["fashion_mnist", "cifar10"])
def test_no_network(monkeypatch, name):
    def load_data():
        raise Exception("URL fetch failure on https://example.org")

    monkeypatch.setattr(getattr(keras.datasets, name), "load_data", load_data)
    message = (
        f"Cannot download {name} (URL fetch failure on https://example.org): expected a network connection, "
        "or dataset.path. Set dataset.path to a folder with its files."
    )
    if name == "fashion_mnist":
        message += " Debian's package dataset-fashion-mnist puts them into /usr/share/datasets/fashion-mnist."
    refused(message, load, name)


# ---- files ----


def idx(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_idx(folder, compress=False, **changed):
    """Write four IDX files, `changed` replacing arrays or giving raw bytes, and return the arrays."""
    arrays = {
        "train_images": random_images(40, (28, 28)),
        "train_labels": random_labels(40, 10),
        "t10k_images": random_images(20, (28, 28), seed=1),
        "t10k_labels": random_labels(20, 10, seed=1),
    } | changed
    for key, array in arrays.items():
        rank = 3 if key.endswith("images") else 1
        name = f"{key.replace('_', '-')}-idx{rank}-ubyte"
        data = array if isinstance(array, bytes) else idx(array)
        (folder / (name + ".gz" * compress)).write_bytes(gzip.compress(data) if compress else data)
    return arrays


@pytest.mark.parametrize("compress", [False, True])
def test_idx_files(tmp_path, compress):
    arrays = write_idx(tmp_path, compress)
    data = fashion_mnist(str(tmp_path))
    assert (data.train_images == arrays["train_images"][..., None]).all()
    assert (data.train_labels == arrays["train_labels"]).all()
    assert (data.test_images == arrays["t10k_images"][..., None]).all()
    assert (data.test_labels == arrays["t10k_labels"]).all()


def test_npz_in_a_folder_or_alone(tmp_path):
    x, y = random_images(40, (32, 32, 3)), random_labels(40, 10)
    np.savez(
        tmp_path / "cifar10.npz", x_train=x, y_train=y[:, None].astype(np.int64), x_test=x[:9], y_test=y[:9]
    )
    for path in (tmp_path, tmp_path / "cifar10.npz"):
        data = cifar10(str(path))
        assert (data.train_images == x).all() and (data.train_labels == y).all()
        assert (data.test_images == x[:9]).all() and (data.test_labels == y[:9]).all()


def write_cifar10(folder):
    folder.mkdir(exist_ok=True)
    images, labels = random_images(60, (32, 32, 3)), random_labels(60, 10)
    names = CIFAR10_FILES.split(", ")
    for number, name in enumerate(names):
        part = range(10 * number, 10 * number + 10)
        records = [bytes([labels[i]]) + images[i].transpose(2, 0, 1).tobytes() for i in part]
        (folder / name).write_bytes(b"".join(records))
    return images, labels


@pytest.mark.parametrize("folder", ["", "cifar-10-batches-bin"])
def test_binary_cifar10(tmp_path, folder):
    images, labels = write_cifar10(tmp_path / folder)
    data = cifar10(str(tmp_path))
    assert (data.train_images == images[:50]).all() and (data.train_labels == labels[:50]).all()
    assert (data.test_images == images[50:]).all() and (data.test_labels == labels[50:]).all()


def test_binary_cifar100_has_fine_labels(tmp_path):
    images, fine = random_images(100, (32, 32, 3)), np.arange(100, dtype=np.uint8)
    records = [bytes([fine[i] // 5, fine[i]]) + images[i].transpose(2, 0, 1).tobytes() for i in range(100)]
    for name in ("train.bin", "test.bin"):
        (tmp_path / name).write_bytes(b"".join(records))
    data = cifar100(str(tmp_path))
    assert (data.train_images == images).all() and (data.test_labels == fine).all()


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_fashion_mnist_as_debian_packs_it():
    data = fashion_mnist(str(DEBIAN))
    assert data.train_images.shape == (60000, 28, 28, 1) and data.test_images.shape == (10000, 28, 28, 1)
    assert set(np.bincount(data.train_labels)) == {6000} and set(np.bincount(data.test_labels)) == {1000}
    np.testing.assert_allclose(data.mean, [0.2860], atol=1e-4)  # the figures that everyone quotes
    np.testing.assert_allclose(data.std, [0.3530], atol=1e-4)


# ---- files that are missing, damaged or unlike what was announced ----

IDX_WANTED = "the IDX files train-images-idx3-ubyte[.gz] and its three companions"


def test_path_that_is_missing_or_holds_nothing(tmp_path):
    refused(
        f"dataset.path={tmp_path / 'no'} does not exist: expected a folder with fashion_mnist.npz or "
        f"{IDX_WANTED}, or one .npz file. Correct dataset.path.",
        fashion_mnist, str(tmp_path / "no"),
    )  # fmt: skip
    (tmp_path / "file").write_text("x")
    refused(
        f"dataset.path={tmp_path / 'file'} is a file: expected a folder with fashion_mnist.npz or "
        f"{IDX_WANTED}, or one .npz file. Correct dataset.path.",
        fashion_mnist, str(tmp_path / "file"),
    )  # fmt: skip
    refused(
        f"dataset.path={tmp_path} holds no files of cifar10: expected cifar10.npz or {IDX_WANTED} or the "
        f"binary files {CIFAR10_FILES}. Correct dataset.path, or put them there.",
        cifar10, str(tmp_path),
    )  # fmt: skip


def test_pickled_cifar_is_not_read(tmp_path):
    (tmp_path / "data_batch_1").write_bytes(b"\x80\x04.")
    refused(
        f"dataset.path={tmp_path} holds no files of cifar10: expected cifar10.npz or {IDX_WANTED} or the "
        f"binary files {CIFAR10_FILES}. Correct dataset.path, or put them there.",
        cifar10, str(tmp_path),
    )  # fmt: skip


def test_missing_companion(tmp_path):
    write_idx(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    refused(
        f"{tmp_path}/t10k-labels-idx1-ubyte is missing: expected the four IDX files, each plain or .gz. Put "
        "it there, or correct dataset.path.",
        fashion_mnist, str(tmp_path),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "it starts with nothing, an IDX file of bytes with 00 00 08"),
        (b"\x89PNG1234", "it starts with 89 50 4e 47, an IDX file of bytes with 00 00 08"),
        (b"\0\0\x08\x03\0\0\0\x28", "it ends within its header, after 8 bytes"),
        (
            idx(random_images(40, (28, 28)))[:-5],
            "it has 31371 bytes where its header, shape (40, 28, 28), announces 31376",
        ),
    ],
)
def test_damaged_idx(tmp_path, data, reason):
    write_idx(tmp_path, train_images=data)
    refused(
        f"{tmp_path}/train-images-idx3-ubyte is damaged: {reason}. Expected a whole file. Download or write "
        "it again.",
        fashion_mnist, str(tmp_path),
    )  # fmt: skip


def test_damaged_gzip(tmp_path):
    write_idx(tmp_path, compress=True)
    file = tmp_path / "train-images-idx3-ubyte.gz"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    refused(
        f"{file} is damaged: Compressed file ended before the end-of-stream marker was reached. Expected a "
        "whole file. Download or write it again.",
        fashion_mnist, str(tmp_path),
    )  # fmt: skip
    file.write_bytes(b"<html>404")
    refused(
        f"{file} is damaged: Not a gzipped file (b'<h'). Expected a whole file. Download or write it again.",
        fashion_mnist, str(tmp_path),
    )  # fmt: skip


def test_damaged_or_incomplete_npz(tmp_path):
    file = tmp_path / "cifar10.npz"
    wanted = "x_train, y_train, x_test, y_test"
    file.write_bytes(b"\x80\x04.")
    refused(
        f"{file} cannot be read as .npz (File is not a zip file): expected plain arrays {wanted}, nothing "
        "pickled. Write it again with numpy.savez_compressed.",
        cifar10, str(tmp_path),
    )  # fmt: skip
    x, y = random_images(4, (32, 32, 3)), random_labels(4, 10)
    np.savez(file, x_train=x, y_train=y)
    refused(
        f"{file} has no x_test, y_test: expected the arrays {wanted}. Write it again with "
        "numpy.savez_compressed.",
        cifar10, str(tmp_path),
    )  # fmt: skip
    np.savez(file, x_train=x, y_train=y, x_test=x, y_test=np.array([None] * 4))
    refused(
        f"{file} cannot be read as .npz (Object arrays cannot be loaded when allow_pickle=False): expected "
        f"plain arrays {wanted}, nothing pickled. Write it again with numpy.savez_compressed.",
        cifar10, str(tmp_path),
    )  # fmt: skip
    np.savez(file, x_train=x / 255, y_train=y, x_test=x, y_test=y)
    refused(
        f"{file} (x_train, y_train): images are float64 (4, 32, 32, 3) and labels uint8 (4,). Expected "
        "uint8 images [N, height, width, channels] or [N, height, width], and integer labels [N]. Convert "
        "the file.",
        cifar10, str(tmp_path),
    )  # fmt: skip


def test_truncated_npz(tmp_path):
    file = tmp_path / "cifar10.npz"
    x, y = random_images(4, (32, 32, 3)), random_labels(4, 10)
    np.savez(file, x_train=x, y_train=y, x_test=x, y_test=y)
    data = bytearray(file.read_bytes())
    data[2000] ^= 255
    file.write_bytes(data)
    refused(
        f"{file} cannot be read as .npz (Bad CRC-32 for file 'x_train.npy'): expected plain arrays x_train, "
        "y_train, x_test, y_test, nothing pickled. Write it again with numpy.savez_compressed.",
        cifar10, str(tmp_path),
    )  # fmt: skip


def test_missing_or_damaged_binary_cifar(tmp_path):
    write_cifar10(tmp_path)
    file = tmp_path / "data_batch_3.bin"
    file.write_bytes(file.read_bytes()[:-1])
    refused(
        f"{file} is damaged: its 30729 bytes are not a whole number of records of 3073 bytes. Expected a "
        "whole file. Download or write it again.",
        cifar10, str(tmp_path),
    )  # fmt: skip
    file.unlink()
    refused(
        f"{file} is missing: expected {CIFAR10_FILES}. Put it there, or correct dataset.path.",
        cifar10, str(tmp_path),
    )  # fmt: skip


def test_labels_and_shapes_unlike_those_announced(tmp_path):
    labels = random_labels(40, 10)
    source = f"{tmp_path}/train-images-idx3-ubyte and train-labels-idx1-ubyte"
    write_idx(tmp_path, train_labels=labels[:39])
    refused(
        f"{source}: 40 images and 39 labels. Expected as many labels as images, and at least one. Download "
        "or write the files again.",
        fashion_mnist, str(tmp_path),
    )  # fmt: skip
    write_idx(tmp_path, train_labels=np.where(labels == 3, 12, labels).astype(np.uint8))
    refused(
        f"{source}: labels go from 0 to 12, but dataset.classes=10 allows 0 to 9. Correct dataset.classes "
        "or the labels.",
        fashion_mnist, str(tmp_path),
    )  # fmt: skip
    write_idx(tmp_path, train_labels=labels)
    refused(
        f"{source}: images are 28x28x1, but dataset.shape is 32x32x1. Set dataset.shape=[28,28,1], or "
        "correct dataset.path.",
        load, "fashion_mnist", str(tmp_path), shape=[32, 32, 1],
    )  # fmt: skip
    assert load("fashion_mnist", str(tmp_path), classes=12).classes == 12


def test_fingerprint_is_of_images_and_labels_and_not_of_their_files(tmp_path):
    x, y = random_images(40, (28, 28)), random_labels(40, 10)
    files = [tmp_path / f"{k}.npz" for k in range(3)]
    np.savez(files[0], x_train=x, y_train=y, x_test=x[:9], y_test=y[:9])
    np.savez_compressed(files[1], x_train=x[..., None], y_train=y.astype(int), x_test=x[:9], y_test=y[:9])
    np.savez(files[2], x_train=x, y_train=(y + 1) % 10, x_test=x[:9], y_test=y[:9])
    same, again, other = (fashion_mnist(str(file)).fingerprint for file in files)
    assert same == again != other
    assert digits().fingerprint == digits().fingerprint != load("digits", train_images=50).fingerprint
