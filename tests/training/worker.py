"""Run by test_distribution.py: one worker of a training, or the only one; prints what came out as JSON.

Arguments: strategy, folder, and the step in which this worker dies (0: never).
"""

import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np

from autoslim.training.distribution import make_strategy

STRATEGY = make_strategy(sys.argv[1])  # before anything else touches TensorFlow

from small import network, shuffled  # noqa: E402

from autoslim.errors import AutoslimError  # noqa: E402
from autoslim.graph import ChannelGraph  # noqa: E402
from autoslim.slimming.levels import Levels  # noqa: E402
from autoslim.training.loop import train  # noqa: E402
from autoslim.training.optimizers import make_optimizer  # noqa: E402
from autoslim.training.steps import plain_step, sandwich_step  # noqa: E402


class Dying:
    """A step that ends the process at one of its calls, as a lost machine does."""

    def __init__(self, step, at):
        self.step, self.at = step, at

    def __getattr__(self, name):
        return getattr(self.step, name)

    def __call__(self, images, labels, number):
        if number + 1 == self.at:
            os._exit(9)
        return self.step(images, labels, number)


def make_step(kind):
    with STRATEGY.scope():
        graph = ChannelGraph(network())
        optimizer = make_optimizer(graph.model, learning_rate=0.05, weight_decay=0.0, clipnorm=0.5, ema=0.5)
        if kind == "plain":
            return plain_step(graph, optimizer, sync_batch_norm=True, checkpoint_seconds=0)
        levels = Levels.spaced(graph, 3, divisor=2)
        return sandwich_step(
            graph, levels, optimizer, seed=4, arms=3, sync_batch_norm=True, checkpoint_seconds=0
        )


def main():
    folder, dies = Path(sys.argv[2]), int(sys.argv[3])
    found = {}
    for kind in ("plain", "sandwich"):
        step = make_step(kind)
        started = Dying(step, dies if kind == "plain" else 0)
        found[kind] = {"history": train(started, shuffled(48), 2, folder=folder / kind)}
        values = [np.asarray(v) for v in [*step.model.variables, *step.optimizer.variables]]
        found[kind]["bits"] = hashlib.sha256(b"".join(v.tobytes() for v in values)).hexdigest()
        found[kind]["weights"] = [v.astype(float).ravel().tolist() for v in values[: len(step.variables)]]
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    try:
        main()
    except AutoslimError as error:
        print(error, file=sys.stderr)
        sys.stderr.flush()
        os._exit(2)  # TensorFlow's own farewell waits for the one that is lost
