"""The images."""

from dataclasses import dataclass

from autoslim.schema.checks import key, need, one_of

DATASETS = ("digits", "fashion_mnist", "cifar10", "cifar100")
NORMALIZATIONS = ("dataset", "unit", "symmetric", "pixels", "imagenet")


@dataclass
class DatasetConfig:
    """Images and their labels, and how training images are varied."""

    name: str = key("digits", f"one of {', '.join(DATASETS)}")
    path: str | None = key(None, "folder with the data set's files; null: bundled or downloaded")
    shape: list[int] = key([8, 8, 1], "height, width, channels of an image, pixels")
    classes: int = key(10, "number of classes")
    normalization: str = key(
        "dataset", "pixels to input: dataset (own mean and std), unit, symmetric, pixels or imagenet"
    )
    holdout: float = key(0.2, "share of the training images held out for the search, per class")
    pad: int = key(0, "random shift of training images by up to so many pixels")
    flip: bool = key(False, "mirror half of the training images, left to right")
    train_images: int | None = key(None, "use only so many training images, balanced over classes; null: all")

    def __post_init__(self) -> None:
        one_of("dataset.name", self.name, DATASETS)
        one_of("dataset.normalization", self.normalization, NORMALIZATIONS)
        fits = len(self.shape) == 3 and all(n >= 1 for n in self.shape)
        need(fits, "dataset.shape", self.shape, "expected [height, width, channels], each at least 1")
        need(self.classes >= 2, "dataset.classes", self.classes, "a classifier needs at least 2 classes")
        need(0 < self.holdout <= 0.5, "dataset.holdout", self.holdout, "a share in (0, 0.5]")
        need(self.pad >= 0, "dataset.pad", self.pad, "pixels, 0 or more")
        count = self.train_images
        need(count is None or count >= self.classes, "dataset.train_images", count, "at least one per class")
