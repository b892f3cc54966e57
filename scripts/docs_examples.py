"""Examples in docstrings are shown as code: an extension of Griffe, see mkdocs.yml."""

from __future__ import annotations

import re
from typing import Any

import griffe


def fenced(text: str) -> str:
    """A docstring with its examples in fences.

    >>> fenced(chr(62) * 3 + " f(1)  # doctest: +SKIP").splitlines()[1]
    '>>> f(1)'
    """
    text = re.sub(r" +# doctest: \+SKIP", "", text)
    return re.sub(r"(?m)^>>> .*(?:\n(?!\n).*)*", lambda found: f"```python\n{found[0]}\n```", text)


class Examples(griffe.Extension):
    """Puts the examples of every docstring into fences."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Griffe's call for each object that it has read."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)
