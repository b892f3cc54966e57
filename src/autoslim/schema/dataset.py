"""The images."""

from dataclasses import dataclass
from typing import Any, ClassVar

from autoslim.schema.checks import Options, key, need, one_of

DATASETS = ("digits", "fashion_mnist", "cifar10", "cifar100")
NORMALIZATIONS = ("dataset", "unit", "symmetric", "pixels", "imagenet", "uint8")
SOURCES = ("arrays", "npz", "image_folder", "tfrecord", "tfds", "custom")
CROPS = ("none", "resized")
OPERATIONS = 14  # of RandAugment


def _ascending(pair: list[float]) -> bool:
    return pair[0] <= pair[1]


def _operations_and_magnitude(pair: list[float]) -> bool:
    return pair[0] in range(1, OPERATIONS + 1) and 0 <= pair[1] <= 10


@dataclass
class DatasetConfig(Options):
    """Images and their labels, and how training images are varied.

    Results depend on the images' fingerprint, not on the place where they lie: moved images are the same.
    """

    section: ClassVar[str] = "dataset"

    source: str = key("arrays", f"where images lie: {', '.join(SOURCES)}", words=SOURCES)
    _target_: str | None = key(
        None, "of custom: dotted path of a function that returns ((x, y), (x_test, y_test)), pixels uint8"
    )
    args: dict[str, Any] = key({}, "of custom: keyword arguments of the function")
    name: str = key(
        "digits",
        f"of arrays, one of {', '.join(DATASETS)}; of tfds, its name there; else any, for folder names",
    )
    path: str | None = key(
        None,
        "folder with the data set's files, or an .npz file; null: bundled or downloaded",
        affects_result=False,
    )
    test_split: str | None = key(
        None,
        "folder or split of the test images; null: the first of val, validation, test; of image_folder also "
        "a share of each class, such as 0.2, where there are class folders alone",
        affects_result=False,
    )
    image_key: str = key("image/encoded", "of tfrecord: the feature with the encoded image")
    label_key: str = key("image/class/label", "of tfrecord: the feature with the label, an integer")
    label_offset: int = key(0, "of tfrecord: the first class's label; 1 in the usual files of ImageNet")
    shape: list[int] | None = key(
        [8, 8, 1],
        "height, width, channels of an image, pixels; files are resized to it; null: of custom, npz: its own",
        length=3,
        least=1,
        expected="expected [height, width, channels], each at least 1",
    )
    classes: int | None = key(
        10,
        "number of classes; null: those that the files have",
        least=2,
        expected="a classifier needs at least 2 classes",
    )
    normalization: str = key(
        "dataset",
        "pixels to input: dataset (own mean and std), unit, symmetric, pixels, imagenet, uint8 (unchanged)",
        words=NORMALIZATIONS,
    )
    holdout: float = key(
        0.2,
        "share of the training images held out for the search, per class",
        affects_result=False,  # only the supernet and the search depend on it
        above=0,
        most=0.5,
        unit="a share",
    )
    holdout_path: str | None = key(
        None,
        "where images held apart for the search lie, laid out as the source's; null: dataset.holdout applies",
        affects_result=False,  # their fingerprint does, of the supernet and the search
    )
    train_images: int | None = key(
        None, "largest number of training images, balanced over classes; null: all", least=1
    )
    eval_crop: float = key(
        1.0,
        "share of the height and width kept, from the middle, outside training",
        above=0,
        most=1,
        unit="a share",
    )
    crop: str = key(
        "none", "training images: none (whole) or resized (a random part brought to shape)", words=CROPS
    )
    scale: list[float] = key(
        [0.08, 1.0],
        "smallest and largest share of the area that a random part takes",
        length=2,
        above=0,
        most=1,
        holds=_ascending,
        expected="expected shares [low, high], 0 < low <= high <= 1",
    )
    ratio: list[float] = key(
        [0.75, 4 / 3],
        "smallest and largest width to height of a random part",
        length=2,
        above=0,
        holds=_ascending,
        expected="expected [low, high], 0 < low <= high",
    )
    pad: int = key(0, "largest random shift of training images, pixels", least=0, unit="pixels")
    flip: bool = key(False, "mirror half of the training images, left to right")
    color: list[float] = key(
        [0.0, 0.0, 0.0],
        "random change of brightness, contrast, saturation, 0 to 1 each",
        length=3,
        least=0,
        most=1,
        expected="expected [brightness, contrast, saturation], 0 to 1 each",
    )
    randaugment: list[float] | None = key(
        None,
        "random operations: [how many an image, magnitude 0 to 10], such as [2,9]; null: none",
        length=2,
        holds=_operations_and_magnitude,
        expected=f"expected [1 to {OPERATIONS} operations, magnitude 0 to 10], or null",
    )
    mixup: float = key(
        0.0, "a of Beta(a, a), the share in which two images are added; 0: none, often 0.2", least=0
    )
    cutmix: float = key(
        0.0, "a of Beta(a, a), the share left when a rectangle is pasted; 0: none, often 1", least=0
    )
    verify: bool = key(
        True, "decode all image files once before use and leave out broken ones", affects_result=False
    )
    memory: float = key(
        1.0,
        "GiB of memory for the decoded training images of files, which then are decoded once, with "
        "dataset.crop=none; more are decoded in every epoch",
        affects_result=False,
        least=0,
    )
    max_broken: float = key(
        0.001,
        "share of the image files that may be broken; above it the run stops",
        affects_result=False,
        least=0,
        below=1,
        unit="a share",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        named = (
            "as tensorflow-datasets calls it, such as mnist" if self.source == "tfds" else "it names folders"
        )
        if self.source == "arrays":
            one_of("dataset.name", self.name, DATASETS)
            need(self.classes is not None, "dataset.classes", "null", "only image files can be counted")
        if self.source == "custom":
            self._check_custom()
        elif self.source == "npz":
            self._check_npz()
        else:
            need(self.shape is not None, "dataset.shape", "null", "[height, width, channels]")
        if self.shape is not None:
            side = min(self.shape[:2])
            need(self.pad < side, "dataset.pad", self.pad, f"pixels, fewer than an image's {side}")
        if self.shape is not None and self.source not in ("arrays", "custom", "npz"):
            need(self.shape[2] in (1, 3), "dataset.shape", self.shape, "files give 1 (grey) or 3 channels")
        need(bool(self.name.strip()), "dataset.name", repr(self.name), named)
        need(
            self.train_images is None or self.train_images >= (self.classes or 2),
            "dataset.train_images",
            self.train_images,
            "at least one per class",
        )

    def _check_custom(self) -> None:
        """A function of the user's own reads everything: keys of files say nothing to it."""
        need(bool(self._target_), "dataset._target_", "null", "the dotted path of a function")
        for name in ("path", "holdout_path", "test_split"):
            given = getattr(self, name)
            instead = "null with dataset=custom: give the function an argument, +dataset.args.NAME=VALUE"
            need(given is None, f"dataset.{name}", given, instead)

    def _check_npz(self) -> None:
        """One file holds everything."""
        need(bool(self.path), "dataset.path", "null", "the .npz file, dataset.path=FILE.npz")
        instead = "null with dataset=npz: the file has these images, as x_test, y_test, x_holdout, y_holdout"
        for name in ("holdout_path", "test_split"):
            need(getattr(self, name) is None, f"dataset.{name}", getattr(self, name), instead)
