"""What layers and weights add to the loss of a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def weight_losses(variables: Sequence[Any]) -> list[Any]:
    """What the weights' regularizers add to the loss: scalar tensors."""
    return [v.regularizer(v) for v in variables if v.regularizer is not None]
