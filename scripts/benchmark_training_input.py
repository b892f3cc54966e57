"""The data of the training benchmark: an input pipeline, and the training step that it feeds."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from benchmark_training_sides import Side, one_batch, plain_step, repeated

from autoslim import ChannelGraph, archs, datasets
from autoslim.config import compose
from autoslim.stages.experiment import Experiment

GREY_IMAGES = 12_800
JPEG_IMAGES, JPEG_CLASSES, JPEG_SIZE = 256, 4, (375, 500)  # about ImageNet's mean size, height and width
READ_FIRST = 4  # batches of a pipeline that has just begun, read before timing: its buffers are empty then
READ = 16  # batches that are timed


def digits(folder: Path) -> tuple[Any, keras.Model]:
    """scikit-learn's digits as a run trains on them."""
    experiment = Experiment(compose())
    return experiment.images.training(), experiment.builder.network()


def grey(folder: Path) -> tuple[Any, keras.Model]:
    """Images of the size of Fashion-MNIST's, shifted and mirrored as these are."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (GREY_IMAGES, 28, 28, 1), np.uint8)
    labels = np.arange(GREY_IMAGES, dtype=np.int32) % 10
    data = datasets.ArrayDataset("grey", images, labels, images[:10], labels[:10], 10)
    return data.training(128, pad=2, flip=True), archs.resnet(data.shape, data.classes, depth=20)


def jpeg(folder: Path) -> tuple[Any, keras.Model]:
    """Random crops of JPEG files, decoded on the way, for mobilenet_v2 of ImageNet."""
    write_jpegs(folder)
    overrides = [
        "arch=mobilenet_v2_imagenet",
        "dataset=image_folder",
        f"dataset.path={folder}",
        "dataset.shape=[224,224,3]",
        "dataset.verify=false",
        "train.batch_size=32",
    ]
    experiment = Experiment(compose(overrides))
    return experiment.images.training(), experiment.builder.network()


CASES: dict[str, Callable[[Path], tuple[Any, keras.Model]]] = {
    "digits": digits,
    "28x28 grey": grey,
    "224x224 JPEG": jpeg,
}


def write_jpegs(folder: Path) -> None:
    """A folder of classes with smooth, slightly noisy JPEG images, about as large as photographs are."""
    generator = np.random.default_rng(0)
    for split, count in (("train", JPEG_IMAGES), ("val", 2 * JPEG_CLASSES)):
        for number in range(count):
            target = folder / split / f"class{number % JPEG_CLASSES}"
            target.mkdir(parents=True, exist_ok=True)
            coarse = generator.uniform(0, 255, (24, 32, 3)).astype(np.float32)
            pixels = tf.image.resize(coarse, JPEG_SIZE, "bicubic") + generator.normal(0, 6, (*JPEG_SIZE, 3))
            encoded = tf.io.encode_jpeg(tf.cast(tf.clip_by_value(pixels, 0, 255), tf.uint8), quality=90)
            tf.io.write_file(str(target / f"{number:04d}.JPEG"), encoded)


def input_sides(case: str, folder: Path, steps: int) -> tuple[dict[str, Side], int]:
    """Sides "input", seconds a batch of the pipeline alone, and "step", of training; and the batch size.

    Args:
        case: a key of CASES.
        folder: where files may be written.
        steps: that are trained in a round.
    """
    batches, model = CASES[case](folder)
    epochs = -(-(READ_FIRST + READ) // batches.steps_per_epoch)

    def read() -> float:
        # Begun again each time: one that went on would fill its buffers while the step is timed.
        stream = iter(batches.dataset(epochs))
        for _ in itertools.islice(stream, READ_FIRST):
            pass
        start = time.perf_counter()
        for _ in itertools.islice(stream, READ):
            pass
        return (time.perf_counter() - start) / READ

    data = one_batch(batches.batch_size, model.input_shape[1:], model.output_shape[-1])
    return {
        "input": read,
        "step": repeated(plain_step(ChannelGraph(model), *data), steps),
    }, batches.batch_size
