"""The table of kinds: every method has one, and no two look alike."""

import pytest
from matplotlib.lines import Line2D

from autoslim.kinds import KINDS, METHODS, kind_of, place_of
from autoslim.slimming import methods


def test_every_method_finds_networks_of_a_kind_of_its_own() -> None:
    assert set(METHODS) == set(methods.METHODS)
    assert len({kind_of(method) for method in METHODS}) == len(METHODS)


@pytest.mark.parametrize("field", ["label", "colour", "marker"])
def test_no_two_kinds_look_alike(field: str) -> None:
    values = [getattr(kind, field) for kind in KINDS.values()]
    assert len(set(values)) == len(values)


def test_markers_are_matplotlibs() -> None:
    assert {kind.marker for kind in KINDS.values()} <= set(Line2D.markers)


def test_the_full_network_comes_first() -> None:
    assert sorted(KINDS, key=lambda kind: not KINDS[kind].full) == sorted(KINDS, key=place_of)
