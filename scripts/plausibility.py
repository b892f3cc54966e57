"""Run autoslim end to end on real images and compare what it reports with independent loops.

    python scripts/plausibility.py --folder /data/flowers --cifar10 /data/cifar10 --work /tmp/plausibility

Class folders (train/<class>/*, val/<class>/*), the same images as record files, CIFAR-10's binary files and
a network that a user trained before. The independent side uses plain Keras, Pillow and NumPy: it decodes,
crops, resizes and normalises images itself, counts arithmetic layer by layer, scores networks with Keras's
own batch statistics. Prints a table of expected, measured and verdict; exits with 1 where one does not hold.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from benchmark_common import introduce
from PIL import Image

from autoslim.reporting.markdown_table import table

SIZE = 32  # height and width that images are brought to
SUFFIXES = (".jpg", ".jpeg", ".png")
NETWORK = ["arch=resnet20", "arch.depth=14", "arch.width=8", "slim.levels=4"]
SHORT = ["baseline.epochs=3", "supernet.epochs=4", "retrain.epochs=3", "slim.target=0.5"]
REFERENCE = ["slim.search=naive", "slim.lazy=false", "slim.per_cost=false"]


class Check(NamedTuple):
    """One figure, as an independent loop finds it and as autoslim reports it."""

    name: str
    expected: float
    measured: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether the two agree."""
        return bool(abs(self.expected - self.measured) <= self.tolerance)


# -- images, by Pillow and NumPy alone ---------------------------------------------------------------------


class Images(NamedTuple):
    """Pixels uint8 [N, height, width, 3] and labels [N] of both splits."""

    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray


def folder_images(root: Path, crop: float, most: int) -> Images:
    """The images of class folders; of training images at most `most` a class."""
    names = sorted(entry.name for entry in (root / "train").iterdir() if entry.is_dir())
    splits: list[np.ndarray] = []
    for split in ("train", "val"):
        pixels, labels = [], []
        for label, name in enumerate(names):
            files = sorted(f for f in (root / split / name).iterdir() if f.suffix.lower() in SUFFIXES)
            for file in files[: most if split == "train" else None]:
                pixels.append(opened(file, crop))
                labels.append(label)
        splits += [np.stack(pixels), np.array(labels)]
    return Images(*splits)


def opened(file: Path, crop: float) -> np.ndarray:
    """One image: its central square, times `crop`, brought to the size with Pillow's antialiased filter."""
    image = Image.open(file).convert("RGB")
    side = round(min(image.size) * crop)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    cut = image.crop((left, top, left + side, top + side))
    return np.asarray(cut.resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def cifar_images(folder: Path) -> Images:
    """CIFAR-10's binary files."""
    parts = []
    for files in ([f"data_batch_{n}.bin" for n in range(1, 6)], ["test_batch.bin"]):
        rows = np.concatenate([np.fromfile(folder / f, np.uint8).reshape(-1, 3073) for f in files])
        parts += [rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), rows[:, 0].astype(int)]
    return Images(*parts)


# -- networks, by plain Keras ------------------------------------------------------------------------------


def normalised(pixels: np.ndarray, result: dict[str, Any]) -> np.ndarray:
    """Inputs of a network, with the constants that its stage wrote."""
    mean, std = (np.array(result["normalization"][name]) for name in ("mean", "std"))
    return ((pixels / 255 - mean) / std).astype(np.float32)


def judged(model: keras.Model, pixels: np.ndarray, labels: np.ndarray, result: dict[str, Any]) -> np.ndarray:
    """(mean cross-entropy, top-1 in per cent) of a network by Keras's own loop."""
    logits = model.predict(normalised(pixels, result), batch_size=500, verbose=0).astype(np.float64)
    return np.array([losses(logits, labels).mean(), 100 * (logits.argmax(1) == labels).mean()])


def losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Cross-entropy of each image, [N]."""
    shifted = logits - logits.max(1, keepdims=True)
    return np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(labels)), labels]


def counted(model: keras.Model) -> int:
    """Multiply-accumulates of one image, layer by layer from weights and output shapes."""
    total = 0
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
            total += int(np.prod(layer.kernel.shape)) * int(np.prod(layer.output.shape[1:3]))
        elif isinstance(layer, keras.layers.Dense):
            total += int(np.prod(layer.kernel.shape))
    return total


def first_statistics(model: keras.Model, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What reaches the first batch norm over these inputs: its mean and variance by channel."""
    norm = next(layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization))
    values = keras.Model(model.input, norm.input).predict(inputs, batch_size=500, verbose=0)
    return values.mean((0, 1, 2)), values.var((0, 1, 2))


# -- running autoslim --------------------------------------------------------------------------------------


class Run(NamedTuple):
    """The folders of a finished run, and what their result.json hold, by stage."""

    folders: dict[str, Path]
    results: dict[str, dict[str, Any]]


def run(output: Path, overrides: Sequence[str]) -> Run:
    """Type `python -m autoslim` with these overrides and gather what it leaves."""
    command = [sys.executable, "-m", "autoslim", *overrides, f"output={output}"]
    print("$ python -m autoslim", *overrides, flush=True)
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"autoslim ended with {done.returncode}:\n{done.stderr[-2000:]}")
    folders = {path.parent.name.split("-")[0]: path.parent for path in output.glob("*/*/result.json")}
    results = {stage: json.loads((path / "result.json").read_text()) for stage, path in folders.items()}
    return Run(folders, results)


def checks_of(name: str, found: Run, images: Images) -> Iterator[Check]:
    """Accuracy, costs and statistics of every trained network of a run."""
    full = next(found.results[stage] for stage in ("baseline", "given") if stage in found.results)
    for stage in ("baseline", "retrain", "uniform"):
        if "top1" not in found.results.get(stage, {}):
            continue
        result, at = found.results[stage], f"{name}, {stage}"
        model = keras.saving.load_model(found.folders[stage] / "model.keras", compile=False)
        loss, top1 = judged(model, images.test, images.test_labels, result)
        yield Check(f"{at}: test top-1 %", top1, 100 * result["top1"], 0.5)
        yield Check(f"{at}: test cross-entropy", loss, result["loss"], 0.02)
        yield Check(f"{at}: multiply-accumulates", counted(model), result["flops"], 0)
        weights = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
        yield Check(f"{at}: parameters", weights, result["params"], 0)
        norm = next(x for x in model.layers if isinstance(x, keras.layers.BatchNormalization))
        mean, variance = first_statistics(model, normalised(images.train[::7], result))
        scale = np.sqrt(variance.mean())
        yield Check(f"{at}: first batch norm's mean", 0.0, np.abs(norm.moving_mean - mean).max() / scale, 0.1)
        ratio = float(np.exp(np.log((norm.moving_variance + 1e-9) / (variance + 1e-9)).mean()))
        yield Check(f"{at}: first batch norm's variance, ratio", 1.0, ratio, 0.05)
        if stage != "baseline":
            share = counted(model) / full["flops"]
            yield Check(f"{at}: share of the FLOPs (half asked for)", 0.47, share, 0.03 + 1e-9)


def search_checks(name: str, found: Run, overrides: Sequence[str]) -> Iterator[Check]:
    """The first step of the search, and the full network's score, against Keras on materialised networks."""
    from autoslim import ChannelGraph
    from autoslim.config import compose
    from autoslim.stages.experiment import Experiment
    from autoslim.stages.record import record
    from autoslim.stages.weights import load_weights

    experiment = Experiment(compose([*overrides]))
    graph = ChannelGraph(load_weights(experiment.builder.network(), record("supernet").folder(experiment)))
    levels = experiment.levels
    batches = [(x.numpy(), y.numpy()) for x, y in experiment.images.heldout()]
    classes = min(len(np.unique(y)) for _, y in batches)
    yield Check(f"{name}, held-out: classes in every batch", experiment.data.classes, classes, 2)
    rows = list(csv.DictReader((found.folders["search"] / "trajectory.csv").open()))
    mixed = np.random.default_rng(1).permutation(sum(len(y) for _, y in batches))
    pixels, labels = (np.concatenate([batch[i] for batch in batches]) for i in (0, 1))
    shuffled = [(pixels[part], labels[part]) for part in np.array_split(mixed, len(batches))]
    model = graph.materialize(levels.largest)
    yield Check(
        f"{name}, search: full width, images shuffled",
        keras_loss(model, shuffled),
        float(rows[0]["loss"]),
        0.1,
    )
    yield Check(f"{name}, search: full width", keras_loss(model, batches), float(rows[0]["loss"]), 1e-3)
    scores = {}
    for group in graph.slimmable:
        widths = levels.largest.copy()
        width = levels.narrower(group.index, int(widths[group.index]))
        if width is not None:
            widths[group.index] = width
            scores[group.name] = keras_loss(graph.materialize(widths), batches)
    best = min(scores.values())
    yield Check(f"{name}, search: loss after the first step", best, float(rows[1]["loss"]), 1e-3)


def keras_loss(model: keras.Model, batches: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    """Mean cross-entropy with each batch's own statistics, by Keras's training mode."""
    found = [losses(np.asarray(model(x, training=True), np.float64), y) for x, y in batches]
    return float(np.concatenate(found).mean())


def stream_checks(name: str, overrides: Sequence[str], images: Images) -> Iterator[Check]:
    """Contrast and sharpness of what training reads, against images that Pillow resized."""
    from autoslim.config import compose
    from autoslim.stages.experiment import Experiment

    experiment = Experiment(compose([*overrides]))
    data = experiment.data
    streams = {
        "training": data.training(250).dataset(1),
        "held-out": experiment.images.heldout(),
        "test": data.test(250),
    }
    wanted = {"test": images.test}
    for stream, batches in streams.items():
        seen = np.concatenate([x.numpy() for x, _ in batches.take(8)])
        seen = (seen * data.std + data.mean) * 255
        ours = wanted.get(stream, images.train)
        for what, measure in (("contrast", np.std), ("sharpness", sharpness)):
            ratio = float(measure(seen) / measure(ours.astype(np.float32)))
            # held-out images are a sample of the training images
            tolerance = 0.06 if stream == "held-out" else 0.03
            yield Check(f"{name}, {stream} images: {what}, ratio", 1.0, ratio, tolerance)


def sharpness(pixels: np.ndarray) -> float:
    """Mean difference of neighbouring pixels."""
    return float(np.abs(np.diff(pixels, axis=2)).mean())


# -- the four sources --------------------------------------------------------------------------------------


def write_records(folder: Path, root: Path, most: int) -> None:
    """The images of class folders as TFRecord files, sorted by class as they are found."""
    root.mkdir(parents=True, exist_ok=True)
    names = sorted(entry.name for entry in (folder / "train").iterdir() if entry.is_dir())
    for split in ("train", "val"):
        with tf.io.TFRecordWriter(str(root / f"{split}-00000-of-00001.tfrecord")) as writer:
            for label, name in enumerate(names):
                files = sorted(f for f in (folder / split / name).iterdir() if f.suffix.lower() in SUFFIXES)
                for file in files[: most if split == "train" else None]:
                    content = tf.train.Feature(bytes_list=tf.train.BytesList(value=[file.read_bytes()]))
                    number = tf.train.Feature(int64_list=tf.train.Int64List(value=[label]))
                    feature = {"image/encoded": content, "image/class/label": number}
                    example = tf.train.Example(features=tf.train.Features(feature=feature))
                    writer.write(example.SerializeToString())


def few_images(folder: Path, root: Path, most: int) -> None:
    """Class folders with at most `most` training images a class, as links."""
    for split in ("train", "val"):
        for name in sorted(entry.name for entry in (folder / split).iterdir() if entry.is_dir()):
            (root / split / name).mkdir(parents=True, exist_ok=True)
            files = sorted(f for f in (folder / split / name).iterdir() if f.suffix.lower() in SUFFIXES)
            for file in files[: most if split == "train" else None]:
                link = root / split / name / file.name
                if not link.exists():
                    link.symlink_to(file.resolve())


def users_model(path: Path, images: Images) -> float:
    """Train a network as a user would, with Keras alone, and save it: its test top-1 in per cent."""
    keras.utils.set_random_seed(0)
    x = keras.Input((SIZE, SIZE, 3))
    y = x
    for filters in (16, 32, 64):
        y = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)(y)
        y = keras.layers.ReLU()(keras.layers.BatchNormalization()(y))
        y = keras.layers.MaxPooling2D()(y)
    y = keras.layers.GlobalAveragePooling2D()(y)
    classes = int(images.train_labels.max()) + 1
    model = keras.Model(x, keras.layers.Dense(classes, activation="softmax")(y), name="mine")
    model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    chosen = np.random.default_rng(0).permutation(len(images.train))[:8000]
    scaled = (images.train[chosen] / 255).astype(np.float32)
    model.fit(scaled, images.train_labels[chosen], 64, 6, verbose=0)
    model.save(path)
    test = (images.test / 255).astype(np.float32)
    return 100 * float(model.evaluate(test, images.test_labels, 500, verbose=0)[1])


def source_checks(name: str, work: Path, overrides: list[str], images: Images) -> Iterator[Check]:
    """Run the default stages on one source, and check what comes out."""
    overrides = [*NETWORK, *SHORT, *REFERENCE, *overrides]
    found = run(work / name, overrides)
    yield from checks_of(name, found, images)
    yield from search_checks(name, found, [*overrides, f"output={work / name}"])
    yield from stream_checks(name, overrides, images)


def given_checks(work: Path, overrides: list[str], images: Images) -> Iterator[Check]:
    """A user's own trained network: what it had is what the table says."""
    path = work / "mine.keras"
    top1 = users_model(path, images)
    overrides = ["arch=keras_file", f"arch.path={path}", "arch.name=mine", *SHORT, *overrides]
    overrides += ["dataset.normalization=unit", "slim.levels=4"]
    found = run(work / "own model", overrides)
    given = found.results.get("given", found.results.get("baseline", {}))
    yield Check("own model, given: test top-1 %", top1, 100 * given.get("top1", float("nan")), 0.3)
    yield from checks_of("own model", found, images)


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=Path, help="class folders: train/<class>/*, val/<class>/*")
    parser.add_argument("--cifar10", type=Path, help="CIFAR-10's binary files")
    parser.add_argument("--work", type=Path, required=True, help="folder for outputs")
    parser.add_argument("--per-class", type=int, default=100, help="training images of a class (100)")
    return parser.parse_args()


def main() -> int:
    """Run all that was asked for and print the table."""
    given = options()
    introduce()
    given.work.mkdir(parents=True, exist_ok=True)
    checks: list[Check] = []
    if given.folder:
        few, records = given.work / "folder images", given.work / "record images"
        few_images(given.folder, few, given.per_class)
        write_records(given.folder, records, given.per_class)
        images = folder_images(few, 1.0, given.per_class)
        shape = f"dataset.shape=[{SIZE},{SIZE},3]"
        for name, at in (("image_folder", few), ("tfrecord", records)):
            source = [
                f"dataset={name}",
                f"dataset.path={at}",
                shape,
                "dataset.eval_crop=1",
                "dataset.crop=none",
            ]
            checks += source_checks(name, given.work, source, images)
    if given.cifar10:
        cifar = cifar_images(given.cifar10)
        source = ["dataset=cifar10", f"dataset.path={given.cifar10}", "dataset.train_images=5000"]
        checks += source_checks("cifar10", given.work, source, cifar)
        checks += given_checks(given.work, source, cifar)
    rows = [
        [
            c.name,
            f"{c.expected:.6g}",
            f"{c.measured:.6g}",
            f"{c.tolerance:g}",
            "holds" if c.holds else "FAILS",
        ]
        for c in checks
    ]
    print("\n" + table(["figure", "expected", "measured", "tolerance", "verdict"], rows))
    return 0 if all(check.holds for check in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
