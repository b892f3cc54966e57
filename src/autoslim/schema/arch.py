"""The networks."""

import re
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from omegaconf import MISSING

from autoslim.schema.checks import Options, key

DEEPEST, WIDEST = 2000, 4096
"""Layers, and channels of the first stage: beyond these a network is built for hours, and fits no memory."""


@dataclass
class ArchConfig(Options):
    """A network: a function ``(input_shape, classes, **arguments) -> keras.Model`` and what it is called."""

    section: ClassVar[str] = "arch"

    _target_: str = key(MISSING, "dotted path of a function (input_shape, classes, **args) -> keras.Model")
    name: str = key(
        MISSING,
        "name of the network in folder names and tables",
        holds=lambda name: re.fullmatch(r"[^./\\ \n\0][^/\\ \n\0]{0,99}", name),
        expected="it names folders: up to 100 characters, no slash, blank or leading dot",
    )
    trained: bool | None = key(
        None,
        "whether its weights are trained for these images: then they are evaluated and compared with, and "
        "fine-tuned; null: yes for those of a .keras file, of arch.weights, and of a function that returns "
        "the same ones for every seed",
    )

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of the function: every field of the subclass."""
        own = {f.name for f in fields(ArchConfig)}
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in own}


@dataclass
class ResNet(ArchConfig):
    """Residual network for small images (He et al. 2016, section 4.2)."""

    depth: int = key(
        20,
        "layers: 6n + 2 for n basic blocks a stage",
        holds=lambda depth: 8 <= depth <= DEEPEST and (depth - 2) % 6 == 0,
        expected=f"a residual network has 6n + 2 layers: 8, 14, 20, ... 56, at most {DEEPEST}",
    )
    width: int = key(
        16, "channels of the first stage; 2 and 4 times that in the others", least=1, most=WIDEST
    )


@dataclass
class WideResNet(ArchConfig):
    """Wide residual network, pre-activation (Zagoruyko & Komodakis 2016)."""

    depth: int = key(
        40,
        "layers: 6n + 4 for n basic blocks a stage",
        holds=lambda depth: 10 <= depth <= DEEPEST and (depth - 4) % 6 == 0,
        expected=f"a wide residual network has 6n + 4 layers: 10, 16, 22, ... 40, at most {DEEPEST}",
    )
    widen: int = key(4, "widening factor: 16, 32 and 64 channels times this", least=1, most=WIDEST // 16)


@dataclass
class MobileNetV2(ArchConfig):
    """Inverted residuals for small images (Sandler et al. 2018)."""

    width: float = key(1.0, "multiplier of every layer's channels", above=0, most=64)


@dataclass
class ImageNetArch(ArchConfig):
    """A network of a list of channels: MobileNet, MobileNetV2, MNasNet, ResNet-50, VGG-16."""

    width: float = key(1.0, "multiplier of every layer's channels", above=0, most=64)
    channels: list[int] | None = key(
        None, "outputs of every convolution in the order of the network, in place of width; null: by width"
    )


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
