"""autoslim: the channel numbers of a convolutional network under a budget, found in one shot."""

from __future__ import annotations

import importlib
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
_MODULES = ("archs", "datasets")
__all__ = [*_PUBLIC, *_MODULES, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"autoslim.{name}")
    raise AttributeError(f"module 'autoslim' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
