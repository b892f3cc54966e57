"""Run by test_devices.py: the same searches on one device, on two logical ones, or on workers, as JSON."""

import json
import os

import tensorflow as tf
from nets import batches, graph

from autoslim.slimming.levels import Levels
from autoslim.slimming.scorer import Scorer
from autoslim.slimming.search import search

SETTINGS = {
    "exact": {"search": "exact", "lazy": False, "per_cost": False, "exchange": 1},
    "halving": {"search": "halving", "first": 0.4, "lazy": True, "refresh": 2, "per_cost": True},
    "all at once": {"search": "halving", "lazy": False, "per_cost": False, "first": 0.4},
}


def found(strategy, made_for):
    """{settings: trajectory}; five batches, so that the last round is not complete."""
    if made_for:
        with made_for.scope():
            made = graph(widths=(16, 12, 16))
    else:
        made = graph(widths=(16, 12, 16))
    logits = made.model.get_layer("logits")
    logits.kernel.assign(8 * logits.kernel.numpy())
    levels = Levels.spaced(made, 4, 0.25, 2)
    given = list(batches(39, 8, seed=5))
    return {
        name: search(made, levels, Scorer(made, given, strategy), target=[0.55], **settings).to_dict()
        for name, settings in SETTINGS.items()
    }


if __name__ == "__main__":
    if "TF_CONFIG" in os.environ:  # one of several workers
        workers = tf.distribute.MultiWorkerMirroredStrategy()
        results = {"replicas": workers.num_replicas_in_sync, "workers": found(None, workers)}
    else:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
        two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        results = {
            "replicas": two.num_replicas_in_sync,
            "one": found(None, None),
            "two": found(None, two),
            "given later": found(two, None),
        }
    print(json.dumps(results))
