"""Whether a network comes with trained weights: they are compared with, and trained on gently."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np

from autoslim.archs.pretrained import IMAGENET_CLASSES
from autoslim.schema import ArchConfig, KerasApplication, KerasFile

OURS = "autoslim."  # dotted paths of networks that change with the version only
FRESH, PARTLY, TRAINED = "fresh", "partly", "trained"
"""What the weights of a network are: all drawn by chance; some of them trained, such as all but the last
layer's; all trained."""


def weights_of(arch: ArchConfig, classes: int, build: Callable[[int], keras.Model]) -> str:
    """What the weights are that a network comes with: `FRESH`, `PARTLY` or `TRAINED`.

    Args:
        arch: section `arch`; `arch.trained` has the last word.
        classes: number of logits.
        build: seed -> the network.
    """
    if arch.trained is not None:
        return TRAINED if arch.trained else FRESH
    if isinstance(arch, KerasFile):
        return TRAINED
    if isinstance(arch, KerasApplication):
        headless = arch.weights == "imagenet" and classes != IMAGENET_CLASSES
        return FRESH if arch.weights is None else PARTLY if headless else TRAINED
    if arch._target_.startswith(OURS):
        return FRESH
    return _by_seed(build)


def _by_seed(build: Callable[[int], keras.Model]) -> str:
    """By which kernels are the same for two seeds: what is drawn differs, what is loaded does not."""
    first, second = (
        [np.asarray(v) for v in build(seed).trainable_variables if v.ndim > 1] for seed in (0, 1)
    )
    same = [np.array_equal(a, b) for a, b in zip(first, second, strict=True) if a.std() > 0]
    return TRAINED if same and all(same) else PARTLY if any(same) else FRESH
