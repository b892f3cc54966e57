"""Images, training and test of networks on the PyTorch side of benchmark_torch_pruning.py."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

AT_ONCE = 500  # images in a batch where no gradient is needed


class Images:
    """What the other side wrote into images.npz; batches are normalised as there."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as file:
            arrays = {name: torch.from_numpy(file[name]) for name in file.files}
        self.train, self.train_labels = arrays["train"], arrays["train_labels"]
        self.test, self.test_labels = arrays["test"], arrays["test_labels"]
        self.calibration, self.logits = arrays["calibration"], arrays["logits"]
        self._mean, self._std = (arrays[name].view(1, -1, 1, 1) for name in ("mean", "std"))

    def normalised(self, pixels: Any) -> Any:
        """uint8 [B, channels, height, width] -> float32."""
        return (pixels.float() / 255 - self._mean) / self._std

    def varied(self, index: Any, pad: int, flip: bool, generator: Any) -> Any:
        """Training images at `index`, shifted by up to `pad` pixels, half of them mirrored, normalised."""
        x = self.train[index]
        count, _, height, width = x.shape
        x = functional.pad(x, [pad] * 4)
        offset = torch.randint(2 * pad + 1, (count, 2), generator=generator)
        rows = offset[:, :1] + torch.arange(height)
        columns = offset[:, 1:] + torch.arange(width)
        if flip:
            mirrored = torch.rand(count, 1, generator=generator) >= 0.5
            columns = torch.where(mirrored, columns.flip(1), columns)
        x = x[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
        return self.normalised(x.permute(0, 3, 1, 2))


def rate_at(step: int, steps: int, warmup: int, peak: float) -> float:
    """Learning rate of a step: a linear rise from 0, then a cosine to 0, as Keras's CosineDecay."""
    if step < warmup:
        return peak * step / warmup
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return peak * 0.5 * (1 + math.cos(math.pi * done))


def train(
    net: nn.Module,
    images: Images,
    recipe: dict[str, Any],
    seed: int,
    decay: bool = True,
    regularize: Callable[[], None] | None = None,
) -> None:
    """Train a network.

    Args:
        net: its weights are trained.
        images: its training images.
        recipe: {"epochs", "rate" (the peak), "warmup_epochs", "batch", "momentum", "nesterov",
            "weight_decay" (per step, times the rate), "pad", "flip"}.
        seed: of the order of the images and their augmentation.
        decay: whether weights decay.
        regularize: called between the backward pass and the step.
    """
    generator = torch.Generator().manual_seed(seed)
    batch, per_epoch = recipe["batch"], len(images.train) // recipe["batch"]
    steps, warmup = recipe["epochs"] * per_epoch, round(recipe["warmup_epochs"] * per_epoch)
    parameters = list(net.parameters())
    decaying = [p for p in parameters if p.dim() > 1] if decay else []
    sgd = torch.optim.SGD(parameters, 0.0, momentum=recipe["momentum"], nesterov=recipe["nesterov"])
    net.train()
    for step in range(steps):
        if step % per_epoch == 0:
            order = torch.randperm(len(images.train), generator=generator)
        index = order[step % per_epoch * batch :][:batch]
        x = images.varied(index, recipe["pad"], recipe["flip"], generator)
        sgd.zero_grad(set_to_none=True)
        functional.cross_entropy(net(x), images.train_labels[index]).backward()
        if regularize:
            regularize()
        rate = rate_at(step, steps, warmup, recipe["rate"])
        with torch.no_grad():
            for parameter in decaying:
                parameter.mul_(1 - rate * recipe["weight_decay"])
        sgd.param_groups[0]["lr"] = rate
        sgd.step()


def calibrate(net: nn.Module, images: Images, batch: int) -> None:
    """Recompute batch-norm statistics as the mean over batches of the same training images as autoslim."""
    norms = [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm2d)]
    momenta = [layer.momentum for layer in norms]
    net.eval()
    for layer in norms:
        layer.reset_running_stats()
        layer.momentum = None  # the mean of all batches
        layer.train()
    with torch.no_grad():
        for part in images.calibration.split(batch):
            net(images.normalised(part))
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
    net.eval()


def tested(net: nn.Module, images: Images) -> dict[str, float]:
    """Top-1 and mean cross-entropy on the test images."""
    net.eval()
    right, loss = 0, 0.0
    with torch.no_grad():
        for pixels, labels in zip(images.test.split(AT_ONCE), images.test_labels.split(AT_ONCE), strict=True):
            logits = net(images.normalised(pixels))
            right += int((logits.argmax(1) == labels).sum())
            loss += float(functional.cross_entropy(logits, labels, reduction="sum"))
    return {"top1": right / len(images.test), "loss": loss / len(images.test)}
