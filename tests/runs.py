"""The settings of runs that are through in seconds, and what is compared of its results."""

import json
from pathlib import Path
from typing import Any

import keras

TINY = {
    "arch": "resnet20",
    "arch.depth": 8,
    "arch.width": 8,
    "dataset.train_images": 120,
    "train.batch_size": 40,
    "train.calibration_batches": 1,
    "train.deterministic": "false",  # it would hold for the whole process, other tests included
    "baseline.epochs": 1,
    "supernet.epochs": 1,
    "supernet.arms": 2,
    "retrain.epochs": 1,
    "retrain.init": "supernet",  # so that no baseline is needed where none is looked at
    "slim.levels": 2,
    "slim.min_width": 0.5,
}
SMALL = {key: value for key, value in TINY.items() if not key.startswith("arch")}
SMALL |= {"arch": "custom", "arch._target_": "runs.small", "arch.name": "small"}


def small(input_shape, classes) -> keras.Model:
    """A network of three convolutions, which is built and traced faster than the smallest ResNet."""
    x = image = keras.Input(input_shape, name="image")
    for number, width in enumerate((8, 12, 16), 1):
        x = keras.layers.Conv2D(width, 3, padding="same", use_bias=False, name=f"conv{number}")(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization(name=f"bn{number}")(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(classes, name="logits")(x))


def parameters(model) -> float:
    """A measurement for slim.measure that depends on no machine: millions of parameters."""
    return model.count_params() / 1e6


def lasting(path: Path) -> dict[str, Any]:
    """What a result.json holds that is the same in every run: not its time, nor its files' bytes."""
    result = json.loads(path.read_text())
    return {name: value for name, value in result.items() if name not in ("seconds", "files", "seal")}
