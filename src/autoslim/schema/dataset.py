"""The images."""

import math
from dataclasses import dataclass

from autoslim.schema.checks import key, need, one_of

DATASETS = ("digits", "fashion_mnist", "cifar10", "cifar100")
NORMALIZATIONS = ("dataset", "unit", "symmetric", "pixels", "imagenet")
SOURCES = ("arrays", "image_folder", "tfrecord", "tfds")
CROPS = ("none", "resized")


@dataclass
class DatasetConfig:
    """Images and their labels, and how training images are varied."""

    source: str = key("arrays", f"where images lie: {', '.join(SOURCES)}")
    name: str = key(
        "digits",
        f"of arrays, one of {', '.join(DATASETS)}; of tfds, its name there; else any, for folder names",
    )
    path: str | None = key(None, "folder with the data set's files; null: bundled or downloaded")
    test_split: str | None = key(
        None, "folder or split of the test images; null: the first of val, validation, test"
    )
    image_key: str = key("image/encoded", "of tfrecord: the feature with the encoded image")
    label_key: str = key("image/class/label", "of tfrecord: the feature with the label, an integer")
    label_offset: int = key(0, "of tfrecord: the first class's label; 1 in the usual files of ImageNet")
    shape: list[int] = key([8, 8, 1], "height, width, channels of an image, pixels; files are resized to it")
    classes: int | None = key(10, "number of classes; null: those that the files have")
    normalization: str = key(
        "dataset", "pixels to input: dataset (own mean and std), unit, symmetric, pixels or imagenet"
    )
    holdout: float = key(0.2, "share of the training images held out for the search, per class")
    train_images: int | None = key(None, "use only so many training images, balanced over classes; null: all")
    eval_crop: float = key(1.0, "share of the height and width kept, from the middle, outside training")
    crop: str = key("none", "training images: none (whole) or resized (a random part brought to shape)")
    scale: list[float] = key([0.08, 1.0], "smallest and largest share of the area that a random part takes")
    ratio: list[float] = key([0.75, 4 / 3], "smallest and largest width to height of a random part")
    pad: int = key(0, "random shift of training images by up to so many pixels")
    flip: bool = key(False, "mirror half of the training images, left to right")
    color: list[float] = key(
        [0.0, 0.0, 0.0], "random change of brightness, contrast, saturation, 0 to 1 each"
    )
    randaugment: list[float] | None = key(
        None, "random operations: [how many an image, magnitude 0 to 10], such as [2,9]; null: none"
    )
    mixup: float = key(0.0, "a of Beta(a, a), the share in which two images are added; 0: none, often 0.2")
    cutmix: float = key(0.0, "a of Beta(a, a), the share left when a rectangle is pasted; 0: none, often 1")
    verify: bool = key(True, "decode all image files once before use and leave out broken ones")
    max_broken: float = key(0.001, "share of the image files that may be broken; above it the run stops")

    def __post_init__(self) -> None:
        one_of("dataset.source", self.source, SOURCES)
        if self.source == "arrays":
            one_of("dataset.name", self.name, DATASETS)
            need(self.classes is not None, "dataset.classes", "null", "only image files can be counted")
        named = (
            "as tensorflow-datasets calls it, such as mnist" if self.source == "tfds" else "it names folders"
        )
        need(bool(self.name.strip()), "dataset.name", repr(self.name), named)
        one_of("dataset.normalization", self.normalization, NORMALIZATIONS)
        one_of("dataset.crop", self.crop, CROPS)
        fits = len(self.shape) == 3 and all(n >= 1 for n in self.shape)
        need(fits, "dataset.shape", self.shape, "expected [height, width, channels], each at least 1")
        if self.source != "arrays":
            need(self.shape[2] in (1, 3), "dataset.shape", self.shape, "files give 1 (grey) or 3 channels")
        count = self.classes
        need(count is None or count >= 2, "dataset.classes", count, "a classifier needs at least 2 classes")
        need(0 < self.holdout <= 0.5, "dataset.holdout", self.holdout, "a share in (0, 0.5]")
        need(0 < self.eval_crop <= 1, "dataset.eval_crop", self.eval_crop, "a share in (0, 1]")
        need(self.pad >= 0, "dataset.pad", self.pad, "pixels, 0 or more")
        need(0 <= self.max_broken < 1, "dataset.max_broken", self.max_broken, "a share in [0, 1)")
        fits = len(self.color) == 3 and all(0 <= strength <= 1 for strength in self.color)
        need(fits, "dataset.color", self.color, "expected [brightness, contrast, saturation], 0 to 1 each")
        drawn = self.randaugment
        fits = drawn is None or (len(drawn) == 2 and drawn[0] in range(1, 15) and 0 <= drawn[1] <= 10)
        need(fits, "dataset.randaugment", drawn, "expected [1 to 14 operations, magnitude 0 to 10], or null")
        need(0 <= self.mixup < math.inf, "dataset.mixup", self.mixup, "a number of 0 or more")
        need(0 <= self.cutmix < math.inf, "dataset.cutmix", self.cutmix, "a number of 0 or more")
        _range("dataset.scale", self.scale, 1, "shares [low, high], 0 < low <= high <= 1")
        _range("dataset.ratio", self.ratio, math.inf, "[low, high], 0 < low <= high")
        count = self.train_images
        need(
            count is None or count >= (self.classes or 2),
            "dataset.train_images", count, "at least one per class",
        )  # fmt: skip


def _range(name: str, value: list[float], most: float, expected: str) -> None:
    fits = len(value) == 2 and 0 < value[0] <= value[1] <= most and math.isfinite(value[1])
    need(fits, name, value, f"expected {expected}")
