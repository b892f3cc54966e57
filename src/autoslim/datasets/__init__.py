"""Datasets in memory and in files, the class-balanced hold-out, and one input pipeline for all of them."""

from autoslim.datasets.arrays import ArrayDataset
from autoslim.datasets.augmentation import Augmentation
from autoslim.datasets.batches import BatchSource, GivenBatches, TrainingBatches, evaluation_batches
from autoslim.datasets.custom import custom
from autoslim.datasets.dataset import Dataset
from autoslim.datasets.encoded import Choice, EncodedDataset
from autoslim.datasets.folder import image_folder
from autoslim.datasets.holdout import balanced_subset, split_holdout
from autoslim.datasets.images import ArrayImages
from autoslim.datasets.npz import npz
from autoslim.datasets.records import tfrecord
from autoslim.datasets.sources import SOURCES, cifar10, cifar100, digits, fashion_mnist, load
from autoslim.datasets.tfds_source import tfds

__all__ = [
    "SOURCES",
    "ArrayDataset",
    "ArrayImages",
    "Augmentation",
    "BatchSource",
    "Choice",
    "Dataset",
    "EncodedDataset",
    "GivenBatches",
    "TrainingBatches",
    "balanced_subset",
    "cifar10",
    "cifar100",
    "custom",
    "digits",
    "evaluation_batches",
    "fashion_mnist",
    "image_folder",
    "load",
    "npz",
    "split_holdout",
    "tfds",
    "tfrecord",
]
