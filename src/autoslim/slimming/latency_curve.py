"""The last step of a prediction: a rising curve that takes fitted times to those that were measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

STEEP = 0.1  # least slope of a piece, as a share of the slope from end to end


@dataclass(frozen=True)
class Curve:
    """Straight pieces between knots; the first and the last go on beyond the ends."""

    fitted: np.ndarray  # float64 [K], rising
    measured: np.ndarray  # float64 [K], rising

    def __call__(self, fitted: np.ndarray) -> np.ndarray:
        """What is predicted for fitted times [...]: float64 [...]."""
        slopes = np.diff(self.measured) / np.diff(self.fitted)
        below = np.minimum(fitted - self.fitted[0], 0.0) * slopes[0]
        above = np.maximum(fitted - self.fitted[-1], 0.0) * slopes[-1]
        return np.interp(fitted, self.fitted, self.measured) + below + above

    @property
    def inverse(self) -> Curve:
        """The curve from measured to fitted times."""
        return Curve(self.measured, self.fitted)


def curve_through(fitted: np.ndarray, measured: np.ndarray) -> Curve:
    """The curve through networks' times; it rises everywhere, also where these contradict each other.

    The networks with the smallest and the largest fitted time are always on it; of two others that contradict
    each other, the slower one.

    Args:
        fitted: float64 [K], above 0.
        measured: float64 [K], above 0, of the same networks.
    """
    x = np.unique(fitted)
    y = np.array([measured[fitted == one].max() for one in x])
    if len(x) < 2 or y[-1] <= y[0]:
        return Curve(np.array([0.0, x[-1]]), np.array([0.0, y[-1]]))
    least = STEEP * (y[-1] - y[0]) / (x[-1] - x[0]) * np.diff(x)
    last = y[-1]
    for k in range(1, len(x)):
        y[k] = max(y[k], y[k - 1] + least[k - 1])
    y[-1] = last
    for k in range(len(x) - 2, -1, -1):
        y[k] = min(y[k], y[k + 1] - least[k])
    return Curve(x, y)
