"""The recipes in conf/recipe: they compose, the command line has the last word, and they do what they say."""

from pathlib import Path

import pytest
import yaml

import autoslim.conf
from autoslim.config import compose

RECIPES = Path(autoslim.conf.__file__).parent / "recipe"
NAMES = sorted(path.stem for path in RECIPES.glob("*.yaml"))
GOLDEN = yaml.safe_load((Path(__file__).parent / "golden" / "cifar10_reference.yaml").read_text())


def test_the_recipes_that_there_are() -> None:
    assert NAMES == ["reference_cifar10"]


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
