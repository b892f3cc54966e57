"""The PyTorch side of benchmark_torch_pruning.py: prunes and trains networks, asked over standard input.

It is started by that script with an interpreter that has PyTorch and torch-pruning (--torch-python), and
imports nothing of autoslim. A request is one line of JSON (see `Side.answer`), and so is the answer.

How Torch-Pruning is used follows its own benchmark (reproduce/main.py of its repository): the pruner
removes channels in 400 small steps towards the ratio 1, judging what is left anew at each, until the budget
is met; the last layer keeps its outputs, and a group that has less than a twelfth of its channels is left
alone (max_pruning_ratio), as autoslim goes no lower: without this, ranking all channels together left 2 of 64
units in a hidden layer. The importances are the library's, with its default reductions and normalisers:

- magnitude: GroupNormPruner with GroupMagnitudeImportance(p=2); no training before it ("group_norm" there);
- bn-scale: BNScalePruner with BNScaleImportance. Its recipe ("slim" there) first trains the network with an
  L1 penalty of 5e-4 on the scales of batch norm, without weight decay, for as many epochs as the fine-tuning
  takes. So do we, and count these epochs;
- taylor: BasePruner with GroupTaylorImportance, for which the gradient of the loss over 512 training images,
  not augmented, is taken first and again whenever another tenth of the channels is gone.

Each ranks all groups together (global_pruning=True) or removes the same ratio of each (False). Where a step
left more than a hundredth of the budget unused, the walk is done again with its last step cut into twenty.

Fine-tuning is SGD with Nesterov momentum, decoupled weight decay that spares norms and biases, a linear rise
and a cosine fall of the learning rate, random shifts and flips: what autoslim does, by the numbers in the
request. As there, batch-norm statistics are in the end recomputed over the same training images. PyTorch's
own choices stay: the variance in the moving statistics is the unbiased one, and the order of the images and
their augmentation are drawn by PyTorch.
"""

from __future__ import annotations

import copy
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

try:
    import numpy as np
    import torch
    import torch_pruning as tp
    from torch import nn
    from torch.nn import functional
except ImportError as error:
    print(json.dumps({"error": f"{sys.executable} lacks PyTorch or torch-pruning ({error})"}), flush=True)
    sys.exit(1)

from torch_pruning_network import Net, cost
from torch_pruning_training import Images, calibrate, tested, train

STEPS = 400  # in which a pruner removes all channels
FINE = 20  # parts of the last of these steps, where it left much of the budget unused
LEAST = 1 / 12  # share of a group's channels at which it is left alone, as autoslim's slim.min_width
USED = 0.99  # share of the budget from which on it is not cut
SPARSITY = 5e-4  # L1 penalty on batch-norm scales
GRADIENT_IMAGES = 512  # training images that a Taylor expansion takes its gradient over
REFRESH = 10  # times that it takes the gradient on the way to ratio 1


# -- pruning -----------------------------------------------------------------------------------------------


class NeverMet(Exception):
    """A pruner can't go as low as a budget: it skips groups at their least, and those that it would empty."""


def make_pruner(name: str, net: Net, example: Any, everywhere: bool, ratios: Sequence[float]) -> Any:
    """One of Torch-Pruning's pruners, whose step k brings the network to ratios[k - 1] of channels removed.

    Args:
        name: magnitude, bn-scale or taylor.
        net: the network that it will prune.
        example: one image, to trace it with.
        everywhere: whether all groups are ranked together (global_pruning).
        ratios: ascending.
    """
    common = {
        "global_pruning": everywhere,
        "pruning_ratio": 1.0,
        "max_pruning_ratio": 1 - LEAST,
        "iterative_steps": len(ratios),
        "iterative_pruning_ratio_scheduler": lambda ratio, steps: [0.0, *ratios],
        "ignored_layers": [net.classifier],
    }
    importance = tp.importance
    if name == "magnitude":
        return tp.pruner.GroupNormPruner(net, example, importance.GroupMagnitudeImportance(p=2), **common)
    if name == "bn-scale":
        return tp.pruner.BNScalePruner(net, example, importance.BNScaleImportance(), reg=SPARSITY, **common)
    if name == "taylor":
        return tp.pruner.BasePruner(net, example, importance.GroupTaylorImportance(), **common)
    raise ValueError(f"pruner={name}: expected magnitude, bn-scale or taylor")


def pruned(
    full: Net, images: Images, name: str, everywhere: bool, resource: str, limit: int, seed: int
) -> tuple[Net, dict[str, int]]:
    """The network that a pruner leaves when it first meets a budget, and its cost.

    Args:
        full: the network; a copy of it is pruned.
        images: of which training images are looked at (taylor).
        name, everywhere: as in `make_pruner`.
        resource: flops or params.
        limit: largest amount of it.
        seed: of the images that are looked at.

    Raises:
        NeverMet: if the budget is never met.
    """
    coarse = [(k + 1) / STEPS for k in range(STEPS)]
    net, found, steps = _walk(full, images, name, everywhere, resource, limit, seed, coarse)
    if found[resource] >= USED * limit or steps == 0:
        return net, found
    low, high = coarse[steps - 2] if steps > 1 else 0.0, coarse[steps - 1]
    fine = [*coarse[: steps - 1], *(low + (high - low) * (k + 1) / FINE for k in range(FINE))]
    return _walk(full, images, name, everywhere, resource, limit, seed, fine)[:2]


def _walk(
    full: Net,
    images: Images,
    name: str,
    everywhere: bool,
    resource: str,
    limit: int,
    seed: int,
    ratios: Sequence[float],
) -> tuple[Net, dict[str, int], int]:
    """As `pruned`, by steps to these ratios; and how many were taken."""
    net = copy.deepcopy(full).eval()
    example = torch.zeros(1, *images.train.shape[1:])
    pruner = make_pruner(name, net, example, everywhere, ratios)
    found, part = cost(net, example), -1
    for steps, ratio in enumerate([0.0, *ratios]):
        if steps:
            pruner.step()
            found = cost(net, example)
        if found[resource] <= limit:
            return net, found, steps
        if name == "taylor" and int(ratio * REFRESH) > part:
            part = int(ratio * REFRESH)
            _gradient(net, images, seed)
    raise NeverMet(f"{name} can't go below {resource}={found[resource]:,}, the budget is {limit:,}")


def _gradient(net: Net, images: Images, seed: int) -> None:
    """Put the gradient of the mean loss over some training images into the network's weights."""
    generator = torch.Generator().manual_seed(seed)
    index = torch.randperm(len(images.train), generator=generator)[:GRADIENT_IMAGES]
    net.zero_grad(set_to_none=False)
    for part in index.split(128):
        logits = net(images.normalised(images.train[part]))
        loss = functional.cross_entropy(logits, images.train_labels[part], reduction="sum") / len(index)
        loss.backward()


# -- requests ----------------------------------------------------------------------------------------------


class Side:
    """The network and the images of one cell and seed."""

    def __init__(self) -> None:
        self._net: Net | None = None
        self._images: Images | None = None
        self._sparse: tuple[Net, float] | None = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Take a network, or make a smaller one of it.

        Args:
            request: {"open": folder, "network": description}, or {"pruner": magnitude, bn-scale or taylor,
                "everywhere": whether all groups are ranked together, "resource": flops or params, "limit": of
                it, "recipe": see `train`, "seed"}.

        Returns:
            Of the first: {"difference": largest difference of logits to the other side's, relative to the
            largest logit where that is above 1, "top1", "loss", "flops", "params"}. Of the second: {"top1",
            "loss", "flops", "params", "epochs", "seconds", "channels": of each layer}, or {"failed": reason}
            where the pruner can't meet the budget.
        """
        if "open" in request:
            return self._open(Path(request["open"]), request["network"])
        return self._prune(**request)

    def _open(self, folder: Path, description: dict[str, Any]) -> dict[str, Any]:
        with np.load(folder / "weights.npz") as weights:
            net = Net(description, {name: weights[name] for name in weights.files})
        images, self._sparse = Images(folder / "images.npz"), None
        net.eval()
        with torch.no_grad():
            logits = net(images.normalised(images.test[: len(images.logits)]))
        apart = float((logits - images.logits).abs().max()) / max(1.0, float(images.logits.abs().max()))
        self._net, self._images = net, images
        return {
            "difference": apart,
            **tested(net, images),
            **cost(net, torch.zeros(1, *images.test.shape[1:])),
        }

    def _prune(
        self, pruner: str, everywhere: bool, resource: str, limit: int, recipe: dict[str, Any], seed: int
    ) -> dict[str, Any]:
        if self._net is None or self._images is None:
            raise ValueError("no network is open")
        start, before, sparse_epochs = time.perf_counter(), 0.0, 0
        full, images = self._net, self._images
        if pruner == "bn-scale":
            had = self._sparse is not None
            full, seconds = self._sparsified(recipe, seed)
            before, sparse_epochs = (seconds if had else 0.0), recipe["epochs"]
        try:
            net, found = pruned(full, images, pruner, everywhere, resource, limit, seed)
        except NeverMet as reason:
            return {"failed": str(reason)}
        train(net, images, recipe, seed)
        calibrate(net, images, recipe["batch"])
        channels = {
            name: layer.out_channels if isinstance(layer, nn.Conv2d) else layer.out_features
            for name, layer in net.layers.items()
            if isinstance(layer, (nn.Conv2d, nn.Linear))
        }
        seconds = before + time.perf_counter() - start
        epochs = recipe["epochs"] + sparse_epochs
        return {**tested(net, images), **found, "epochs": epochs, "seconds": seconds, "channels": channels}

    def _sparsified(self, recipe: dict[str, Any], seed: int) -> tuple[Net, float]:
        """The network after training with a penalty on its batch-norm scales, and the seconds that took."""
        if self._sparse is None:
            assert self._net is not None and self._images is not None
            start = time.perf_counter()
            net = copy.deepcopy(self._net)
            example = torch.zeros(1, *self._images.train.shape[1:])
            pruner = make_pruner("bn-scale", net, example, True, [1.0])
            train(net, self._images, recipe, seed, decay=False, regularize=lambda: pruner.regularize(net))
            self._sparse = net, time.perf_counter() - start
        return self._sparse


def main() -> None:
    torch.set_num_threads(1)
    print(json.dumps({"version": f"{torch.__version__}, torch-pruning {tp.__version__}"}), flush=True)
    side = Side()
    for line in sys.stdin:
        try:
            answer = side.answer(json.loads(line))
        except Exception as error:  # reported to the other side
            answer = {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
