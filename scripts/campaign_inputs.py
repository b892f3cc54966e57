"""Commands that must end by themselves: overrides and files that are wrong, and what the environment adds."""

from __future__ import annotations

import dataclasses
import shlex
import typing
from collections.abc import Iterator
from typing import Any, NamedTuple

from autoslim.schema import Config


class Input(NamedTuple):
    """A command, and under which circumstances it is given."""

    arguments: list[str]  # of ``python -m autoslim``
    taken: bool = False  # whether it may be taken after all; else it must be refused
    unprivileged: bool = False  # whether by a user that owns nothing
    environment: dict[str, str] = {}  # what is added to it


LOOK = "stages=[describe]"  # nothing is trained where an input is taken after all
SMALL = ["arch=custom", "arch._target_=campaign_runs.network", "arch.name=tiny", "baseline.epochs=1"]

_HUGE = ("9223372036854775808", "-99999999999999999999999", "1" + 30 * "0", "18446744073709551616")
_WRONG: dict[Any, tuple[str, ...]] = {
    int: ("abc", "0.5", "[1]", "{a: 1}", "''", "1e400", "nan", "true", "1e3", "0x"),
    float: ("abc", "nan", "1e400", "[0.1]", "{a: 1}", "''", "-1e400", "true"),
    bool: ("abc", "[true]", "{a: 1}", "''", "2", "0.5"),
    str: ("[a]", "{a: 1}"),
    list: ("abc", "{a: 1}", "7", "''"),
    dict: ("abc", "[1]", "7"),
}
_HOSTILE = ("'" + 300 * "x" + "'", '"a b\\\\c"', '"../../x"', '"[bold]x[/bold]"', '"\\\\x00y"', '"übel"')
"""Texts that are as good as any, and are seldom tried."""

_SINGLE = r"""
slim.tagret=0.5
recipe=economy
+recipe=nosuch
describe
experiment=foo
optimizer.lr=0.1
'slim.limits={watts: 3}'
'slim.limits={flops: -1}'
'slim.limits={flops: nan}'
'slim.target=[]'
'slim.target=[0.5,0.5,2]'
slim.target=1.5
slim.target=0
slim.target=-0.1
slim.target=nan
slim.target=abc
'slim.target={a: 1}'
'slim.target = 0.5'
=3
===
'stages=[nosuch]'
'stages=[]'
stages=search,retrain
output=
output=file
output=file/x
'output=a=(b'
'output='"'"'unclosed'
arch.name=.hidden
arch.name=a/b
arch=nosuch
arch=../x
arch=''
arch=[a]
arch=custom
arch=custom arch._target_=nosuch.net
arch=custom arch._target_=os.getcwd
arch=custom arch._target_=sys.exit
arch=custom arch._target_=broken_module.net
arch=custom arch._target_=leaving_module.net
arch=custom arch._target_=leaving_module
arch=keras_file arch.path=nosuch.keras
arch=keras_file arch.path=file
arch=keras_file arch.path=empty.keras
arch=keras_file arch.path=cut.keras
arch=keras_file arch.path=zip.keras
arch=keras_file arch.path=/
arch=keras_application arch.application=nosuch
dataset=nosuch
dataset=custom
dataset=custom dataset._target_=nosuch.load dataset.name=x
dataset=custom dataset._target_=os.getcwd dataset.name=x
dataset=custom dataset._target_=leaving_module.net dataset.name=x
dataset=image_folder
dataset=image_folder dataset.path=nosuch 'dataset.shape=[8,8,3]'
dataset=image_folder dataset.path=file 'dataset.shape=[8,8,3]'
dataset=tfrecord dataset.path=nosuch 'dataset.shape=[8,8,3]'
dataset=cifar10 dataset.path=nosuch
dataset=cifar10 dataset.path=file
optimizer=nosuch
optimizer.name=nosuch
slimming=nosuch
retrain=nosuch
task=nosuch
'dataset.shape=[0,0,0]'
'dataset.shape=[1000000000,8,1]'
'dataset.shape=[8,8,99999999999999999999]'
slim.channels=nosuch.yaml
slim.channels=file
slim.channels=/
slim.channels=deep.yaml
slim.channels=huge.yaml
slim.channels=empty.yaml
slim.channels=missing.yaml
slim.channels=strange.yaml
slim.channels=list.yaml
slim.channels=binary.yaml
'slim.freeze=[nosuch]'
'slim.freeze={a: 1}'
slim.measure=nosuch.measure
slim.resource=nosuch
slim.search=nosuch
slim.score=nosuch
slim.runtime=nosuch
slim.convention=nosuch
train.strategy=nosuch
train.precision=nosuch
train.execution=nosuch
retrain.init=nosuch
retrain.teacher=nosuch
supernet.init=nosuch
arch.depth=21
arch.depth=-8
arch.width=0
arch.width=100000000
arch.width=99999999999999999999
arch.depth=800000000
dataset.holdout=-0.1
dataset.holdout=0.6
dataset.max_broken=1
optimizer.momentum=-1
slim.min_width=0
slim.min_width=-1e-300
slim.levels=0
slim.divisor=0
slim.images=0
train.batch_size=0
train.calibration_batches=0
supernet.arms=0
baseline.epochs=-1
dataset.classes=1
dataset.pad=-1
--multirun slim.target=0.5,abc
--multirun --cfg job
--nosuch
--config-name nosuch
--config-dir nosuch
--config-dir configs --config-name deep
--config-dir configs --config-name broken
--config-dir configs --config-name binary
--config-dir configs --config-name list
--config-dir file
hydra/launcher=nosuch
hydra.run.dir=file/x
'~slim'
'~nosuch'
+slim.target=0.5
++slim.nosuch=1
slim=3
'seed=${nosuch}'
'seed=${seed}'
'seed=${oc.env:NOSUCH}'
'seed=${autoslim_share:1}'
"""

_FOLDERS = ("loop", "names", "classes", "kinds", "empty", "nothing", "flat_one", "wrong_class")
_STAGES = ["stages=[baseline]", *SMALL, "dataset.shape=[8,8,3]"]
_FILES = [
    *([*_STAGES, "dataset=image_folder", f"dataset.path=folders/{name}"] for name in _FOLDERS),
    *(
        [*_STAGES, "dataset=tfrecord", f"dataset.path=records/{name}"]
        for name in ("noexample", "cut", "label")
    ),
    *([*_STAGES, "dataset=cifar10", f"dataset.path={name}"] for name in ("pickled.npz", "cut.npz", "short")),
    [*SMALL, "stages=[baseline]", "dataset.pad=1000000000"],
    [*SMALL, "stages=[supernet]", "supernet.arms=1000000"],
    [*SMALL, "stages=[supernet]", "supernet.arms=1" + 18 * "0"],
    [*SMALL, "stages=[baseline]", "optimizer.learning_rate=1e30", "baseline.epochs=2"],
    [LOOK, "arch=keras_file", "arch.path=nan.keras", "dataset.train_images=40"],
]
_UNREADABLE = [
    ["stages=[baseline]", *SMALL, "dataset=image_folder", "dataset.path=closed", "dataset.shape=[8,8,3]"],
    ["stages=[baseline]", *SMALL, "dataset=cifar10", "dataset.path=closed"],
    [LOOK, "arch=keras_file", "arch.path=closed.keras"],
    [LOOK, "slim.channels=closed.yaml"],
    [LOOK, "--config-dir", "closed"],
    [LOOK, "output=closed"],
    [LOOK, "output=closed/x"],
    [LOOK, "output=/proc/nowhere/x"],
]
_ENVIRONMENTS: tuple[tuple[dict[str, str], bool], ...] = (
    ({"KERAS_BACKEND": "jax"}, False),
    ({"KERAS_BACKEND": "nosuch"}, False),
    ({"MPLBACKEND": "module://nosuch"}, True),
    ({"PYTHONIOENCODING": "ascii"}, True),
    ({"COLUMNS": "1"}, True),
    ({"COLUMNS": "nosuch"}, True),
    ({"TF_CONFIG": "{"}, True),
    ({"TF_CONFIG": '{"cluster": {"worker": []}}'}, True),
    ({"HOME": "/proc/nowhere"}, True),
    ({"TMPDIR": "/proc/nowhere"}, True),
)


def _keys(kind: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of the default configuration, with the type of its value."""
    hints = typing.get_type_hints(kind)
    for item in dataclasses.fields(kind):
        nested: Any = item.default_factory
        if dataclasses.is_dataclass(nested):
            yield from _keys(typing.cast(type, nested), f"{prefix}{item.name}.")
        else:
            alternatives = [one for one in typing.get_args(hints[item.name]) if isinstance(one, type)]
            plain = typing.get_origin(hints[item.name])
            yield prefix + item.name, plain if plain in (list, dict) else [*alternatives, hints[item.name]][0]


_HARMLESS = {
    *(f"dataset.path={path}" for path in ("folders/loop", "folders/names", "nosuch", "file")),
    "slim.measure=nosuch.measure",
    "dataset.shape=[1000000000,8,1]",
}
"""What may be taken: a line says what is left out, or what has no effect; stage describe reads no images."""


def _all() -> Iterator[Input]:
    for number, (key, kind) in enumerate(_keys(Config)):
        wrong = _WRONG.get(kind, ())
        for step in range(min(2, len(wrong))):
            yield Input([LOOK, f"{key}={wrong[(2 * number + step) % len(wrong)]}"])
        if kind in (int, float, list):
            huge = _HUGE[number % len(_HUGE)]
            yield Input([LOOK, f"{key}=[{huge}]" if kind is list else f"{key}={huge}"], taken=kind is not int)
        if kind is str and key != "stages":
            yield Input([LOOK, f"{key}={_HOSTILE[number % len(_HOSTILE)]}"], taken=True)
    for one in map(shlex.split, _SINGLE.strip().splitlines()):
        yield Input(one if one[0].startswith("stages") else [LOOK, *one])
    for text in ("'" + 4096 * "/x" + "'", "[" * 500 + "]" * 500, "{a: " * 500 + "1" + "}" * 500, "(" * 3000):
        yield Input([LOOK, f"dataset.path={text}"], taken=True)
        yield Input([LOOK, f"seed={text}"])
    for command in _FILES:
        yield Input(command)
    for key in ("calibration_batches", "batch_size"):  # as good as all images
        yield Input([*SMALL, "stages=[baseline]", f"train.{key}={18 * '9'}"], taken=True)
    for command in _UNREADABLE:
        yield Input(command, unprivileged=True)
    for environment, taken in _ENVIRONMENTS:
        yield Input([LOOK], taken, environment=environment)


INPUTS = [one._replace(taken=one.taken or not _HARMLESS.isdisjoint(one.arguments)) for one in _all()]
