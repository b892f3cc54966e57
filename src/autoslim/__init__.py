"""autoslim: the channel numbers of a convolutional network under a budget, found in one shot."""

from __future__ import annotations

import functools
import importlib
import sys
from typing import Any

__version__ = "0.3.0"

# TensorFlow takes seconds to import: it is loaded when one of these is first used, not before.
_PUBLIC = {
    "ChannelGraph": "autoslim.graph",
    "LayerRule": "autoslim.graph",
    "register_rule": "autoslim.graph",
    "keep_whole": "autoslim.graph",
    "Levels": "autoslim.slimming.levels",
    "slim": "autoslim.one_call",
    "fit": "autoslim.training.fit",
    "train_supernet": "autoslim.training.fit",
    "search": "autoslim.slimming.search",
    "calibrate": "autoslim.slimming.calibrate",
    "evaluate": "autoslim.training.evaluate",
    "export": "autoslim.exporting",
    "Task": "autoslim.tasks",
    "Outputs": "autoslim.tasks",
    "Metric": "autoslim.metrics",
    "AutoslimError": "autoslim.errors",
}
_MODULES = {
    "archs": "autoslim.archs",
    "datasets": "autoslim.datasets",
    "plots": "autoslim.reporting.plots",
}
_LIGHT = ("autoslim.metrics", "autoslim.errors")  # without TensorFlow
__all__ = [*_PUBLIC, *_MODULES, "__version__"]


@functools.cache
def _quiet_tensorflow() -> None:
    """Import TensorFlow without its notes on the processor, also where Keras has begun to."""
    from autoslim.startup import import_tensorflow

    import_tensorflow()


def __getattr__(name: str) -> Any:
    module = _PUBLIC.get(name) or _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module 'autoslim' has no attribute {name!r}")
    if module not in _LIGHT:
        _quiet_tensorflow()
    loaded = importlib.import_module(module)
    return getattr(loaded, name) if name in _PUBLIC else loaded


if "ipykernel" in sys.modules:  # a notebook needs TensorFlow anyway, and may import Keras next
    _quiet_tensorflow()


def __dir__() -> list[str]:
    return [*globals(), *__all__]
