"""The table of kinds: every method has one, and no two look alike."""

import dataclasses
import pkgutil

import pytest
from matplotlib.lines import Line2D

from autoslim.kinds import KINDS, METHODS, kind_of, place_of
from autoslim.schema import SearchOptions


def test_every_method_finds_networks_of_a_kind_of_its_own() -> None:
    assert len({kind_of(method) for method in METHODS}) == len(METHODS)


def test_every_method_has_a_function_and_options_that_there_are() -> None:
    keys = {item.name for item in dataclasses.fields(SearchOptions)}
    for method in METHODS.values():
        assert callable(pkgutil.resolve_name(method.find))
        assert set(method.options) <= keys


@pytest.mark.parametrize("field", ["label", "colour", "marker"])
def test_no_two_kinds_look_alike(field: str) -> None:
    values = [getattr(kind, field) for kind in KINDS.values()]
    assert len(set(values)) == len(values)


def test_markers_are_matplotlibs() -> None:
    assert {kind.marker for kind in KINDS.values()} <= set(Line2D.markers)


def test_the_full_network_comes_first() -> None:
    assert sorted(KINDS, key=lambda kind: not KINDS[kind].full) == sorted(KINDS, key=place_of)
