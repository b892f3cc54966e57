"""The weights of the full network, or of the supernet, that a stage leaves in its folder."""

from __future__ import annotations

import math

import keras

from autoslim.errors import AutoslimError, first_line
from autoslim.stages.store import StageFolder, make_room, writes

WEIGHTS = "full.weights.h5"


def save_weights(model: keras.Model, folder: StageFolder) -> None:
    """Write the network's weights, once it is sure that there is room: HDF5 crashes on a full disk."""
    if not writes():
        return
    values = sum(math.prod(v.shape) for v in model.variables)
    make_room(folder.path, 2**16 + 8 * values + 4096 * len(model.variables))
    model.save_weights(folder.path / WEIGHTS)


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
