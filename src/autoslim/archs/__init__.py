"""Architectures: functions (input_shape, classes, **args) that return a plain Keras model with logits."""

from autoslim.archs.mobilenets import mobilenet_v2
from autoslim.archs.resnets import resnet, wide_resnet
from autoslim.archs.target import build

__all__ = ["build", "mobilenet_v2", "resnet", "wide_resnet"]
