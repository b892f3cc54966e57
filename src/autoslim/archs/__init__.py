"""Architectures: functions (input_shape, classes, **args) that return a plain Keras model with logits."""

from autoslim.archs.imagenet import mnasnet, mobilenet_v1, mobilenet_v2_imagenet, resnet50
from autoslim.archs.mobilenets import mobilenet_v2
from autoslim.archs.pretrained import keras_application, keras_file
from autoslim.archs.resnets import resnet, wide_resnet
from autoslim.archs.target import build

__all__ = [
    "build",
    "keras_application",
    "keras_file",
    "mnasnet",
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v2_imagenet",
    "resnet",
    "resnet50",
    "wide_resnet",
]
