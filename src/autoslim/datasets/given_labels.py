"""Labels that a user's function returns, checked and brought into one form for each task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoslim.datasets.apart import counted_classes
from autoslim.datasets.labels import Labels
from autoslim.errors import AutoslimError


@dataclass(frozen=True)
class LabelKinds:
    """What labels are, for each output of a network.

    Attributes:
        kinds: output -> name of its task, a key of `FORMS` or any other; or one for all outputs.
        ignore: a mask's label that stands for no class; None: none does.
        classes: number of classes, where it is known before.
    """

    kinds: str | Mapping[str, str] = "classification"
    ignore: int | None = None
    classes: int | None = None

    def formed(self, labels: Any, images: int, where: str) -> Labels:
        """Labels of one split as `labels.Labels`.

        Raises:
            AutoslimError: for labels that the task cannot learn.
        """
        if isinstance(labels, Mapping):
            lacking = [] if isinstance(self.kinds, str) else [n for n in self.kinds if n not in labels]
            if lacking:
                raise AutoslimError(
                    f"{where}: labels are of {', '.join(map(str, labels))}: expected those of "
                    f"{', '.join(self.kinds)} (task.outputs)."
                )
            return {
                str(name): self._one(one, self._kind(str(name)), images, f"{where}: {name}")
                for name, one in labels.items()
                if isinstance(self.kinds, str) or name in self.kinds
            }
        if isinstance(labels, tuple | list) and len(labels) != images:
            kinds = [self.kinds] * len(labels) if isinstance(self.kinds, str) else list(self.kinds.values())
            if len(kinds) != len(labels):
                raise AutoslimError(f"{where}: {len(labels)} labels for {len(kinds)} outputs: one for each.")
            return [self._one(*pair, images, where) for pair in zip(labels, kinds, strict=True)]
        if not isinstance(self.kinds, str):
            names = set(self.kinds.values())
            if len(names) > 1:
                raise AutoslimError(
                    f"{where}: one array of labels for outputs of several tasks ({', '.join(self.kinds)}): "
                    "expected a dict, output -> labels."
                )
            return self._one(labels, names.pop(), images, where)
        return self._one(labels, self.kinds, images, where)

    def _kind(self, output: str) -> str:
        return self.kinds if isinstance(self.kinds, str) else self.kinds[output]

    def _one(self, labels: Any, kind: str, images: int, where: str) -> np.ndarray:
        values = np.asarray(labels)
        if values.dtype.kind not in "biuf" or values.ndim == 0 or len(values) != images:
            raise AutoslimError(
                f"{where}: labels are {values.dtype} {list(values.shape)} for {images} images: expected "
                "numbers, one or more for each image."
            )
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise AutoslimError(f"{where}: labels are not all finite. Leave out the images that have none.")
        form = FORMS.get(kind, _as_numbers)
        return form(values, where)

    def count(self, splits: list[Labels]) -> Any:
        """How many classes, values or labels each image has: a number, or one for each output."""
        first = splits[0]
        if isinstance(first, Mapping):
            return {name: self._count([one[name] for one in splits], self._kind(name)) for name in first}
        if isinstance(first, list):
            kinds = [self.kinds] * len(first) if isinstance(self.kinds, str) else list(self.kinds.values())
            return [self._count([one[i] for one in splits], kind) for i, kind in enumerate(kinds)]
        kind = self.kinds if isinstance(self.kinds, str) else next(iter(self.kinds.values()))
        return self._count(splits, kind)

    def _count(self, splits: list[np.ndarray], kind: str) -> int:
        values = splits[0]
        if kind in ("classification", "segmentation"):
            if self.classes:
                return self.classes
            return max(2, counted_classes([one[one != self.ignore] for one in splits], "dataset"))
        if self.classes and values.ndim == 1 and kind not in FORMS:
            return self.classes
        return int(np.prod(values.shape[1:], dtype=np.int64))


def _classes(labels: np.ndarray, where: str) -> np.ndarray:
    """Class numbers, int64 [N], of integers [N] or [N, 1], or of one-hot rows."""
    count = len(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    elif labels.ndim == 2 and np.isin(labels, (0, 1)).all() and (labels.sum(1) == 1).all():
        labels = labels.argmax(1)
    if labels.shape != (count,) or not _whole(labels):
        raise AutoslimError(
            f"{where}: labels are {labels.dtype} {list(labels.shape)} for {count} images: expected one whole "
            "number for each image, or one-hot rows. Values are learnt with task=regression, several labels "
            "an image with task=multilabel, masks with task=segmentation."
        )
    return labels.astype(np.int64)


def _whole(labels: np.ndarray) -> bool:
    return labels.dtype.kind in "biu" or bool((labels % 1 == 0).all())


def _multi_hot(labels: np.ndarray, where: str) -> np.ndarray:
    """float32 [N, labels] of 0 and 1."""
    if labels.ndim != 2 or ((labels < 0) | (labels > 1)).any():
        raise AutoslimError(
            f"{where}: labels are {labels.dtype} {list(labels.shape)}, from {labels.min():g} to "
            f"{labels.max():g}: expected a row of 0 and 1 for each image, [N, labels]."
        )
    return labels.astype(np.float32)


def _as_values(labels: np.ndarray, where: str) -> np.ndarray:
    return labels.astype(np.float32)


def _as_numbers(labels: np.ndarray, where: str) -> np.ndarray:
    return labels.astype(np.float32 if labels.dtype.kind == "f" else np.int32)


def _masks(labels: np.ndarray, where: str) -> np.ndarray:
    """Whole numbers [N, height, width], as small as they can be."""
    if labels.ndim == 4 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    elif labels.ndim == 4 and np.isin(labels, (0, 1)).all() and (labels.sum(-1) == 1).all():
        labels = labels.argmax(-1)
    if labels.ndim != 3 or not _whole(labels):
        raise AutoslimError(
            f"{where}: masks are {labels.dtype} {list(labels.shape)}: expected a whole number for each "
            "pixel, [N, height, width], or one-hot [N, height, width, classes]."
        )
    if labels.min() < 0:
        raise AutoslimError(
            f"{where}: masks have the label {labels.min():g}: expected whole numbers from 0 on. Give pixels "
            "that count for nothing a label such as 255, and task.ignore=255."
        )
    return labels.astype(np.uint8 if labels.max() < 256 else np.int32)


FORMS: dict[str, Callable[[np.ndarray, str], np.ndarray]] = {
    "classification": _classes,
    "multilabel": _multi_hot,
    "regression": _as_values,
    "segmentation": _masks,
}
"""Name of a task -> (labels, where they come from) -> its labels."""
