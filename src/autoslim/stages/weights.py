"""The weights of the full network, or of the supernet, that a stage leaves in its folder."""

from __future__ import annotations

import io

import keras

from autoslim.errors import AutoslimError, first_line
from autoslim.stages.store import StageFolder, writes
from autoslim.writing import replacing

WEIGHTS = "full.weights.h5"


class _Memory(io.BytesIO):
    """A file in memory that Keras takes for one of weights, by its name."""

    def __str__(self) -> str:
        return WEIGHTS


def save_weights(model: keras.Model, folder: StageFolder) -> None:
    """Write the network's weights. HDF5, which crashes where a disk is full or fails, writes to memory alone.

    Raises:
        OSError: if the file can't be written.
    """
    if not writes():
        return
    memory = _Memory()
    model.save_weights(memory)
    with replacing(folder.path / WEIGHTS) as part:
        part.write_bytes(memory.getbuffer())


def load_weights(model: keras.Model, folder: StageFolder) -> keras.Model:
    """The network with the weights that a finished stage saved.

    Args:
        model: the network that they are of, with any weights.
        folder: of the stage.

    Raises:
        AutoslimError: for a damaged file, or weights of another network.
    """
    path = folder.path / WEIGHTS
    try:
        model.load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        raise AutoslimError(
            f"The weights in {path} are damaged or of another network "
            f"({first_line(error, 120)}). Remove the folder {folder.path} to run stage "
            f"{folder.stage} again."
        ) from error
    return model
