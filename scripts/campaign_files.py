"""The files that the campaign's inputs name: images, records, models and YAML files that are wrong."""

from __future__ import annotations

import io
import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
from campaign_runs import network
from PIL import Image


def _picture(kind: str = "png") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(stream, kind)
    return stream.getvalue()


def _tree(root: Path, classes: tuple[bytes, ...] = (b"a", b"b"), suffix: str = ".png") -> Path:
    """Class folders with two images each."""
    for split in (b"train", b"val"):
        for name in classes:
            folder = os.path.join(os.fsencode(root), split, name)
            os.makedirs(folder)
            for number in range(2):
                with open(os.path.join(folder, f"{number}{suffix}".encode()), "wb") as file:
                    file.write(_picture())
    return root


def make_files(place: Path) -> None:
    """Write the files that the inputs name into a folder, their working folder."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    place.chmod(0o777)
    (place / "file").write_text("no folder")
    _modules(place)
    _yaml(place)
    _models(place)
    _images(place / "folders")
    _records(place / "records")
    with open(place / "pickled.npz", "wb") as file:
        np.savez(file, x_train=np.array([{}], object))
    (place / "cut.npz").write_bytes((place / "pickled.npz").read_bytes()[:50])
    (place / "short").mkdir()
    (place / "short" / "test_batch.bin").write_bytes(b"\0" * 100)
    (place / "outputs" / "runs").mkdir(parents=True)
    for path in (place / "outputs", place / "outputs" / "runs"):  # for a user that owns nothing
        path.chmod(0o777)
    (place / "closed").mkdir(mode=0)
    for name in ("closed.keras", "closed.yaml"):
        (place / name).write_text("{}")
        (place / name).chmod(0)


def _modules(place: Path) -> None:
    (place / "broken_module.py").write_text("def net(:\n")
    (place / "leaving_module.py").write_text(
        "import sys\n\ndef net(*args, **more):\n    sys.exit(0)\n\nif __name__ != 'x':\n    pass\n"
    )


def _yaml(place: Path) -> None:
    texts = {
        "deep": "a: " + "[" * 3000 + "]" * 3000 + "\n",
        "huge": "conv0: 1" + 30 * "0" + "\n",
        "empty": "{}\n",
        "missing": "conv0: 4\n",
        "strange": "1: 2\nnull: [3]\n",
        "list": "- 1\n",
        "broken": "a: [\n",
    }
    (place / "configs").mkdir()
    for name, text in texts.items():
        for path in (place / f"{name}.yaml", place / "configs" / f"{name}.yaml"):
            path.write_text(text)
    for path in (place / "binary.yaml", place / "configs" / "binary.yaml"):
        path.write_bytes(b"\xff\xfe\0\x80a: 1")


def _models(place: Path) -> None:
    (place / "empty.keras").write_bytes(b"")
    with zipfile.ZipFile(place / "zip.keras", "w") as archive:
        archive.writestr("config.json", json.dumps({"class_name": "nosuch"}))
    (place / "cut.keras").write_bytes((place / "zip.keras").read_bytes()[:60])
    model = network((8, 8, 1), 10)
    model.set_weights([np.full_like(one, np.nan) for one in model.get_weights()])
    model.save(place / "nan.keras")


def _images(root: Path) -> None:
    _tree(root / "loop")
    os.symlink("loop.png", root / "loop" / "train" / "a" / "loop.png")
    os.symlink(".", root / "loop" / "train" / "again")
    _tree(root / "names", (b"a", b"b\xff\xfe"))
    _tree(root / "classes", (b"a",))
    _tree(root / "kinds", suffix=".tiff")
    (root / "empty" / "train").mkdir(parents=True)
    (root / "nothing").mkdir()
    (root / "flat_one" / "a").mkdir(parents=True)
    _tree(root / "wrong_class")
    os.rename(root / "wrong_class" / "val" / "b", root / "wrong_class" / "val" / "c")


def _records(root: Path) -> None:
    import tensorflow as tf

    def example(label: int) -> bytes:
        return (
            tf.train.Example(
                features=tf.train.Features(
                    feature={
                        "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[_picture()])),
                        "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
                    }
                )
            )
        ).SerializeToString()

    for name, records in {
        "noexample": [b"no example"],
        "cut": [example(0), example(1)],
        "label": [example(0), example(2**40)],
    }.items():
        (root / name).mkdir(parents=True)
        for split in ("train", "val"):
            content = b"".join(_framed(record) for record in records)
            (root / name / f"{split}.tfrecord").write_bytes(content[:-5] if name == "cut" else content)


def _framed(record: bytes) -> bytes:
    """A record as TensorFlow writes it: length, content, and the check sum of each."""
    length = len(record).to_bytes(8, "little")
    return length + _masked(length) + record + _masked(record)


def _masked(data: bytes) -> bytes:
    """The masked CRC-32C of TFRecord files."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(4, "little")
