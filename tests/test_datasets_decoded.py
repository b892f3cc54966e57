"""Training images of files that are decoded once: the same batches, bit for bit, without the files."""

import shutil

import pytest
from trees import assert_same, read, write_tree

from autoslim.datasets import Choice, EncodedDataset, image_folder

SHAPE = (8, 8, 3)
TINY = 12 * 8 * 8 * 3 / 2**30  # GiB of the 12 training images


def opened(path, memory: float) -> EncodedDataset:
    return image_folder(str(path), SHAPE, choice=Choice(memory=memory))


@pytest.mark.parametrize(
    "varied",
    [
        {},
        {"pad": 2, "flip": True},
        {"flip": True, "color": (0.4, 0.4, 0.4)},
        {"randaugment": (2, 9), "mixup": 0.2},
        {"crop": "resized"},
    ],
    ids=["plain", "moved", "colour", "operations", "crops"],
)
def test_batches_are_the_same_bits(tmp_path, varied):
    write_tree(tmp_path)
    each, once = (opened(tmp_path, memory).training(5, seed=3, **varied) for memory in (0.0, 1.0))
    assert_same(read(each.dataset(3, 1, 1)), read(once.dataset(3, 1, 1)))


def test_files_are_read_once_by_all_trainings(tmp_path):
    write_tree(tmp_path)
    data = opened(tmp_path, 1.0)
    first = read(data.training(4).dataset(2))
    shutil.rmtree(tmp_path / "train")
    assert_same(read(data.training(4).dataset(2)), first)
    index = data.split(0.5)[0]
    assert len(read(data.training(3, index=index).dataset(2))) == 4


@pytest.mark.parametrize(
    ("memory", "varied", "kept"),
    [(TINY, {}, True), (0.99 * TINY, {}, False), (0.0, {}, False), (1.0, {"crop": "resized"}, False)],
)
def test_what_is_kept(tmp_path, memory, varied, kept):
    write_tree(tmp_path)
    data = opened(tmp_path, memory)
    assert (data.training(4, **varied).images is not data.train) == kept
