"""The recipes in conf/recipe: they compose, the command line has the last word, and they do what they say."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import yaml

import autoslim.conf
from autoslim.config import compose
from autoslim.graph import ChannelGraph, Segments
from autoslim.slimming.sandwich import draw_arms
from autoslim.slimming.scorer import Scorer
from autoslim.slimming.search import search
from autoslim.stages.channels import read_channels
from autoslim.stages.experiment import Experiment

RECIPES = Path(autoslim.conf.__file__).parent / "recipe"
NAMES = sorted(path.stem for path in RECIPES.glob("*.yaml"))
GOLDEN = yaml.safe_load((Path(__file__).parent / "golden" / "cifar10_reference.yaml").read_text())


def test_the_recipes_that_there_are() -> None:
    assert NAMES == ["economy", "first_run", "paper_imagenet", "reference_cifar10"]


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_opens_with_what_it_takes_and_gives(name: str) -> None:
    lines = (RECIPES / f"{name}.yaml").read_text().splitlines()
    assert lines[0] == "# @package _global_"
    head = [line for line in lines[1:] if line.startswith("#")]
    for word in ("Command", "Hardware", "Time", "Result"):
        assert sum(line.startswith(f"# {word} ") for line in head) == 1, word
    assert any(f"python -m autoslim +recipe={name}" in line for line in head)


@pytest.mark.parametrize("name", NAMES)
def test_the_command_line_wins_over_a_recipe(name: str) -> None:
    config = compose(
        [f"+recipe={name}", "arch=wresnet40_4", "dataset=fashion_mnist", "slim.levels=3", "retrain.epochs=2"]
    )
    assert (config.arch.name, config.dataset.name) == ("wresnet40_4", "fashion_mnist")
    assert (config.slim.levels, config.retrain.epochs) == (3, 2)


def test_the_reference_is_the_published_protocol() -> None:
    config = compose(["+recipe=reference_cifar10"])
    assert (config.arch.name, config.dataset.name) == ("resnet56", "cifar10")
    assert set(config.slim.targets) | {1.0} == {row["target"] for row in GOLDEN["results"]}
    assert (config.train.batch_size, config.optimizer.learning_rate) == (128, 0.1)
    assert (config.supernet.epochs, config.supernet.schedule, config.dataset.holdout) == (60, "constant", 0.2)
    for stage in (config.baseline, config.retrain):
        assert (stage.epochs, stage.schedule, stage.warmup_epochs) == (200, "step", 0)
    # An L2 penalty p moves a weight by p / (1 - momentum) times the rate in the long run.
    assert config.optimizer.weight_decay * (1 - config.optimizer.momentum) == pytest.approx(5e-4)


@pytest.mark.parametrize(
    ("published", "others", "target"),
    [
        ("autoslim_mobilenet_v2_207m", 1, 0.308),
        ("autoslim_mobilenet_v2_305m", 0, 0.454),
        ("autoslim_mobilenet_v2_505m", 1, 0.751),
    ],
)
def test_the_papers_grid_holds_what_was_published(published: str, others: int, target: float) -> None:
    config = compose(["+recipe=paper_imagenet", "dataset.classes=1000"])
    assert (config.arch.name, config.arch.arguments()["width"]) == ("mobilenet_v2_imagenet", 1.5)
    experiment = Experiment(config)
    graph, widths = experiment.plan, experiment.plan.widths_from(read_channels(published))
    levels = experiment.levels.widths
    missing = [group.name for group in graph.slimmable if widths[group.index] not in levels[group.index]]
    assert (len(graph.slimmable), len(missing)) == (25, others)
    assert target in config.slim.targets and len(config.slim.targets) == 3
    assert target - 0.001 < graph.cost(widths).flops / graph.cost().flops <= target


def test_the_papers_schedules_follow_from_the_baselines_epochs() -> None:
    config = compose(["+recipe=paper_imagenet", "baseline.epochs=100"])
    assert (config.supernet.epochs, config.retrain.epochs) == (20, 100)
    assert {stage.schedule for stage in (config.baseline, config.supernet, config.retrain)} == {"linear"}


def on_paper(monkeypatch: pytest.MonkeyPatch, graph: ChannelGraph) -> None:
    """Let the search run nothing: it counts as ever, and its scores are made up.

    Wider is better, by a seeded amount for each group, with noise from image to image.
    """
    hurt = np.random.default_rng(0).uniform(0.01, 0.2, len(graph.groups)).astype(np.float32)

    def run(self: Segments, values: Any, widths: Any, start: int = 0, stop: int | None = None) -> list[Any]:
        return [[widths]] * ((len(self) if stop is None else stop) - start)

    def judge(self: Scorer, labels: Any, outputs: Any) -> tuple[Any, Any]:
        (widths,) = outputs
        worse = tf.reduce_sum(hurt * (1 - tf.cast(widths, tf.float32) / graph.full.astype(np.float32)) ** 2)
        noise = tf.random.stateless_normal(tf.shape(labels), tf.stack([0, tf.reduce_sum(widths)]), 1.0, 0.02)
        return worse + noise, tf.ones_like(noise)

    monkeypatch.setattr(Segments, "run", run)
    monkeypatch.setattr(Scorer, "_judge_batch", judge)


@pytest.mark.parametrize(
    ("arch", "images"),
    [
        ("resnet20", 1437),
        pytest.param("resnet56", 50_000, marks=pytest.mark.slow),
        pytest.param("mobilenet_v2", 1437, marks=pytest.mark.slow),
        pytest.param("mobilenet_v2", 50_000, marks=pytest.mark.long),
        pytest.param("wresnet40_4", 50_000, marks=pytest.mark.long),
    ],
)
def test_economy_costs_less_than_one_baseline_training(
    monkeypatch: pytest.MonkeyPatch, arch: str, images: int
) -> None:
    """Supernet, search and retraining at half the FLOPs, by the arithmetic of their parts."""
    config = compose(["+recipe=economy", f"arch={arch}"])
    experiment = Experiment(config)
    graph, levels, slim, epochs = experiment.plan, experiment.levels, config.slim, config.baseline.epochs
    assert (slim.targets, config.supernet.arms, epochs) == ((0.5,), 4, 30)
    held_out = round(images * config.dataset.holdout)
    parts = np.array_split(np.zeros(held_out, np.int32), -(-held_out // slim.batch_size))
    batches = [(np.zeros((len(labels), *config.dataset.shape), np.float32), labels) for labels in parts]
    on_paper(monkeypatch, graph)
    path = search(graph, levels, batches, slim)
    full = graph.cost().flops
    arms = np.mean([graph.cost(draw_arms(levels, 4, 0, step)).flops.sum() / full for step in range(50)])
    bill = {
        "supernet": arms * config.supernet.epochs * (1 - config.dataset.holdout) / epochs,
        "search": sum(point.macs for point in path.points) / (3 * full * images * epochs),
        "retrain": path.at(0.5).share * config.retrain.epochs / epochs,
    }
    assert sum(bill.values()) < 1, bill
    assert bill["supernet"] == pytest.approx(0.34, abs=0.01)


def test_economy_follows_the_baselines_epochs() -> None:
    config = compose(["+recipe=economy", "baseline.epochs=200"])
    assert (config.supernet.epochs, config.retrain.epochs) == (40, 180)
    config = compose(["+recipe=economy", "baseline.epochs=1"])
    assert (config.supernet.epochs, config.retrain.epochs) == (1, 1)
