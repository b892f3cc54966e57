"""Files for deployment, each checked by the runtime that will use it."""

from autoslim.exporting.deployment import Deployment, Preprocessing
from autoslim.exporting.exporter import Exported, export
from autoslim.exporting.formats import FORMATS, check_formats
from autoslim.exporting.latency import NetworkClock

__all__ = [
    "FORMATS",
    "Deployment",
    "Exported",
    "NetworkClock",
    "Preprocessing",
    "check_formats",
    "export",
]
