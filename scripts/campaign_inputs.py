"""Commands that must be refused in one line: overrides, and what the environment adds."""

from __future__ import annotations

import shlex

_KEYS = {
    "integers": "seed supernet.epochs baseline.epochs retrain.epochs supernet.arms slim.levels slim.divisor "
    "slim.images slim.batch_size train.batch_size train.eval_batch_size train.calibration_batches "
    "train.steps_per_execution dataset.train_images dataset.pad export.images",
    "shares": "slim.target slim.min_width dataset.holdout dataset.max_broken optimizer.momentum",
    "words": "slim.resource slim.convention slim.search slim.score slim.runtime train.strategy "
    "train.precision train.execution retrain.init retrain.teacher supernet.init optimizer.name",
    "groups": "arch dataset optimizer slimming retrain",
}
_VALUES = {
    "integers": ("-1", "0.5", "abc", "1e400", "nan", "[1]", "{a: 1}", "-99999999999999999999999", "''"),
    "shares": ("-0.1", "nan", "1e400", "abc", "{a: 1}", "''", "-1e-300"),
    "words": ("nosuch", "''", "1", "[a]", "null,", "x" * 300, "ünïcödé"),
    "groups": ("nosuch", "../x", "''", "[a]"),
}
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
'slim.target=0.5 '
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
arch=custom
arch=custom arch._target_=nosuch.net
arch=custom arch._target_=os.getcwd
arch=custom arch._target_=sys.exit
arch=keras_file arch.path=nosuch.keras
arch=keras_file arch.path=file
arch=keras_application arch.application=nosuch
dataset=custom
dataset=custom dataset._target_=nosuch.load dataset.name=x
dataset=custom dataset._target_=os.getcwd dataset.name=x
dataset=image_folder
dataset=image_folder dataset.path=nosuch 'dataset.shape=[8,8,3]'
dataset=image_folder dataset.path=file 'dataset.shape=[8,8,3]'
dataset=tfrecord dataset.path=nosuch 'dataset.shape=[8,8,3]'
dataset=cifar10 dataset.path=nosuch
dataset=cifar10 dataset.path=file
'dataset.shape=[0,0,0]'
'dataset.shape=[1000000000,8,1]'
slim.channels=nosuch.yaml
slim.channels=file
slim.channels=/
'slim.freeze=[nosuch]'
'slim.freeze={a: 1}'
slim.measure=nosuch.measure
arch.depth=21
arch.depth=-8
arch.width=0
train.batch_size=99999999999999999999
--multirun slim.target=0.5,abc
--multirun --cfg job
--nosuch
--config-name nosuch
--config-dir nosuch
hydra/launcher=nosuch
'~slim'
+slim.target=0.5
slim=3
'seed=${nosuch}'
'seed=${seed}'
'seed=${oc.env:NOSUCH}'
"""
_LONG = (["arch.name=" + "a" * 300], ["seed=" + "[" * 500 + "]" * 500])
_ENVIRONMENTS = ({"KERAS_BACKEND": "jax"}, {"KERAS_BACKEND": "nosuch"})


def _all() -> list[tuple[list[str], dict[str, str]]]:
    stop = "stages=[describe]"  # nothing is trained where an input is taken after all
    commands = [
        [stop, f"{key}={value}"]
        for kind, keys in _KEYS.items()
        for key in keys.split()
        for value in _VALUES[kind]
    ]
    for one in (*map(shlex.split, _SINGLE.strip().splitlines()), *_LONG):
        commands.append(one if one[0].startswith("stages") else [stop, *one])
    plain: list[tuple[list[str], dict[str, str]]] = [(command, {}) for command in commands]
    return plain + [([stop], environment) for environment in _ENVIRONMENTS]


INPUTS = _all()
"""(arguments of ``python -m autoslim``, additions to the environment)."""
