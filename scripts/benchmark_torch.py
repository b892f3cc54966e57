"""The PyTorch side of benchmark_training.py: times steps of the same networks, asked over standard input.

It is started by that script with an interpreter that has PyTorch (--torch-python), and imports nothing of
autoslim. A request is one line of JSON (see `Side.answer`), and so is the answer. Convolutions pad alike on
all sides, which Keras's "same" does not where a stride meets an even size; the arithmetic is the same.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

try:
    import torch
    from torch import nn
    from torch.nn import functional
except ImportError as error:
    print(json.dumps({"error": f"{sys.executable} has no PyTorch ({error})"}), flush=True)
    sys.exit(1)

Widths = dict[str, int]  # convolution -> output channels; those left out have all of theirs


class Conv(nn.Module):
    """Convolution and, by default, batch norm of the channels that are active."""

    def __init__(
        self, name: str, inputs: int, outputs: int, kernel: int, stride: int = 1, **more: Any
    ) -> None:
        super().__init__()
        self.name, self.stride, self.padding = name, stride, kernel // 2
        self.depthwise, norm = more.get("depthwise", False), more.get("norm", True)
        self.weight = nn.Parameter(torch.empty(outputs, 1 if self.depthwise else inputs, kernel, kernel))
        nn.init.kaiming_normal_(self.weight)
        self.norm = Norm(outputs) if norm else None

    def forward(self, x: Any, widths: Widths | None) -> Any:
        inputs, weight = x.shape[1], self.weight
        outputs = inputs if self.depthwise else (widths or {}).get(self.name, weight.shape[0])
        if outputs < weight.shape[0]:
            weight = weight[:outputs]
        if not self.depthwise and inputs < weight.shape[1]:
            weight = weight[:, :inputs]
        groups = inputs if self.depthwise else 1
        y = functional.conv2d(x, weight, None, self.stride, self.padding, 1, groups)
        return self.norm(y, widths) if self.norm else y


class Norm(nn.Module):
    """Batch norm by the batch's own statistics; the moving ones follow in a plain step only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))

    def forward(self, x: Any, widths: Widths | None) -> Any:
        if widths is None:
            return functional.batch_norm(x, self.mean, self.variance, self.gamma, self.beta, True, 0.1, 1e-5)
        gamma, beta, active = self.gamma, self.beta, x.shape[1]
        if active < gamma.shape[0]:
            gamma, beta = gamma[:active], beta[:active]
        return functional.batch_norm(x, None, None, gamma, beta, True, 0.0, 1e-5)


class Head(nn.Module):
    """Global average pooling and the dense layer."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, classes)

    def forward(self, x: Any) -> Any:
        x = x.mean((2, 3))
        weight = self.dense.weight
        weight = weight[:, : x.shape[1]] if x.shape[1] < weight.shape[1] else weight
        return functional.linear(x, weight, self.dense.bias)


class ResNet(nn.Module):
    """As `autoslim.archs.resnet`."""

    def __init__(self, channels: int, classes: int, depth: int = 20, width: int = 16) -> None:
        super().__init__()
        self.stem = Conv("stem_conv", channels, width, 3)
        self.blocks = nn.ModuleList()
        inputs = width
        for stage in range(3):
            for block in range((depth - 2) // 6):
                filters, name = width * 2**stage, f"stage{stage + 1}_block{block + 1}"
                stride = 2 if stage and not block else 1
                self.blocks.append(BasicBlock(name, inputs, filters, stride))
                inputs = filters
        self.head = Head(inputs, classes)

    def forward(self, x: Any, widths: Widths | None = None) -> Any:
        x = functional.relu(self.stem(x, widths))
        for block in self.blocks:
            x = block(x, widths)
        return self.head(x)


class BasicBlock(nn.Module):
    def __init__(self, name: str, inputs: int, filters: int, stride: int) -> None:
        super().__init__()
        changes = stride != 1 or inputs != filters
        self.shortcut = Conv(f"{name}_shortcut_conv", inputs, filters, 1, stride) if changes else None
        self.first = Conv(f"{name}_conv1", inputs, filters, 3, stride)
        self.second = Conv(f"{name}_conv2", filters, filters, 3)

    def forward(self, x: Any, widths: Widths | None) -> Any:
        shortcut = self.shortcut(x, widths) if self.shortcut else x
        x = self.second(functional.relu(self.first(x, widths)), widths)
        return functional.relu(x + shortcut)


class WideResNet(nn.Module):
    """As `autoslim.archs.wide_resnet`."""

    def __init__(self, channels: int, classes: int, depth: int = 40, widen: int = 4) -> None:
        super().__init__()
        self.stem = Conv("stem_conv", channels, 16, 3, norm=False)
        self.blocks = nn.ModuleList()
        inputs = 16
        for stage in range(3):
            for block in range((depth - 4) // 6):
                filters, name = 16 * widen * 2**stage, f"stage{stage + 1}_block{block + 1}"
                stride = 2 if stage and not block else 1
                self.blocks.append(PreActivationBlock(name, inputs, filters, stride))
                inputs = filters
        self.norm = Norm(inputs)
        self.head = Head(inputs, classes)

    def forward(self, x: Any, widths: Widths | None = None) -> Any:
        x = self.stem(x, widths)
        for block in self.blocks:
            x = block(x, widths)
        return self.head(functional.relu(self.norm(x, widths)))


class PreActivationBlock(nn.Module):
    def __init__(self, name: str, inputs: int, filters: int, stride: int) -> None:
        super().__init__()
        changes = stride != 1 or inputs != filters
        self.norm1, self.norm2 = Norm(inputs), Norm(filters)
        self.shortcut = (
            Conv(f"{name}_shortcut_conv", inputs, filters, 1, stride, norm=False) if changes else None
        )
        self.first = Conv(f"{name}_conv1", inputs, filters, 3, stride, norm=False)
        self.second = Conv(f"{name}_conv2", filters, filters, 3, norm=False)

    def forward(self, x: Any, widths: Widths | None) -> Any:
        active = functional.relu(self.norm1(x, widths))
        shortcut = self.shortcut(active, widths) if self.shortcut else x
        y = functional.relu(self.norm2(self.first(active, widths), widths))
        return self.second(y, widths) + shortcut


class MobileNetV2(nn.Module):
    """As `autoslim.archs.mobilenet_v2` at width 1."""

    STAGES = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 1),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.stem = Conv("stem_conv", channels, 32, 3)
        self.blocks = nn.ModuleList()
        inputs = 32
        for stage, (expansion, filters, blocks, first) in enumerate(self.STAGES, 1):
            for block in range(1, blocks + 1):
                stride = first if block == 1 else 1
                self.blocks.append(
                    InvertedResidual(f"stage{stage}_block{block}", inputs, expansion, filters, stride)
                )
                inputs = filters
        self.last = Conv("head_conv", inputs, 1280, 1)
        self.head = Head(1280, classes)

    def forward(self, x: Any, widths: Widths | None = None) -> Any:
        x = functional.relu6(self.stem(x, widths))
        for block in self.blocks:
            x = block(x, widths)
        return self.head(functional.relu6(self.last(x, widths)))


class InvertedResidual(nn.Module):
    def __init__(self, name: str, inputs: int, expansion: int, filters: int, stride: int) -> None:
        super().__init__()
        inner = expansion * inputs
        self.adds = stride == 1 and inputs == filters
        self.expand = Conv(f"{name}_expand_conv", inputs, inner, 1)
        self.depthwise = Conv(f"{name}_depthwise_conv", inner, inner, 3, stride, depthwise=True)
        self.project = Conv(f"{name}_project_conv", inner, filters, 1)

    def forward(self, x: Any, widths: Widths | None) -> Any:
        y = functional.relu6(self.expand(x, widths))
        y = self.project(functional.relu6(self.depthwise(y, widths)), widths)
        return y + x if self.adds else y


NETWORKS = {"resnet": ResNet, "wide_resnet": WideResNet, "mobilenet_v2": MobileNetV2}


class Trainer:
    """A network with its optimizer and one batch in a memory format."""

    def __init__(self, request: dict[str, Any]) -> None:
        torch.manual_seed(0)
        (height, width, channels), classes = request["shape"], request["classes"]
        form = torch.channels_last if "channels_last" in request["form"] else torch.contiguous_format
        net = NETWORKS[request["network"]](channels, classes, **request["arguments"])
        self.net = net.to(memory_format=form)
        self.parameters = sum(p.numel() for p in self.net.parameters())
        self.images = torch.randn(request["batch"], channels, height, width).to(memory_format=form)
        self.labels = torch.randint(classes, (request["batch"],))
        self.sgd = torch.optim.SGD(self.net.parameters(), 0.01, momentum=0.9, nesterov=True)
        self.call: Any = self.net
        if "compiled" in request["form"]:
            self.call = torch.compile(self.net, dynamic=request["arms"] is not None)

    def plain(self) -> None:
        """One step at full width."""
        self.sgd.zero_grad(set_to_none=True)
        functional.cross_entropy(self.call(self.images), self.labels).backward()
        self.sgd.step()

    def sandwich(self, arms: list[Widths]) -> None:
        """One step of the sandwich rule: the first arm is the full network, and teaches the others."""
        self.sgd.zero_grad(set_to_none=True)
        logits = self.call(self.images, arms[0])
        functional.cross_entropy(logits, self.labels).backward()
        soft = logits.detach().softmax(1)
        for widths in arms[1:]:
            functional.cross_entropy(self.call(self.images, widths), soft).backward()
        self.sgd.step()


class Side:
    """Networks that were asked for, by what they were asked with."""

    def __init__(self) -> None:
        self._trainers: dict[str, Trainer] = {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Time steps.

        Args:
            request: {"network", "arguments", "shape" [H, W, C], "classes", "batch", "form": nchw,
                channels_last or channels_last_compiled, "arms": for each step the widths of its arms, or null
                for plain steps, "steps": number of plain ones}.

        Returns:
            {"seconds": of each step, "parameters": of the network}.
        """
        arms = request["arms"]
        key = json.dumps([request[k] for k in ("network", "arguments", "batch", "form")] + [arms is None])
        if key not in self._trainers:
            self._trainers[key] = Trainer(request)
        trainer = self._trainers[key]
        seconds = []
        for step in range(request["steps"] if arms is None else len(arms)):
            start = time.perf_counter()
            if arms is None:
                trainer.plain()
            else:
                trainer.sandwich(arms[step])
            seconds.append(time.perf_counter() - start)
        return {"seconds": seconds, "parameters": trainer.parameters}


def main() -> None:
    torch.set_num_threads(os.cpu_count() or 1)
    print(json.dumps({"version": torch.__version__}), flush=True)
    side = Side()
    for line in sys.stdin:
        try:
            answer = side.answer(json.loads(line))
        except Exception as error:  # reported to the other side, which goes on without this figure
            answer = {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
