"""What stages refuse before anything is trained, trainings that fail, and networks that do not fit."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from runs import TINY
from staged import folder, refused

from autoslim.config import compose
from autoslim.errors import AutoslimError
from autoslim.stages import Outcome, run_stages

REFUSED = [
    (
        {"slim__target": 0.1},
        "Cannot reach flops <= 0.1: with every group at its smallest level the network still costs 0.256 of "
        "the full one's flops. Lower slim.min_width or slim.divisor, or raise slim.target to 0.257 or more.",
    ),
    (
        {"slim__target": 0.005, "stages": "[baseline,uniform]"},
        "Cannot reach flops <= 0.005 uniformly: with the smallest multiple of slim.divisor=4 in every group "
        "the network still costs 0.139 of the full one's flops, or is above another limit. Raise slim.target "
        "or slim.limits, or lower slim.divisor.",
    ),
    (
        {"slim__freeze": '["*"]'},
        "No channel group can be slimmed: 0 of 8 groups are not frozen, and none has a second width at "
        "slim.min_width=0.5, slim.divisor=4. Freeze less, or lower slim.divisor.",
    ),
    (
        {"stages": "[baseline,search]"},
        "The search needs the result of stage supernet, and OUT/resnet8-digits/supernet-HASH has none: run "
        "it first, or together with this one: stages=[supernet,...].",
    ),
    (
        {"stages": "[baseline,supernet,retrain]"},
        "retrain (or give slim.channels=FILE) needs the result of stage search, and OUT/resnet8-digits/"
        "search-HASH has none: run it first, or together with this one: stages=[search,...].",
    ),
    (
        {"stages": "[baseline,uniform]"},
        "uniform with retrain.init=supernet (retrain.init=baseline or scratch does without) needs the "
        "result of stage supernet, and OUT/resnet8-digits/supernet-HASH has none: run it first, or together "
        "with this one: stages=[supernet,...].",
    ),
    (
        {"stages": "[supernet,uniform]", "retrain__teacher": "baseline"},
        "uniform with retrain.teacher=baseline (retrain.teacher=none does without) needs the result of stage "
        "baseline, and OUT/resnet8-digits/baseline-HASH has none: run it first, or together with this one: "
        "stages=[baseline,...].",
    ),
    (
        {"stages": "[report]"},
        "stages=[report] alone has nothing to report: name the stages whose results it should read too (they "
        "are reused where they are done), such as stages=[baseline,supernet,search,retrain,uniform,report].",
    ),
    (
        {"dataset__train_images": 10},
        "Cannot hold out images for the search: class 0 has one training image. Expected at least 2 of every "
        "class. Raise dataset.train_images, or use more data.",
    ),
    (
        {"dataset": "fashion_mnist", "dataset__path": "/nowhere"},
        "dataset.path=/nowhere does not exist: expected a folder with fashion_mnist.npz or the IDX files "
        "train-images-idx3-ubyte[.gz] and its three companions, or one .npz file. Correct dataset.path.",
    ),
]


@pytest.mark.parametrize(("settings", "message"), REFUSED)
def test_refused_before_anything_is_trained(
    tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    assert refused(tmp_path, **settings) == message
    assert list(tmp_path.iterdir()) == []


CHANNELS = [
    ("nosuch: 3\n", "slim.channels=FILE: No channel group is named 'nosuch'. Nearest: image, "),
    ("stem_conv: 9\n", "slim.channels=FILE: Width 9 of group 'stem_conv' is not possible: "),
    ("stem_conv: 0\n", "slim.channels=FILE: Width 0 of group 'stem_conv' is not possible: "),
    (
        "stem_conv: 3.5\n",
        "slim.channels=FILE: Width 3.5 of group 'stem_conv' is not a whole number of channels.",
    ),
    ("logits: 5\n", "slim.channels=FILE: Width 5 of group 'logits' is not possible: "),
    ("- stem_conv\n", "slim.channels=FILE holds list; expected lines 'group: width'."),
    ("", "slim.channels=FILE holds nothing; expected lines 'group: width'."),
    ("a: [\n", "slim.channels=FILE is not valid YAML: "),
    ("\udcff\udcfe", "slim.channels=FILE is not valid YAML: "),
    (
        None,
        "slim.channels=FILE can't be read: No such file or directory. A search leaves such files "
        "in its folder; autoslim comes with autoslim_",
    ),
]


@pytest.mark.parametrize(("text", "message"), CHANNELS)
def test_a_channels_file_that_does_not_fit(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "channels.yaml"
    if text is not None:
        path.write_text(text, errors="surrogateescape")
    said = refused(
        tmp_path / "out", slim__channels=path, stages="[baseline,retrain]", retrain__init="scratch"
    )
    assert said.replace(str(path), "FILE").startswith(message)
    assert not (tmp_path / "out").exists()


def test_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    settings = {"optimizer__learning_rate": 1e9, "baseline__epochs": 9, "stages": "[baseline]"}
    said = refused(tmp_path, **settings)
    assert re.match(r"train/loss became NaN or infinite at step \d+ of 27\. ", said)
    assert said.endswith("Lower optimizer.learning_rate, or set optimizer.clipnorm.")
    assert not (folder(tmp_path, "baseline") / "result.json").exists()


NETS = """
from keras import Input, Model, layers

def net(input_shape, classes, width=8):
    x = Input(input_shape)
    y = layers.Conv2D(width, 3, name="conv")(x)
    y = layers.BatchNormalization(name="norm")(y)
    y = layers.Flatten()(layers.ReLU()(y))
    return Model(x, layers.Dense(classes, name="logits")(y))

def raises(input_shape, classes):
    raise RuntimeError("no such thing")

def leaves(input_shape, classes):
    raise SystemExit(3)

class Subclassed(Model):
    pass

def subclassed(input_shape, classes):
    return Subclassed()

def linear(input_shape, classes):
    x = Input(input_shape)
    return Model(x, layers.Dense(classes)(layers.Flatten()(x)))
"""

OWN = [
    ("raises", "stage_nets.raises failed with RuntimeError: no such thing\n"),
    ("leaves", "stage_nets.leaves failed with SystemExit: 3\n"),
    ("subclassed", "stage_nets.subclassed returned a Subclassed: expected a Keras functional model."),
    ("linear", "No channel group can be slimmed: 0 of 2 groups are not frozen, and none has a second width"),
    ("nosuch", "arch._target_=stage_nets.nosuch: stage_nets has no nosuch."),
]


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module of one's own."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    path = tmp_path / "stage_nets.py"
    path.write_text(NETS)
    yield path
    sys.modules.pop("stage_nets", None)


def own(output: Path, name: str, **settings: object) -> Outcome:
    """Stages on a network of one's own."""
    tiny = {key: value for key, value in TINY.items() if not key.startswith("arch")}
    given = {"arch": "custom", "arch._target_": f"stage_nets.{name}", "output": output, **settings}
    return run_stages(compose({**tiny, **given}))


@pytest.mark.parametrize(("name", "message"), OWN)
def test_a_network_that_does_not_fit(nets: Path, tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(AutoslimError) as caught:
        own(tmp_path / "out", name)
    assert str(caught.value).startswith(message)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_network_that_was_edited_has_a_folder_of_its_own(nets: Path, tmp_path: Path) -> None:
    first = own(tmp_path / "out", "net", stages="[baseline]").folders["baseline"]
    assert own(tmp_path / "out", "net", stages="[baseline]").folders["baseline"] == first
    nets.write_text(NETS.replace("layers.ReLU()", "layers.Activation('tanh')"))
    sys.modules.pop("stage_nets")
    assert own(tmp_path / "out", "net", stages="[baseline]").folders["baseline"] != first
