"""Figures: what they show, that no labels overlap, and that they leave matplotlib's state alone."""

import itertools
import subprocess
import sys

import matplotlib
import matplotlib.image
import numpy as np
import pytest

from autoslim.reporting import figures
from autoslim.reporting.network import NetworkResult
from autoslim.resources import Cost


def overlapping(texts, figure):
    """Pairs of visible texts that cover each other."""
    renderer = figure.canvas.get_renderer()
    boxes = [(t.get_text(), t.get_window_extent(renderer)) for t in texts if t.get_text() and t.get_visible()]
    return [(a, b) for (a, x), (b, y) in itertools.combinations(boxes, 2) if x.overlaps(y)]


def inside(figure, chosen):
    renderer = figure.canvas.get_renderer()
    width, height = figure.canvas.get_width_height()
    boxes = [t.get_window_extent(renderer) for t in chosen if t.get_text()]
    return all(b.x0 >= -1 and b.y0 >= -1 and b.x1 <= width + 1 and b.y1 <= height + 1 for b in boxes)


@pytest.mark.parametrize("images", [None, 200])
@pytest.mark.parametrize("resource", ["flops", "params", "memory"])
def test_accuracy_against_cost(results, trajectory, resource, images):
    figure = figures.accuracy_against_cost(results, trajectory, resource, images)
    labels = list(figure.axes[0].texts)
    assert sorted(label.get_text() for label in labels) == ["93.0", "94.0", "95.0", "95.0"]
    assert overlapping(labels, figure) == [] and inside(figure, labels)
    legend = [entry.get_text() for entry in figure.legends[0].get_texts()]
    assert legend == ["supernet in the search (held-out images)", "baseline", "AutoSlim", "uniform"]


def test_the_loser_is_drawn_too(results):
    figure = figures.accuracy_against_cost(results, None, "flops")
    drawn = {
        (float(x), float(y)) for line in figure.axes[0].lines for x, y in zip(*line.get_data(), strict=True)
    }
    assert drawn == {(19.6e6, 0.94), (19.2e6, 0.93), (26e6, 0.95), (40e6, 0.95)}
    low, high = figure.axes[0].get_ylim()
    assert low < 0.93 and high > 0.95


@pytest.mark.parametrize("count", [1, 30, 41, 100])
@pytest.mark.parametrize("networks", [1, 6])
def test_channels_stay_readable(count, networks):
    groups = [(f"stage{i // 10}_block{i % 10}_conv1_expand", 2 ** (4 + i % 7)) for i in range(count)]
    results = [
        NetworkResult(kind, target, 0.9, 0.3, Cost({}), {n: max(1, int(s * target)) for n, s in groups}, "")
        for target in (0.7, 0.5, 0.3)
        for kind in ("autoslim", "uniform")
    ][:networks]
    figure = figures.channels_before_after(groups, results)
    names = [label for axes in figure.axes for label in axes.get_xticklabels()]
    assert len(names) == count
    assert overlapping(names, figure) == [] and inside(figure, names)
    assert overlapping([figure.legends[0].get_title(), *figure.legends[0].get_texts()], figure) == []
    assert all(len(axes.get_xticks()) <= figures.PANEL_GROUPS for axes in figure.axes)


def test_channels_heights(groups, results):
    figure = figures.channels_before_after(groups, results)
    full, slim_07, slim_05 = ([bar.get_height() for bar in bars] for bars in figure.axes[0].containers)
    assert full == [8, 16, 16, 32] and slim_07 == [8, 8, 16, 16] and slim_05 == [8, 8, 8, 16]
    (dashes,) = figure.axes[0].collections
    assert [segment[0][1] for segment in dashes.get_segments()] == [6, 11, 11, 23]
    legend = [entry.get_text() for entry in figure.legends[0].get_texts()]
    assert legend == ["full width", "AutoSlim 0.7", "AutoSlim 0.5", "uniform 0.5"]


def test_search_curve_marks_what_was_reached(trajectory):
    figure = figures.search_curve(trajectory, [0.7, 0.68, 0.5, 0.1])
    upper, lower = figure.axes
    assert [label.get_text() for label in upper.texts] == ["0.5", "0.68, 0.7"]
    curve = upper.lines[0]
    np.testing.assert_array_equal(curve.get_xdata(), [1.0, 0.8, 0.65, 0.48])
    np.testing.assert_array_equal(curve.get_ydata(), [0.92, 0.91, 0.90, 0.87])
    assert overlapping([*upper.texts, upper._left_title], figure) == []


def test_pixels_and_files(trajectory, tmp_path):
    figure = figures.search_curve(trajectory, [0.5])
    image = figures.to_image(figure)
    assert image.dtype == np.uint8 and image.ndim == 4 and image.shape[0] == 1 and image.shape[3] == 3
    assert image.min() < 100 and image.max() == 255
    path = figures.save_figure(figure, tmp_path / "curve.png")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["curve.pdf", "curve.png", "curve.svg"]
    read = matplotlib.image.imread(path)
    assert read.shape[:2] == image.shape[1:3]
    np.testing.assert_array_equal((read[..., :3] * 255).round().astype(np.uint8), image[0])
    (tmp_path / "again").mkdir()
    again = figures.save_figure(figures.search_curve(trajectory, [0.5]), tmp_path / "again" / "curve.png")
    for suffix in (".png", ".pdf", ".svg"):
        assert again.with_suffix(suffix).read_bytes() == path.with_suffix(suffix).read_bytes()


def test_the_users_settings_stay(trajectory):
    with matplotlib.rc_context({"font.size": 33, "axes.grid": False}):
        figure = figures.search_curve(trajectory)
        assert matplotlib.rcParams["font.size"] == 33
        assert figure.axes[0].yaxis.label.get_fontsize() == 11


def test_pyplot_is_not_imported():
    modules = "('matplotlib.pyplot', 'keras', 'tensorflow')"
    code = f"import sys, autoslim.reporting.figures; print(*(name in sys.modules for name in {modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["False"] * 3
