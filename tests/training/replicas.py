"""Run by test_distribution.py: the trainings named, on one device and on two logical ones, as JSON."""

import json
import sys

import keras
import numpy as np
import tensorflow as tf
from small import CLASSES, images, network, text_network, texts

from autoslim.graph import ChannelGraph
from autoslim.graph.replicas import strategy_of
from autoslim.slimming.levels import Levels
from autoslim.training.distribution import distributed, make_strategy
from autoslim.training.joint import JointNetwork, joint_step
from autoslim.training.optimizers import make_optimizer
from autoslim.training.steps import plain_step, sandwich_step

STEPS, BATCH = 3, 8
SYNC = {"sync_batch_norm": True}
TEXT: dict = {}  # in the place of a network's settings: that of texts

# name -> (kind, network, optimizer, step, loop)
CASES = {
    "plain": ("plain", {}, {"weight_decay": 1e-2}, {}, SYNC),
    "local batch norm": ("plain", {}, {}, {}, {}),
    "sandwich": ("sandwich", {"regularizer": "l2"}, {}, {"label_smoothing": 0.1}, SYNC),
    "sandwich in parts": ("sandwich", {"norm": False}, {}, {}, {"accumulate": 2}),
    "joint": ("joint", {"regularizer": "l2"}, {"weight_decay": 1e-2}, {}, SYNC),
    "parts": ("plain", {"norm": False, "regularizer": "l2"}, {}, {}, {"accumulate": 2}),
    "unsplit": ("plain", {"norm": False, "regularizer": "l2"}, {}, {}, {}),
    "clipping": ("plain", {"norm": False}, {"clipnorm": 0.05}, {}, {}),
    "average": ("plain", {"norm": False}, {"ema": 0.5}, {}, {}),
    "adamw": ("plain", {}, {"name": "adamw", "weight_decay": 0.1}, {}, SYNC),
    "teacher": ("plain", {"norm": False}, {}, {"teacher": True, "temperature": 2.0}, {}),
    "probabilities": ("plain", {"norm": False}, {}, {"label_smoothing": 0.1}, {}),
    "bfloat16": ("plain", {}, {"weight_decay": 1e-2}, {}, {"precision": "mixed_bfloat16", **SYNC}),
    "text": ("sandwich", TEXT, {"name": "adamw", "clipnorm": 0.05}, {}, {}),
    "text in parts": ("plain", TEXT, {"clipnorm": 0.05, "ema": 0.5}, {}, {"accumulate": 2}),
    "float16": ("plain", {"norm": False}, {"clipnorm": 0.05}, {}, {"precision": "mixed_float16"}),
}


def make_step(case, seed=0):
    kind, net, optimizer, step, loop = CASES[case]
    step = dict(step)
    if step.pop("teacher", False):
        step["teacher"] = network(seed=9, norm=False)
    graph = ChannelGraph(text_network(seed) if net is TEXT else network(seed, **net))
    model = graph.model
    if kind == "joint":
        model = JointNetwork(graph, [graph.uniform(0.75), graph.uniform(0.5)])
    made = make_optimizer(
        model,
        learning_rate=0.05,
        precision=loop.get("precision", "float32"),
        **{"weight_decay": 0.0, **optimizer},
    )
    if kind == "joint":
        return joint_step(model, made, **loop, **step)
    if kind == "plain":
        return plain_step(graph, made, **loop, **step)
    levels = Levels.spaced(graph, 3, divisor=2)
    return sandwich_step(graph, levels, made, seed=4, arms=3, **loop, **step)


def data(case):
    x, labels = (texts if CASES[case][1] is TEXT else images)(STEPS * BATCH)
    if case == "probabilities":
        labels = np.float32(0.7 * np.eye(CLASSES)[labels] + 0.3 * np.eye(CLASSES)[labels[::-1]])
    return tf.data.Dataset.from_tensor_slices((x, labels)).batch(BATCH, drop_remainder=True)


def values(variables):
    return [np.asarray(v).astype(np.float64).ravel().tolist() for v in variables if "float" in v.dtype]


def outcome(case, strategy):
    with strategy.scope():
        step = make_step(case)
    assert step.strategy is strategy_of(step.model)
    losses = []
    for number, (x, y) in enumerate(distributed(data(case), strategy)):
        metrics = step(x, y, number)
        losses.append({name: float(value) for name, value in metrics.items()})
    optimizer = [v for v in step.optimizer.variables if "average" in v.path]
    replicas = [
        [part.numpy().tolist() for part in strategy.experimental_local_results(v.value)]
        for v in step.model.variables
        if not v.trainable
    ]
    keras.backend.clear_session()
    return {
        "losses": losses,
        "weights": values(step.model.variables),
        "average": values(optimizer),
        "moving": replicas,
    }


def two_devices():
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)


def main():
    two_devices()
    strategies = {"one": make_strategy("single"), "two": make_strategy("mirrored")}
    assert [s.num_replicas_in_sync for s in strategies.values()] == [1, 2]
    found = {case: {name: outcome(case, s) for name, s in strategies.items()} for case in sys.argv[1:]}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
