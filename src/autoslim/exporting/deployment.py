"""What whoever deploys a network must know: how an image file becomes its input, what its output means."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autoslim.errors import AutoslimError

Images = np.ndarray | list[np.ndarray]
"""Normalised, float32 [N, H, W, C]; or pixels, uint8 [h, w, C] each, of any size."""

RESIZE = "bilinear, antialiased, half-pixel centres, rounded to whole levels of 0 to 255"
CROP = (
    "the largest central window with the height to width of size, times share in each direction, rounded; "
    "the top and left margins rounded down"
)


@dataclass(frozen=True)
class Preprocessing:
    """From an image to the input of a network, as in evaluation: crop, resize, normalise."""

    shape: tuple[int, int, int]  # height, width, channels of the input; 3 channels are red, green, blue
    mean: tuple[float, ...]  # [channels], of pixels / 255
    std: tuple[float, ...]  # [channels], of pixels / 255
    crop: float = 1.0  # share of the height and width that is kept, from the middle

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            values = tuple(float(value) for value in getattr(self, name))
            if len(values) != self.shape[2]:
                raise AutoslimError(
                    f"{name} has {len(values)} values; expected one for each of the {self.shape[2]} channels."
                )
            object.__setattr__(self, name, values)
        object.__setattr__(self, "shape", tuple(int(size) for size in self.shape))
        if not 0 < self.crop <= 1:
            raise AutoslimError(f"crop={self.crop} is out of range: a share in (0, 1].")

    @property
    def channels(self) -> str:
        """What the channels are, in words."""
        return {1: "grey", 3: "red, green, blue"}.get(self.shape[2], f"{self.shape[2]} channels")

    def prepared(self, images: list[np.ndarray]) -> np.ndarray:
        """Images as the network takes them, by the functions that evaluation uses.

        Args:
            images: uint8 [h, w, channels] each, of any size.

        Returns:
            float32 [N, height, width, channels].
        """
        shape = self.shape
        pixels = np.stack([fitted(image, shape, self.crop) for image in images]).astype(np.float32)
        return ((pixels / 255 - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)).astype(
            np.float32
        )


@dataclass(frozen=True)
class Deployment:
    """What is written next to an exported file and, where the format can hold it, inside."""

    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None = None  # in the order of the outputs; None: not known
    top1: float | None = None  # of the Keras model as reported, a share of the test images
    test_images: int | None = None  # on which that was measured
    answers: str = "logits, no softmax"  # what the network returns
    inside: bool = False  # whether the file itself crops, resizes and normalises: it takes uint8 pixels
    input_size: tuple[int, int] | None = None  # height, width that such a file takes; None: any

    def __post_init__(self) -> None:
        if self.input_size is not None and not self.inside:
            raise AutoslimError(
                f"input_size={list(self.input_size)} was given with preprocessing outside: the network takes "
                f"images of {list(self.preprocessing.shape[:2])}. Leave it out, or put the preprocessing "
                "inside."
            )

    def inputs(self, images: list[np.ndarray]) -> list[np.ndarray]:
        """Images uint8 [h, w, channels] as a file with preprocessing inside takes them, one by one."""
        if self.input_size is None:
            return images
        shape = (*self.input_size, self.preprocessing.shape[2])
        return [fitted(image, shape, 1.0) for image in images]

    def metadata(
        self, format: str, classes: int, file_top1: float | None, file_images: int
    ) -> dict[str, Any]:
        """All that must be known of a file, as written to its JSON file.

        Args:
            format: of the file.
            classes: number of outputs.
            file_top1: of the file in its own runtime; None: not known.
            file_images: on which that was measured.
        """
        how = self.preprocessing
        top1 = {"keras_model": self.top1, "test_images": self.test_images}
        top1 |= {"this_file": file_top1, "this_file_test_images": file_images}
        return {
            "format": format,
            "input": {
                "shape": ["any", *self._size(), how.shape[2]]
                if "litert" not in format
                else [1, *self._size(), how.shape[2]],
                "type": "uint8" if self.inside else "float32",
                "order": "batch, height, width, channels",
                "channels": how.channels,
                "values": self._values(),
            },
            "preprocessing": {
                "where": "inside the file" if self.inside else "outside, before the file",
                "crop": CROP,
                "share": how.crop,
                "size": list(how.shape[:2]),
                "resize": RESIZE,
                "mean": [_shortest(value) for value in how.mean],
                "std": [_shortest(value) for value in how.std],
                "normalization": "(pixels / 255 - mean) / std",
            },
            "output": {"shape": ["any", classes], "values": f"{self.answers}: the largest is the class"},
            "class_names": None if self.class_names is None else list(self.class_names),
            "top1": top1,
        }

    def _size(self) -> list[Any]:
        if not self.inside:
            return list(self.preprocessing.shape[:2])
        return ["any", "any"] if self.input_size is None else list(self.input_size)

    def _values(self) -> str:
        if not self.inside:
            return "cropped, resized and normalised as under preprocessing"
        if self.input_size is None:
            return "pixels of a whole image, 0 to 255"
        return (
            "pixels of a whole image, 0 to 255; an image of another size is first brought to this one: crop "
            "with share 1, and resize, as under preprocessing"
        )


def fitted(image: np.ndarray, shape: tuple[int, int, int], share: float) -> np.ndarray:
    """An image uint8 [h, w, channels] cropped and resized as in evaluation: uint8 of that shape."""
    import tensorflow as tf

    from autoslim.datasets.images import central_box, resized

    with tf.device("CPU:0"):
        top, left, height, width = central_box(shape, share)(*image.shape[:2]).numpy()
        part = tf.constant(image[top : top + height, left : left + width])
        return np.asarray(resized(part, shape))


def with_ending(path: Path, ending: str) -> Path:
    """The file next to an exported one: `model.onnx.json` or `model.onnx.py`."""
    return path.with_name(path.name + ending)


def _shortest(value: float) -> float:
    """A float32 with no more digits than it needs."""
    return float(str(np.float32(value)))
