"""Run by test_distribution.py: trainings interrupted in mid-epoch, on one and on two logical devices.

Prints, as JSON, whether each ended with the bits of one that was left alone.
"""

import dataclasses
import json
import sys
import tempfile

from replicas import two_devices
from small import CLASSES, bits, network, running, sgd, shuffled

from autoslim.datasets.augmentation import Augmentation
from autoslim.graph import ChannelGraph
from autoslim.slimming.levels import Levels
from autoslim.training.distribution import make_strategy
from autoslim.training.loop import train
from autoslim.training.optimizers import make_optimizer
from autoslim.training.steps import plain_step, sandwich_step


class Interrupted:
    """A step that is interrupted before one of its calls."""

    def __init__(self, step, at):
        self.step, self.at = step, at

    def __getattr__(self, name):
        return getattr(self.step, name)

    def __call__(self, images, labels, number):
        if number == self.at:
            raise KeyboardInterrupt
        return self.step(images, labels, number)


def source():
    """Five steps an epoch: shifted, mirrored and mixed."""
    mixed = Augmentation(pad=1, flip=True, mixup=0.4)
    return dataclasses.replace(shuffled(40), augmentation=mixed, classes=CLASSES)


def make_step(kind, strategy, seed=0):
    with strategy.scope():
        graph = ChannelGraph(network(seed, dropout=0.3))
        if kind == "plain":
            return plain_step(
                graph,
                make_optimizer(graph.model, learning_rate=0.05, weight_decay=0.0, clipnorm=0.5, ema=0.5),
                label_smoothing=0.1,
            )
        return sandwich_step(graph, Levels.spaced(graph, 3, divisor=2), sgd(), seed=4, arms=3)


def same_bits(kind, strategy):
    whole = make_step(kind, strategy)
    history = train(whole, source(), 2)
    with tempfile.TemporaryDirectory() as folder:
        for seed, at in enumerate((2, 5, 7)):
            try:
                train(
                    running(Interrupted(make_step(kind, strategy, seed), at), checkpoint_seconds=0),
                    source(),
                    2,
                    folder=folder,
                )
            except KeyboardInterrupt:
                continue
            return False  # it was not interrupted
        resumed = running(make_step(kind, strategy, 9), steps_per_execution=2)
        again = train(resumed, source(), 2, folder=folder)
    return again == history and bits(resumed.model, resumed.optimizer) == bits(whole.model, whole.optimizer)


def main():
    two_devices()
    strategies = {"one": make_strategy("single"), "two": make_strategy("mirrored")}
    found = {
        f"{kind} on {name}": same_bits(kind, strategy)
        for name, strategy in strategies.items()
        for kind in ("plain", "sandwich")
    }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
