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
import math
import sys
import time
from collections.abc import Callable, Sequence
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

STEPS = 400  # in which a pruner removes all channels
FINE = 20  # parts of the last of these steps, where it left much of the budget unused
LEAST = 1 / 12  # share of a group's channels at which it is left alone, as autoslim's slim.min_width
USED = 0.99  # share of the budget from which on it is not cut
SPARSITY = 5e-4  # L1 penalty on batch-norm scales
GRADIENT_IMAGES = 512  # training images that a Taylor expansion takes its gradient over
REFRESH = 10  # times that it takes the gradient on the way to ratio 1
AT_ONCE = 500  # images in a batch where no gradient is needed

RELU: dict[str, Callable[[Any], Any]] = {"relu": functional.relu, "relu6": functional.relu6}


# -- network -----------------------------------------------------------------------------------------------


class Net(nn.Module):
    """A network that torch_pruning_handover.py described: nodes that read and write numbered values.

    Args:
        description: see `torch_pruning_handover.describe`.
        weights: likewise.
    """

    def __init__(self, description: dict[str, Any], weights: dict[str, Any]) -> None:
        super().__init__()
        self.nodes, self.first, self.last = description["nodes"], description["input"], description["output"]
        self.layers = nn.ModuleDict()
        for node in self.nodes:
            if node["kind"] in LAYERS:
                own = [
                    torch.from_numpy(np.array(weights[f"{node['name']}/{k}"])) for k in _places(node, weights)
                ]
                self.layers[node["name"]] = LAYERS[node["kind"]](node, own)

    @property
    def classifier(self) -> nn.Module:
        """The layer that gives the logits."""
        return self.layers[self.nodes[-1]["name"]]

    def forward(self, images: Any) -> Any:
        """Logits [B, classes] of normalised images [B, channels, height, width]."""
        values, layers = {self.first: images}, dict(self.layers.items())
        for node in self.nodes:
            layer = layers.get(node["name"])
            x = CALLS[node["kind"]](node, layer, *(values[i] for i in node["inputs"]), training=self.training)
            relu = node.get("relu")
            values[node["output"]] = RELU[relu](x) if relu else x
        return values[self.last]


def _places(node: dict[str, Any], weights: dict[str, Any]) -> list[int]:
    """Numbers of the arrays of a node."""
    return [k for k in range(4) if f"{node['name']}/{k}" in weights]


def _conv(node: dict[str, Any], weights: Sequence[Any]) -> nn.Module:
    kernel, *bias = weights
    left, right, top, bottom = node["padding"]
    even = left == right and top == bottom
    layer = nn.Conv2d(
        kernel.shape[1] * node["groups"],
        kernel.shape[0],
        tuple(kernel.shape[2:]),
        tuple(node["stride"]),
        (top, left) if even else 0,
        tuple(node["dilation"]),
        node["groups"],
        bias=bool(bias),
    )
    return _filled(layer, weights)


def _dense(node: dict[str, Any], weights: Sequence[Any]) -> nn.Module:
    outputs, inputs = weights[0].shape
    return _filled(nn.Linear(inputs, outputs, bias=len(weights) > 1), weights)


def _norm(node: dict[str, Any], weights: Sequence[Any]) -> nn.Module:
    layer = nn.BatchNorm2d(len(weights[0]), node["epsilon"], node["momentum"])
    assert layer.running_mean is not None and layer.running_var is not None
    layer.running_mean.copy_(weights[2])
    layer.running_var.copy_(weights[3])
    return _filled(layer, weights[:2])


def _filled(layer: nn.Module, weights: Sequence[Any]) -> nn.Module:
    with torch.no_grad():
        for parameter, weight in zip(layer.parameters(), weights, strict=True):
            parameter.copy_(weight)
    return layer


LAYERS: dict[str, Callable[[dict[str, Any], Sequence[Any]], nn.Module]] = {
    "Conv2D": _conv,
    "DepthwiseConv2D": _conv,
    "Dense": _dense,
    "BatchNormalization": _norm,
}


def _call_conv(node: dict[str, Any], layer: Any, x: Any, training: bool) -> Any:
    left, right, top, bottom = padding = node["padding"]
    uneven = left != right or top != bottom  # as Keras pads where a stride meets an even size
    return layer(functional.pad(x, padding) if uneven else x)


def _call_layer(node: dict[str, Any], layer: Any, x: Any, training: bool) -> Any:
    return layer(x)


CALLS: dict[str, Callable[..., Any]] = {
    "Conv2D": _call_conv,
    "DepthwiseConv2D": _call_conv,
    "Dense": _call_layer,
    "BatchNormalization": _call_layer,
    "ReLU": lambda node, layer, x, training: x,
    "Activation": lambda node, layer, x, training: x,
    "MaxPooling2D": lambda node, layer, x, training: functional.max_pool2d(
        x, tuple(node["size"]), tuple(node["stride"])
    ),
    "GlobalAveragePooling2D": lambda node, layer, x, training: x.mean((2, 3)),
    "Flatten": lambda node, layer, x, training: torch.flatten(x, 1),
    "Add": lambda node, layer, *x, training: sum(x[1:], x[0]),
    "Dropout": lambda node, layer, x, training: functional.dropout(x, node["rate"], training),
}


def cost(net: nn.Module, example: Any) -> dict[str, int]:
    """Multiply-accumulates of convolutions and dense layers for one image, and trainable parameters.

    Args:
        net: a network.
        example: one image [1, channels, height, width].
    """
    counted = 0

    def count(layer: Any, inputs: Any, output: Any) -> None:
        nonlocal counted
        places = output.shape[2] * output.shape[3] if output.dim() == 4 else 1
        counted += layer.weight.numel() * places

    hooks = [
        layer.register_forward_hook(count)
        for layer in net.modules()
        if isinstance(layer, (nn.Conv2d, nn.Linear))
    ]
    was = net.training
    net.eval()
    with torch.no_grad():
        net(example)
    net.train(was)
    for hook in hooks:
        hook.remove()
    return {"flops": counted, "params": sum(p.numel() for p in net.parameters() if p.requires_grad)}


# -- images ------------------------------------------------------------------------------------------------


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


# -- training ----------------------------------------------------------------------------------------------


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
    """Recompute batch-norm statistics as the mean over batches of training images that are not augmented."""
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
