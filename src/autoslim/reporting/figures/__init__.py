"""The figures of a report, as matplotlib Figures of their own: no window, no global state."""

from autoslim.reporting.figures.accuracy import accuracy_against_cost
from autoslim.reporting.figures.channels import PANEL_GROUPS, channels_before_after
from autoslim.reporting.figures.search import search_curve
from autoslim.reporting.figures.seeds import metric_over_seeds
from autoslim.reporting.figures.style import save_figure, to_image
from autoslim.reporting.figures.trust import supernet_against_retrained

__all__ = [
    "PANEL_GROUPS",
    "accuracy_against_cost",
    "channels_before_after",
    "save_figure",
    "metric_over_seeds",
    "search_curve",
    "supernet_against_retrained",
    "to_image",
]
