"""Architectures: functions (input_shape, classes, **args) that return a plain Keras model with logits."""

from autoslim.archs.imagenet import mnasnet, mobilenet_v1, mobilenet_v2_imagenet, resnet50
from autoslim.archs.mobilenets import mobilenet_v2
from autoslim.archs.pretrained import keras_application, keras_file
from autoslim.archs.resnets import resnet, wide_resnet
from autoslim.archs.target import build
from autoslim.archs.vgg import vgg16

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
    "vgg16",
    "wide_resnet",
]
