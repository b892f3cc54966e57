"""Datasets: arrays in memory, the class-balanced hold-out, and one input pipeline for all of them."""

from autoslim.datasets.batches import BatchSource, GivenBatches, TrainingBatches, evaluation_batches
from autoslim.datasets.dataset import Dataset
from autoslim.datasets.holdout import balanced_subset, split_holdout
from autoslim.datasets.sources import SOURCES, cifar10, cifar100, digits, fashion_mnist, load

__all__ = [
    "SOURCES",
    "Dataset",
    "BatchSource",
    "GivenBatches",
    "TrainingBatches",
    "balanced_subset",
    "cifar10",
    "cifar100",
    "digits",
    "evaluation_batches",
    "fashion_mnist",
    "load",
    "split_holdout",
]
