"""The description of a network: whole numbers, nothing cut off."""

import keras
import pytest
from rich.console import Console

from autoslim.archs import resnet
from autoslim.graph import ChannelGraph
from autoslim.reporting.tables import describe
from autoslim.slimming.levels import Levels


def text_of(*args, **kwargs):
    """The tables of `describe` as plain text that is as wide as it needs."""
    console = Console(width=10_000, color_system=None, force_terminal=False, highlight=False)
    with console.capture() as capture:
        console.print(*describe(*args, **kwargs), sep="\n")
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


@pytest.fixture(scope="module")
def graph():
    return ChannelGraph(resnet((8, 8, 1), 10, depth=14, width=64), freeze=("stem*",))


def test_every_layer_with_its_exact_cost(graph):
    lines = text_of(graph).splitlines()
    costs = graph.layer_costs()
    found = {line.split()[0]: line.split() for line in lines[lines.index("Layers") :] if line.strip()}
    for layer in costs:
        assert found[layer.name][-2:] == [f"{layer.flops:,}", f"{layer.params:,}"]
        assert found[layer.name][1] == layer.kind
    assert sum(layer.flops for layer in costs) == graph.cost().flops
    assert found["FLOPs"] == ["FLOPs", f"{graph.cost().flops:,}"]
    assert found["parameters"] == ["parameters", f"{graph.cost().params:,}"]
    assert found["memory,"][-1] == f"{graph.cost().memory:,}"


def test_groups_levels_and_reasons(graph):
    text = text_of(graph, levels=Levels.spaced(graph))
    assert f"Channel groups: {len(graph.groups)}, of which {len(graph.slimmable)} can be slimmed" in text
    stem = next(line for line in text.splitlines() if line.split()[:1] == ["stem_conv"])
    assert "matches 'stem*'" in stem and "more), " in text
    block = next(line for line in text.splitlines() if line.split()[:1] == ["stage1_block1_conv1"])
    assert block.split()[2:10] == ["16", "24", "28", "36", "44", "52", "56", "64"]


def test_at_widths_with_shares(graph):
    widths = graph.uniform(0.5)
    text = text_of(graph, widths, "with_norm")
    full, here = graph.cost(None, "with_norm"), graph.cost(widths, "with_norm")
    line = next(line for line in text.splitlines() if line.split()[:1] == ["FLOPs"])
    assert line.split()[1:] == [
        f"{full.flops:,}",
        f"{here.flops:,}",
        f"{100 * here.flops / full.flops:.2f}",
        "%",
    ]
    assert "4 an entry in batch, layer, RMS and group normalisation" in text


def test_long_names_and_numbers_are_whole():
    x = keras.Input((256, 256, 3), name="image")
    name = "a_layer_with_a_name_that_goes_on_" + "and_on_" * 20
    y = keras.layers.Conv2D(4096, 7, name=name)(x)
    graph = ChannelGraph(keras.Model(x, keras.layers.Dense(10, name="logits")(y)))
    text = text_of(graph)
    assert name in text and f"{250 * 250 * 49 * 3 * 4096:,}" in text and "…" not in text
