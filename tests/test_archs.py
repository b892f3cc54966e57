"""Architectures: published counts by a count of our own, shapes, arguments, and what `build` refuses."""

import math
import re
import sys
import types
from pathlib import Path

import keras
import numpy as np
import pytest
import yaml

from autoslim.archs import build, memory, mobilenet_v2, resnet, vgg16, wide_resnet
from autoslim.archs.memory import refuse_too_wide
from autoslim.errors import AutoslimError

GOLDEN = yaml.safe_load((Path(__file__).parent / "golden" / "cifar10_reference.yaml").read_text())[
    "architectures"
]
SMALL_AND_LARGE = {
    "resnet20": lambda shape, classes: resnet(shape, classes),
    "resnet56": lambda shape, classes: resnet(shape, classes, depth=56),
    "wresnet16_1": lambda shape, classes: wide_resnet(shape, classes, depth=16, widen=1),
    "wresnet40_4": lambda shape, classes: wide_resnet(shape, classes),
    "mobilenet_v2": lambda shape, classes: mobilenet_v2(shape, classes),
    "vgg16": lambda shape, classes: vgg16(shape, classes),
}


def count(model):
    """Both conventions of the golden file, from the shapes of kernels and outputs alone."""
    macs = flops = params = reference_params = 0
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            _, height, width, channels = layer.output.shape
            flops += 4 * channels * height * width
            params += 2 * channels
            reference_params += 4 * channels
        elif isinstance(layer, keras.layers.DepthwiseConv2D | keras.layers.Conv2D):
            assert not layer.use_bias
            kernel = math.prod(layer.kernel.shape)
            _, height, width, _ = layer.output.shape
            macs += kernel * height * width
            params += kernel
            reference_params += kernel
        elif isinstance(layer, keras.layers.Dense):
            inputs, outputs = layer.kernel.shape
            macs += inputs * outputs
            params += inputs * outputs + outputs
            reference_params += inputs * outputs + outputs
        else:
            assert not layer.weights
    return {"macs": macs, "params": params, "reference": {"flops": macs + flops, "params": reference_params}}


def refused(message, call, *args, **kwargs):
    with pytest.raises(AutoslimError) as error:
        call(*args, **kwargs)
    assert str(error.value) == message


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_counts_are_those_of_the_golden_file(name):
    expected = {key: GOLDEN[name][key] for key in ("macs", "params", "reference")}
    assert count(SMALL_AND_LARGE[name]((32, 32, 3), 10)) == expected


def test_vgg16_is_the_one_of_pruning_papers() -> None:
    """Li et al. 2017, table 1: 3.13e8 FLOPs and 1.5e7 parameters on CIFAR-10."""
    counted = count(vgg16((32, 32, 3), 10))
    assert (f"{counted['macs']:.2e}", f"{counted['params']:.1e}") == ("3.13e+08", "1.5e+07")
    filters = list(range(4, 17))
    small = vgg16((8, 8, 1), 10, channels=filters)
    assert [layer.filters for layer in small.layers if layer.name.endswith("_conv")] == filters


@pytest.mark.parametrize("name", sorted(SMALL_AND_LARGE))
def test_plain_functional_model_with_readable_names_on_small_images(name):
    model = SMALL_AND_LARGE[name]((8, 8, 1), 10)
    assert model.output_shape == (None, 10)
    assert model.name == name
    assert model.layers[0].name == "image" and model.layers[-1].name == "logits"
    assert model.layers[-1].activation is keras.activations.linear
    assert all(type(layer).__module__.startswith("keras.") for layer in model.layers)
    pattern = r"image|pool|logits|(stem|head|final|stage\d_block\d+)_[a-z_]+\d?"
    assert [layer.name for layer in model.layers if not re.fullmatch(pattern, layer.name)] == []


@pytest.mark.parametrize("name", sorted(SMALL_AND_LARGE))
def test_signal_neither_dies_nor_explodes_at_initialisation(name):
    keras.utils.set_random_seed(0)
    images = np.random.default_rng(0).standard_normal((16, 8, 8, 1), dtype=np.float32)
    logits = np.asarray(SMALL_AND_LARGE[name]((8, 8, 1), 10)(images, training=True))
    assert np.isfinite(logits).all()
    assert 0.01 < logits.std() < 100


def test_names_say_stage_block_and_position():
    names = {layer.name for layer in resnet((8, 8, 1), 10, depth=8).layers}
    assert {"stem_conv", "stage1_block1_conv1", "stage1_block1_bn1", "stage2_block1_shortcut_conv"} <= names
    assert "stage1_block1_shortcut_conv" not in names


@pytest.mark.parametrize("depth", [8, 14, 32])
def test_resnet_depth_is_its_weighted_layers(depth):
    model = resnet((8, 8, 1), 10, depth=depth, width=4)
    weighted = [x for x in model.layers if isinstance(x, keras.layers.Conv2D | keras.layers.Dense)]
    assert len([x for x in weighted if "shortcut" not in x.name]) == depth
    assert model.get_layer("pool").output.shape == (None, 16)


@pytest.mark.parametrize(("depth", "widen"), [(10, 2), (22, 3)])
def test_wide_resnet_depth_is_its_convolutions(depth, widen):
    model = wide_resnet((8, 8, 1), 10, depth=depth, widen=widen)
    assert len([x for x in model.layers if isinstance(x, keras.layers.Conv2D)]) == depth
    assert model.get_layer("pool").output.shape == (None, 64 * widen)


@pytest.mark.parametrize(
    ("width", "stem", "first", "third", "head"),
    [(0.1, 8, 8, 8, 1280), (0.5, 16, 8, 16, 1280), (1.4, 48, 24, 48, 1792)],
)
def test_mobilenet_width_rounds_to_multiples_of_eight(width, stem, first, third, head):
    model = mobilenet_v2((8, 8, 1), 10, width=width)
    names = ("stem_conv", "stage1_block1_project_conv", "stage3_block1_project_conv", "head_conv")
    assert [model.get_layer(name).filters for name in names] == [stem, first, third, head]


def test_wrong_depth_and_width():
    refused(
        "depth=22 is not a depth of a ResNet: expected 6 * n + 2 for 3 stages of n blocks (8, 14, 20, 26, "
        "...). Use depth=20 or depth=26.",
        resnet, (8, 8, 1), 10, depth=22,
    )  # fmt: skip
    refused(
        "depth=2 is not a depth of a ResNet: expected 6 * n + 2 for 3 stages of n blocks (8, 14, 20, 26, "
        "...). Use depth=8.",
        resnet, (8, 8, 1), 10, depth=2,
    )  # fmt: skip
    refused(
        "depth=20 is not a depth of a wide ResNet: expected 6 * n + 4 for 3 stages of n blocks (10, 16, 22, "
        "28, ...). Use depth=16 or depth=22.",
        wide_resnet, (8, 8, 1), 10, depth=20,
    )  # fmt: skip
    refused(
        "width=0 is not a number of channels: expected a whole number of at least 1.",
        resnet,
        (8, 8, 1),
        10,
        width=0,
    )
    refused(
        "widen=-1 is not a factor for the channels: expected a whole number of at least 1.",
        wide_resnet, (8, 8, 1), 10, widen=-1,
    )  # fmt: skip
    refused(
        "width=0.0 is not a factor for the channels: expected a number above 0, such as 0.5.",
        mobilenet_v2, (8, 8, 1), 10, width=0.0,
    )  # fmt: skip


def test_a_network_beyond_memory_is_refused_before_it_is_built(monkeypatch):
    asked = ("autoslim.archs.resnet", (8, 8, 3), 10, True, {"depth": 8, "width": 200})
    needed = 12 * resnet((8, 8, 3), 10, depth=8, width=200).count_params()
    monkeypatch.setattr(memory, "memory_bytes", lambda: 1.001 * needed)
    refuse_too_wide(*asked)
    monkeypatch.setattr(memory, "memory_bytes", lambda: 0.999 * needed)
    with pytest.raises(AutoslimError, match=r"^arch.width=200: the network would have about 0\.0\d+ billion"):
        refuse_too_wide(*asked)


def test_wrong_image_shape_and_classes():
    refused(
        "input_shape=(8, 8) is not the shape of an image: expected (height, width, channels), three whole "
        "numbers of at least 1. A grey image has 1 channel: (28, 28, 1).",
        resnet, (8, 8), 10,
    )  # fmt: skip
    refused(
        "classes=0 is not a number of classes: expected a whole number of at least 1.", resnet, (8, 8, 1), 0
    )


@pytest.fixture
def nets(monkeypatch):
    """A user's module `nets`, whose functions each test sets."""
    module = types.ModuleType("nets")
    monkeypatch.setitem(sys.modules, "nets", module)
    return module


def small_net(shape, classes, activation=None):
    image = keras.Input(shape)
    return keras.Model(
        image, keras.layers.Dense(classes, activation, name="out")(keras.layers.Flatten()(image))
    )


def test_build_calls_ours_a_users_function_and_keras_applications(nets):
    nets.net = small_net
    assert build("autoslim.archs.resnet", [8, 8, 1], 10, depth=8).name == "resnet8"
    assert build("nets.net", (8, 8, 1), 3).output_shape == (None, 3)
    target = "keras.applications.MobileNetV2"
    assert build(
        target, (32, 32, 3), 5, weights=None, classifier_activation=None, alpha=0.35
    ).output_shape == (None, 5)


def test_build_refuses_a_path_that_leads_nowhere(nets):
    refused(
        "arch._target_=net is not a dotted path: expected module and function, such as my.module.net.",
        build, "net", (8, 8, 1), 10,
    )  # fmt: skip
    refused(
        "arch._target_=no_such.net: cannot import no_such (ModuleNotFoundError: No module named 'no_such'). "
        "Expected the dotted path of a function. Check its spelling, and that the folder that holds it is "
        "in PYTHONPATH.",
        build, "no_such.net", (8, 8, 1), 10,
    )  # fmt: skip
    nets.net, nets.size = small_net, 3
    refused(
        "arch._target_=nets.nett: nets has no nett. Expected a function that returns a Keras functional "
        "model. Functions there: net.",
        build, "nets.nett", (8, 8, 1), 10,
    )  # fmt: skip
    refused(
        "arch._target_=nets.size: nets holds a int, not a function, as size. Expected a function that "
        "returns a Keras functional model. Functions there: net.",
        build, "nets.size", (8, 8, 1), 10,
    )  # fmt: skip


def test_build_refuses_wrong_arguments():
    refused(
        "autoslim.archs.resnet cannot be called as (input_shape=(8, 8, 1), classes=10, depths=8): got an "
        "unexpected keyword argument 'depths'. It accepts input_shape, classes, depth, width. Correct the "
        "keys of arch to these names.",
        build, "autoslim.archs.resnet", (8, 8, 1), 10, depths=8,
    )  # fmt: skip
    refused(
        "autoslim.archs.resnet: width=0 is not a number of channels: expected a whole number of at least 1.",
        build, "autoslim.archs.resnet", (8, 8, 1), 10, width=0,
    )  # fmt: skip


@pytest.mark.parametrize("begin", [[], [keras.Input((8, 8, 1))]], ids=["not built", "built"])
def test_build_takes_sequential_models_and_any_end(nets, begin):
    end = [keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax", name="out")]
    nets.sequential = lambda shape, classes: keras.Sequential([*begin, *end])
    model = build("nets.sequential", (8, 8, 1), 10)
    assert isinstance(model, keras.Function) and model.output_shape == (None, 10)
    assert model.get_layer("out") is end[-1]


def test_build_tells_of_a_function_that_fails(nets):
    def net(input_shape, classes):
        raise KeyError("gamma")

    nets.net = net
    refused(
        "nets.net failed with KeyError: 'gamma'\nIt was called as (input_shape=(8, 8, 1), classes=10) and "
        "should return a Keras functional model. Call it so in Python to see where it fails.",
        build, "nets.net", (8, 8, 1), 10,
    )  # fmt: skip


def test_build_refuses_what_is_no_functional_classifier_with_logits(nets):
    nets.sequential = lambda shape, classes: keras.Sequential([keras.Input(shape), keras.layers.Flatten()])
    refused(
        "nets.sequential returned a model from [(None, 8, 8, 1)] to [(None, 64)]: expected one input (None, "
        "8, 8, 1) and one output (None, 10). Build it from input_shape and classes as given.",
        build, "nets.sequential", (8, 8, 1), 10,
    )  # fmt: skip
    nets.narrow = lambda shape, classes: small_net(shape, 3)
    refused(
        "nets.narrow returned a model from [(None, 8, 8, 1)] to [(None, 3)]: expected one input (None, 8, "
        "8, 1) and one output (None, 10). Build it from input_shape and classes as given.",
        build, "nets.narrow", (8, 8, 1), 10,
    )  # fmt: skip
