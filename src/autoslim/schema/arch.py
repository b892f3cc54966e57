"""The networks."""

import math
from dataclasses import dataclass, fields
from typing import Any

from omegaconf import MISSING

from autoslim.schema.checks import key, need


@dataclass
class ArchConfig:
    """A network: a function ``(input_shape, classes, **arguments) -> keras.Model`` and what it is called."""

    _target_: str = key(MISSING, "dotted path of a function (input_shape, classes, **args) -> keras.Model")
    name: str = key(MISSING, "name of the network in folder names and tables")

    def __post_init__(self) -> None:
        bad = not self.name or any(mark in self.name for mark in "/\\ \n\0") or self.name.startswith(".")
        need(not bad, "arch.name", repr(self.name), "it names folders, so no slash, blank or leading dot")

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of the function: every field of the subclass."""
        own = {f.name for f in fields(ArchConfig)}
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in own}


@dataclass
class ResNet(ArchConfig):
    """Residual network for small images (He et al. 2016, section 4.2)."""

    depth: int = key(20, "layers: 6n + 2 for n basic blocks a stage")
    width: int = key(16, "channels of the first stage; 2 and 4 times that in the others")

    def __post_init__(self) -> None:
        super().__post_init__()
        fits = self.depth >= 8 and (self.depth - 2) % 6 == 0
        need(fits, "arch.depth", self.depth, "a residual network has 6n + 2 layers: 8, 14, 20, ... 56")
        need(self.width >= 1, "arch.width", self.width, "channels of the first stage, at least 1")


@dataclass
class WideResNet(ArchConfig):
    """Wide residual network, pre-activation (Zagoruyko & Komodakis 2016)."""

    depth: int = key(40, "layers: 6n + 4 for n basic blocks a stage")
    widen: int = key(4, "widening factor: 16, 32 and 64 channels times this")

    def __post_init__(self) -> None:
        super().__post_init__()
        fits = self.depth >= 10 and (self.depth - 4) % 6 == 0
        need(fits, "arch.depth", self.depth, "a wide residual network has 6n + 4 layers: 10, 16, 22, ... 40")
        need(self.widen >= 1, "arch.widen", self.widen, "the widening factor is at least 1")


@dataclass
class MobileNetV2(ArchConfig):
    """Inverted residuals for small images (Sandler et al. 2018)."""

    width: float = key(1.0, "multiplier of every layer's channels")

    def __post_init__(self) -> None:
        super().__post_init__()
        need(0 < self.width < math.inf, "arch.width", self.width, "the multiplier of the channels is above 0")


@dataclass
class ImageNetArch(ArchConfig):
    """A network for large images: MobileNet, MobileNetV2, MNasNet, ResNet-50."""

    width: float = key(1.0, "multiplier of every layer's channels")
    channels: list[int] | None = key(
        None, "outputs of every convolution in the order of the network, in place of width; null: by width"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        need(0 < self.width < math.inf, "arch.width", self.width, "the multiplier of the channels is above 0")


@dataclass
class KerasApplication(ArchConfig):
    """A classifier of keras.applications; arch.name is its name there."""

    weights: str | None = key(
        None, "first weights: imagenet (Keras downloads them), or a weights file; null: fresh"
    )

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of the function."""
        return {"name": self.name, "weights": self.weights}


@dataclass
class KerasFile(ArchConfig):
    """A model of the user's in a .keras file, with its weights."""

    path: str = key(MISSING, "path of a .keras file")


@dataclass
class CustomArch(ArchConfig):
    """Any other function, with any arguments."""

    args: dict[str, Any] = key({}, "keyword arguments of the function")

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of the function: those that are given."""
        return dict(self.args)
