"""A supernet of the benchmark's MobileNet-like network: how its scores rank the table's networks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from channel_bench_networks import mobilenet_like
from channel_bench_replay import OWN, PREDICTOR, TARGETS, found
from channel_bench_table import RESOURCES, Judge, Table
from scipy.stats import kendalltau, spearmanr

from autoslim import datasets
from autoslim.datasets import ArrayImages, Augmentation, TrainingBatches
from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.schema import SearchOptions
from autoslim.slimming.budget import Budget
from autoslim.slimming.optimum import shrunk
from autoslim.slimming.points import Score, Widths
from autoslim.slimming.predictor import fitted
from autoslim.slimming.problem import Problem
from autoslim.slimming.scorer import Scorer
from autoslim.slimming.solver import PairwiseCost
from autoslim.stages.scored import ScoreFile
from autoslim.training.fit import train_supernet

SIDE = 32  # of CIFAR-10's images, pixels
DRAWN = 500  # random networks whose ranks are compared
BAND = 0.05  # how far networks of a band are from its budget, as a share of it
IN_BAND = 150  # networks of a band


@dataclass(frozen=True)
class Recipe:
    """How the supernet is trained, and what it is judged on."""

    side: int = 16  # of the images: they are averaged down to it
    images: int = 10_000  # training images
    epochs: int = 6
    batch_size: int = 64
    learning_rate: float = 0.05
    distill: bool = False  # in-place distillation: a supernet of few epochs has nothing to teach yet
    holdout: int = 512  # training images held out
    scored: int = 256  # of them, those that networks are scored on, in batches of 128

    def folder(self, seed: int) -> str:
        """Its name."""
        return f"supernet-{self.side}px-{self.images}x{self.epochs}-seed{seed}"


class Supernet:
    """One seed's supernet, trained or taken from its folder, and its scores, kept in a file.

    Args:
        folder: of the weights and the scores.
        recipe: of the training.
        path: folder with CIFAR-10's files.
        seed: of weights, images' order and arms.
        table: whose networks are scored; budgets are those of its network, for images of 32x32.
    """

    def __init__(self, folder: Path, recipe: Recipe, path: str, seed: int, table: Table) -> None:
        keras.utils.set_random_seed(seed)
        self.table, self.seed, self._recipe = table, seed, recipe
        self._graph = ChannelGraph(mobilenet_like(recipe.side))
        train, held = _images(recipe, path, seed)
        self._load(folder, train)
        self.scorer = Scorer(self._graph, held)
        self.known = Known(ScoreFile(folder / "scored.jsonl"))

    def _load(self, folder: Path, batches: TrainingBatches) -> None:
        weights, recipe = folder / "supernet.weights.h5", self._recipe
        if not weights.exists():
            folder.mkdir(parents=True, exist_ok=True)
            train_supernet(
                self._graph,
                self.table.levels,
                batches,
                seed=self.seed,
                folder=folder / "training",
                epochs=recipe.epochs,
                learning_rate=recipe.learning_rate,
                distill=recipe.distill,
                warmup_epochs=min(1.0, recipe.epochs / 4),
            )
            self._graph.model.save_weights(weights)
        self._graph.model.load_weights(weights)

    def problem(self, **keys: Any) -> Problem:
        """What a method of these options is given."""
        options = SearchOptions(**keys)
        budget = Budget(self.table.graph, options.resource)
        return Problem(budget, self.table.levels, self.scorer, options, self.seed, self.known)

    def losses(self, rows: np.ndarray) -> np.ndarray:
        """Mean cross-entropy on the held-out images of networks of the table: float64 [K]."""
        problem = self.problem()
        return np.array([problem.scores(self.table.widths[row][None])[0].loss for row in rows])

    def correlations(self, truths: dict[str, np.ndarray]) -> dict[str, Any]:
        """{networks: {count, what ranks them: {truth: [Kendall's, Spearman's]}}}."""
        predicted = fitted(self.problem(method="predictor", target=min(TARGETS)))
        free = [group.index for group in self.table.graph.slimmable]
        places = np.zeros(self.table.widths.shape, int)
        places[:, free] = self.table.places
        believed = shrunk(predicted.drops, self.table.levels, SearchOptions.trust)
        tellers = {
            PREDICTOR: -PairwiseCost(0.0, tuple(believed), {})(places),
            OWN: -predicted(places),
            "FLOPs": self.table.shares("flops"),
        }
        about: dict[str, Any] = {
            "predictor": {
                "networks": predicted.networks,
                "error": predicted.error,
                "correlation": predicted.correlation,
            }
        }
        for name, rows in _sets(self.table).items():
            judged = {"supernet's loss": -self.losses(rows)}
            judged |= {teller: values[rows] for teller, values in tellers.items()}
            about[name] = {"count": len(rows)} | {
                teller: {truth: _agreement(values, whole[rows]) for truth, whole in truths.items()}
                for teller, values in judged.items()
            }
        return about

    def gains(
        self, judges: dict[str, Judge], resource: str, arguments: dict[str, Any]
    ) -> dict[str, list[float]]:
        """{truth: gains over uniform of what a method finds for each target}, points."""
        some = next(iter(judges.values()))
        known = {} if arguments["method"] == "greedy" else {"known": self.known}
        rows = found(some, self.scorer, resource, {**arguments, **known}, self.seed)
        return {name: np.round(judge.gain(resource, rows), 4).tolist() for name, judge in judges.items()}


class Known(dict[Widths, Score]):
    """Scores of a file; new ones are written to it."""

    def __init__(self, file: ScoreFile) -> None:
        super().__init__(file.known)
        self._file = file

    def __setitem__(self, widths: Widths, score: Score) -> None:
        super().__setitem__(widths, score)
        self._file.add(widths, score)


def _sets(table: Table) -> dict[str, np.ndarray]:
    """Rows of random networks: of all, and of those that cost about as much as a budget allows."""
    generator = np.random.default_rng(0)
    every = np.arange(len(table.widths))
    sets = {"all": np.sort(generator.choice(every, DRAWN, replace=False))}
    for resource in RESOURCES:
        inside = np.flatnonzero(np.abs(table.shares(resource) / 0.3 - 1) <= BAND)
        chosen = generator.choice(inside, min(IN_BAND, len(inside)), replace=False)
        sets[f"{resource} 0.3"] = np.sort(chosen)
    return sets


def _agreement(values: np.ndarray, truth: np.ndarray) -> list[float]:
    return [
        round(float(kendalltau(values, truth).statistic), 4),
        round(float(spearmanr(values, truth).statistic), 4),
    ]


def _images(recipe: Recipe, path: str, seed: int) -> tuple[TrainingBatches, Iterator[Any]]:
    """Training batches, and batches of held-out training images."""
    if SIDE % recipe.side:
        raise AutoslimError(f"side={recipe.side}: expected a divisor of {SIDE}.")
    data = datasets.load("cifar10", path, train_images=recipe.images + recipe.holdout)
    share = recipe.holdout / (recipe.images + recipe.holdout)
    train, held = datasets.split_holdout(data.train_labels, share, 0)
    held = held[datasets.balanced_subset(data.train_labels[held], recipe.scored, 0)]
    factor = SIDE // recipe.side
    shape = (-1, recipe.side, factor, recipe.side, factor, 3)
    images = ArrayImages(np.rint(data.train_images.reshape(shape).mean((2, 4))).astype(np.uint8))
    augmentation = Augmentation(pad=recipe.side // 8, flip=True)
    batches = TrainingBatches(
        images, data.train_labels, recipe.batch_size, seed, data.mean, data.std, augmentation, train
    )
    kept = datasets.evaluation_batches(
        images, data.train_labels, 128, data.mean, data.std, index=held, even=True
    )
    return batches, kept
