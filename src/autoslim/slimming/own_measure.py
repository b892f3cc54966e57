"""A measurement of the user's own: a function of a Keras model, such as energy, or the latency on a phone."""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Callable, Iterable
from typing import Any

import keras

from autoslim.errors import AutoslimError, first_line
from autoslim.importing import function_at


class OwnMeasure:
    """Measures networks by a function.

    Args:
        function: of a Keras model (one image in, random weights); returns a finite number above 0, of which
            less is better.
        name: for messages and the table; None: the function's own.
    """

    def __init__(self, function: Callable[[keras.Model], float], name: str | None = None) -> None:
        self._function = function
        where = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', '')}"
        self.name = name or (where if where != "." else type(function).__name__)
        self.unit = f"as {self.name} measures"

    @property
    def identity(self) -> dict[str, object]:
        """The function, and its text: another function under the same name measures something else."""
        try:
            text = inspect.getsource(self._function)
        except (OSError, TypeError):
            text = ""
        return {"measure": self.name, "source": hashlib.sha256(text.encode()).hexdigest()[:10]}

    def __call__(
        self, models: Iterable[keras.Model], on_ready: Callable[[], Any] = lambda: None, rounds: int = 1
    ) -> list[list[float]]:
        """What the function returns, in `rounds` interleaved rounds of all models.

        Raises:
            AutoslimError: for an error of the function, or a value that is not a finite number above 0.
        """
        kept: list[keras.Model] = []
        found: list[list[float]] = []
        for model in models:
            found.append([self._value(model)])
            on_ready()
            if rounds > 1:
                kept.append(model)
        for _ in range(rounds - 1):
            for model, times in zip(kept, found, strict=True):
                times.append(self._value(model))
        return found

    def _value(self, model: keras.Model) -> float:
        try:
            value = float(self._function(model))
        except Exception as error:  # a user's function raises anything
            raise AutoslimError(
                f"slim.measure={self.name} failed on a network of {model.count_params():,} parameters "
                f"({type(error).__name__}: {first_line(error)}). It takes a Keras model and returns a number."
            ) from error
        if not 0 < value < math.inf:
            raise AutoslimError(
                f"slim.measure={self.name} returned {value}: expected a finite number above 0, of which less "
                "is better."
            )
        return value


def own_measure(path: str) -> OwnMeasure:
    """The function that a dotted path names.

    Raises:
        AutoslimError: if there is none.
    """
    return OwnMeasure(function_at(path, "slim.measure", "a number above 0 for a Keras model"), path)
