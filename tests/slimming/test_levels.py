"""Levels and the draws of the sandwich rule."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import graph

from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.slimming.levels import Levels
from autoslim.slimming.sandwich import arm_names, draw_arms

L = keras.layers


class Group:
    def __init__(self, size, unit=1, frozen=None):
        self.size, self.unit, self.frozen = size, unit, frozen


class Graph:
    """As much of a channel graph as levels look at."""

    def __init__(self, *groups):
        self.groups = groups
        self.slimmable = tuple(g for g in groups if not g.frozen)


@settings(max_examples=200, deadline=None)
@given(
    units=st.integers(1, 40),
    unit=st.sampled_from([1, 2, 3, 8]),
    count=st.integers(2, 12),
    min_width=st.floats(0.01, 1.0),
    divisor=st.integers(1, 16),
)
def test_every_level(units, unit, count, min_width, divisor):
    size = units * unit
    other = Group(512)  # always has a choice, whatever the first has
    try:
        levels = Levels.spaced(
            Graph(Group(size, unit), other, Group(7, 1, "frozen")), count, min_width, divisor
        )
    except AutoslimError:
        assert np.ceil(min_width * 512 / divisor - 1e-9) * divisor >= 512
        return
    widths, _, frozen = levels.widths
    assert frozen == (7,)
    assert list(widths) == sorted(set(widths)) and widths[-1] == size
    multiples = [w for w in range(1, size) if w % np.lcm(divisor, unit) == 0 and w >= min_width * size - 1e-6]
    assert len(widths) == min(count, len(multiples) + 1)
    for width in widths[:-1]:
        assert width % np.lcm(divisor, unit) == 0
        assert width >= min_width * size - 1e-6


def test_examples():
    def levels(size, *args):
        return Levels.spaced(Graph(Group(size)), *args).widths[0]

    assert levels(16) == (4, 8, 12, 16)
    assert levels(64, 4, 0.25, 8) == (16, 32, 48, 64)
    assert levels(10, 4, 0.25, 4) == (4, 8, 10)
    assert levels(40, 4, 0.25, 4) == (12, 20, 32, 40)  # 8 would be below a quarter
    assert levels(16, 2, 0.5, 1) == (8, 16)
    assert levels(36, 7) == (12, 16, 20, 24, 28, 32, 36)  # even shares would fall twice on 12, and miss 20


def test_twelve_levels_in_multiples_of_eight():
    """The grid of the paper's searches: of a wide layer twelve widths, of a narrow one all multiples of 8."""
    widths = Levels.spaced(Graph(Group(512), Group(64), Group(24)), 12, 1 / 12, 8).widths
    assert len(widths[0]) == 12 and all(width % 8 == 0 for width in widths[0])
    assert np.ptp(np.diff(widths[0])) <= 8
    assert widths[1:] == ((8, 16, 24, 32, 40, 48, 56, 64), (8, 16, 24))


def test_steps_in_place_of_levels():
    def levels(size, step, **kwargs):
        return Levels.spaced(Graph(Group(size), Group(7, frozen="x")), step=step, **kwargs).widths[0]

    assert levels(40, 8) == (16, 24, 32, 40)
    assert levels(42, 8) == (16, 24, 32, 40, 42)
    assert levels(40, 6) == (16, 24, 32, 40)  # rounded up to a multiple of the divisor, 4
    assert levels(20, 1, divisor=1, min_width=0.8) == (16, 17, 18, 19, 20)
    assert levels(64, 2, divisor=2, levels=2) == tuple(range(16, 65, 2))


def test_of_a_network():
    levels = Levels.spaced(graph(), 4, 0.25, 2)
    assert levels.widths[-1] == (3,)  # the logits
    np.testing.assert_array_equal(levels.largest, graph().full)
    assert (
        all(levels.smallest <= levels.largest) and levels.largest.dtype == levels.smallest.dtype == np.int32
    )
    assert [levels.narrower(1, w) for w in levels.widths[1]] == [None, *levels.widths[1][:-1]]
    np.testing.assert_array_equal(levels.uniform(1.0), levels.largest)
    np.testing.assert_array_equal(levels.uniform(0.0), levels.smallest)


def test_grouped_convolutions_keep_their_unit():
    x = keras.Input((6, 6, 2))
    y = L.Conv2D(12, 3, groups=1, name="a")(x)
    y = L.Conv2D(12, 3, groups=3, name="b")(y)
    channels = ChannelGraph(keras.Model(x, L.Dense(2)(L.Flatten()(y))))
    levels = Levels.spaced(channels, 8, 0.1, 2)
    for group, widths in zip(channels.groups, levels.widths, strict=True):
        assert all(width % group.unit == 0 for width in widths)
    channels.check(levels.smallest)


def test_nothing_to_choose():
    with pytest.raises(AutoslimError) as error:
        Levels.spaced(Graph(Group(4), Group(6, frozen="model output")), 8, 0.5, 4)
    assert str(error.value) == (
        "No channel group can be slimmed: 1 of 2 groups are not frozen, the largest of 4 channels, and none "
        "has a "
        "second width at slim.min_width=0.5, slim.divisor=4. Freeze less, or lower slim.divisor."
    )
    with pytest.raises(
        AutoslimError, match="No channel group can be slimmed: 0 of 1 groups are not frozen, and"
    ):
        Levels.spaced(Graph(Group(4, frozen="x")))


@pytest.mark.parametrize(
    "bad", [{"levels": 1}, {"min_width": 0.0}, {"min_width": 1.1}, {"divisor": 0}, {"step": 0}]
)
def test_arguments_out_of_range(bad):
    (name, value), *_ = bad.items()
    with pytest.raises(AutoslimError, match=f"^slim.{name}={value} "):
        Levels.spaced(Graph(Group(16)), **bad)


@pytest.mark.parametrize("widths", [(4, 4, 8), (8, 4), (), (0, 4)])
def test_levels_by_hand(widths):
    with pytest.raises(AutoslimError, match="of group 1 are not distinct, ascending widths of at least 1"):
        Levels(((3,), widths))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31), step=st.integers(0, 10**6), arms=st.integers(2, 6))
def test_draws_are_a_function_of_seed_and_step(seed, step, arms):
    levels = Levels(((4, 8, 12, 16), (3,), (1, 2)))
    draw = draw_arms(levels, arms, seed, step)
    np.testing.assert_array_equal(draw, draw_arms(levels, arms, seed, step))
    assert draw.shape == (arms, 3) == (len(arm_names(arms)), 3) and draw.dtype == np.int32
    np.testing.assert_array_equal(draw[0], [16, 3, 2])
    np.testing.assert_array_equal(draw[1], [4, 3, 1])
    assert all(width in allowed for row in draw for width, allowed in zip(row, levels.widths, strict=True))


def test_draws_are_even_and_differ_from_step_to_step():
    levels = Levels(((4, 8, 12, 16), (1, 2)))
    draws = np.stack([draw_arms(levels, 4, 0, step)[2:] for step in range(1000)]).reshape(-1, 2)
    shares = [np.mean(draws[:, 0] == width) for width in (4, 8, 12, 16)]
    assert shares == pytest.approx([0.25] * 4, abs=0.04)
    joint = np.mean((draws[:, 0] == 4) & (draws[:, 1] == 1))
    assert joint == pytest.approx(0.125, abs=0.03)  # each group draws on its own
    assert not np.array_equal(draw_arms(levels, 8, 0, 1), draw_arms(levels, 8, 1, 1))
