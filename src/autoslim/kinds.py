"""The kinds of networks that are compared: names and looks, in the order of tables and legends."""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """A kind of networks."""

    label: str  # for people
    colour: str  # in figures
    marker: str  # in figures, of matplotlib
    method: str | None = None  # the `slim.method` whose networks these are; None: of no method
    full: bool = False  # whether these are the full network: a reference, of no target


# Colours that people with any colour vision tell apart (Okabe & Ito), and markers that do without colour.
KINDS = {
    "given": Kind("given", "#6E7781", "X", full=True),
    "baseline": Kind("baseline", "#333333", "D", full=True),
    "autoslim": Kind("AutoSlim", "#0072B2", "o", "greedy"),
    "uniform": Kind("uniform", "#D55E00", "s", "uniform"),
    "random": Kind("random", "#009E73", "^", "random"),
    "evolution": Kind("evolution", "#CC79A7", "v", "evolution"),
    "sensitivity": Kind("sensitivity", "#E69F00", "P", "sensitivity"),
    "predictor": Kind("predictor", "#882255", "h", "predictor"),
    "taylor": Kind("Taylor", "#117733", "p", "taylor"),
    "magnitude": Kind("magnitude", "#44AA99", "d", "magnitude"),
    "channels": Kind("hand-made", "#56B4E9", "*"),
    "other": Kind("other", "#9AA5B1", "."),
}
"""`given`: with the weights that the network came with; `channels`: of a file (`slim.channels`) that no
search of this supernet wrote; `other`: in the folder of the project, but not named by this run."""

METHODS = tuple(kind.method for kind in KINDS.values() if kind.method is not None)
"""Values of `slim.method`."""


def kind_of(method: str) -> str:
    """The kind of the networks that a method (`slim.method`) finds.

    >>> kind_of("greedy"), kind_of("random")
    ('autoslim', 'random')
    """
    return next(name for name, kind in KINDS.items() if kind.method == method)


def place_of(kind: str) -> int:
    """The place of a kind in tables and legends.

    >>> place_of("baseline") < place_of("autoslim") < place_of("uniform")
    True
    """
    return list(KINDS).index(kind)
