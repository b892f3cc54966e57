"""Rules of the layers that `keras.applications` defines for itself."""

from __future__ import annotations

from typing import Any

from autoslim.graph.axes import Axis, Dimension
from autoslim.graph.rules.base import Channels, LayerRule, RunCall, always
from autoslim.graph.rules.elementwise import ADD


def _scale_weights(op: Any, inputs: list[Axis], outputs: list[Axis]) -> dict[str, tuple[Dimension, ...]]:
    return {"gamma": (inputs[0],)}


def _run_scale(op: Any, inputs: list[Any], weights: dict[str, Any], call: RunCall) -> Any:
    return inputs[0] * weights["gamma"]


def _scale_config(op: Any, channels: Channels, inputs: list[Axis], outputs: list[Axis]) -> dict[str, Any]:
    return {"projection_dim": channels(inputs[0])}


LAYER_SCALE = LayerRule(
    weights=_scale_weights, run=_run_scale, config=_scale_config, keeps_zero=always, pointwise=always
)
SCALED_SUM = ADD  # x + scale * y
