"""The kinds of networks that are compared, and the methods that find them, in the order of tables.

A method is added by its row here, the module that the row names, and `conf/slimming/<method>.yaml`.
"""

from __future__ import annotations

from typing import NamedTuple


class Method(NamedTuple):
    """A way to choose channels: a value of `slim.method`."""

    name: str
    find: str  # path of a function: problem -> networks of falling cost, each (widths int32 [G], group)
    options: tuple[str, ...] = ()  # keys of section `slim` that not every method has
    path: bool = False  # `find` is (problem, start, on_point) -> trajectory, one path for every target
    importance: str | None = None  # by which it sorts a trained network's channels; None: it needs a supernet


class Kind(NamedTuple):
    """A kind of networks."""

    label: str  # for people
    colour: str  # in figures
    marker: str  # in figures, of matplotlib
    method: Method | None = None  # whose networks these are; None: of no method
    full: bool = False  # whether these are the full network: a reference, of no target


_SEARCHES = "autoslim.slimming"
_GREEDY = ("search", "per_cost", "first", "lazy", "refresh", "exchange")

# Colours that people with any colour vision tell apart (Okabe & Ito), and markers that do without colour.
KINDS = {
    "given": Kind("given", "#6E7781", "X", full=True),
    "baseline": Kind("baseline", "#333333", "D", full=True),
    "autoslim": Kind(  # of slim.method=greedy, the paper's search
        "AutoSlim", "#0072B2", "o", Method("greedy", f"{_SEARCHES}.greedy:greedy", _GREEDY, path=True)
    ),
    "uniform": Kind(
        "uniform", "#D55E00", "s", Method("uniform", f"{_SEARCHES}.rivals.uniform:uniform_steps")
    ),
    "random": Kind(
        "random", "#009E73", "^", Method("random", f"{_SEARCHES}.rivals.sampling:random_steps", ("passes",))
    ),
    "evolution": Kind(
        "evolution",
        "#CC79A7",
        "v",
        Method("evolution", f"{_SEARCHES}.rivals.evolution:evolution_steps", ("passes",)),
    ),
    "sensitivity": Kind(
        "sensitivity",
        "#E69F00",
        "P",
        Method("sensitivity", f"{_SEARCHES}.rivals.sensitivity:sensitivity", path=True),
    ),
    "predictor": Kind(
        "predictor",
        "#882255",
        "h",
        Method("predictor", f"{_SEARCHES}.predictor:predictor_steps", ("passes", "trust")),
    ),
    "taylor": Kind(
        "Taylor",
        "#117733",
        "p",
        Method("taylor", f"{_SEARCHES}.pruning:taylor_steps", ("trust",), importance="taylor"),
    ),
    "magnitude": Kind(
        "magnitude",
        "#44AA99",
        "d",
        Method("magnitude", f"{_SEARCHES}.pruning:magnitude_steps", ("trust",), importance="magnitude"),
    ),
    "channels": Kind("hand-made", "#56B4E9", "*"),
    "other": Kind("other", "#9AA5B1", "."),
}
"""`given`: with the weights that the network came with; `channels`: of a file (`slim.channels`) that no
search of this supernet wrote; `other`: in the folder of the project, but not named by this run."""

METHODS = {kind.method.name: kind.method for kind in KINDS.values() if kind.method is not None}
"""`slim.method` -> the method."""


def kind_of(method: str) -> str:
    """The kind of the networks that a method (`slim.method`) finds.

    >>> kind_of("greedy"), kind_of("random")
    ('autoslim', 'random')
    """
    return next(name for name, kind in KINDS.items() if kind.method and kind.method.name == method)


def place_of(kind: str) -> int:
    """The place of a kind in tables and legends.

    >>> place_of("baseline") < place_of("autoslim") < place_of("uniform")
    True
    """
    return list(KINDS).index(kind)


def methods_with(option: str) -> tuple[str, ...]:
    """The methods that have an option of their own.

    >>> methods_with("trust")
    ('predictor', 'taylor', 'magnitude')
    """
    return tuple(name for name, method in METHODS.items() if option in method.options)
