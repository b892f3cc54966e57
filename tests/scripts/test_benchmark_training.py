"""The training benchmark: its arithmetic by hand, and one small run of its parts."""

import json
import sys

import benchmark_training
import benchmark_training_sides as sides
import keras
import numpy as np
import pytest

from autoslim import ChannelGraph, archs, datasets


def test_interleaved_takes_turns(monkeypatch):
    monkeypatch.setattr(sides, "PAUSE", 0)
    order = []

    def side(name):
        def run():
            order.append(name)
            return float(len(order))

        return run

    found = sides.interleaved({"a": side("a"), "b": side("b")}, 3)
    assert "".join(order) == "abbaab"
    assert found == {"a": [1.0, 4.0, 5.0], "b": [2.0, 3.0, 6.0]}


def test_ratio_is_the_median_over_rounds():
    assert sides.ratio([1.0, 2.0, 90.0], [2.0, 2.0, 3.0]) == 1.0
    with pytest.raises(ValueError, match="zip"):
        sides.ratio([1.0], [1.0, 2.0])


def test_fastest_by_median():
    seconds = {"a": [1.0, 5.0, 5.0], "b": [4.0, 4.0, 4.0]}
    assert sides.fastest(seconds, ["a", "b", "never measured"]) == "b"
    assert sides.fastest(seconds, ["never measured"]) is None


def test_widths_of_convolutions_are_those_of_the_slimmed_network():
    graph = ChannelGraph(sides.NETWORKS["resnet8"].build())
    widths = graph.uniform(0.5)
    found = sides.convolution_widths(graph, widths)
    layers = graph.materialize(widths).layers
    assert found == {layer.name: layer.filters for layer in layers if isinstance(layer, keras.layers.Conv2D)}
    assert len(found) == 9


def test_floor_of_the_arms_that_are_timed():
    """One arm is the full network, the other the smallest: 1 + its share of the FLOPs."""
    graph = ChannelGraph(sides.NETWORKS["resnet8"].build())
    smallest = sides.Levels.spaced(graph).smallest
    share = graph.cost(smallest).flops / graph.cost().flops
    assert np.isclose(sides.arms_floor(graph, 2, 3), 1 + share)


def test_an_interpreter_without_pytorch(tmp_path):
    """Its own message comes through, as does that of one that is not there."""
    (tmp_path / "torch.py").write_text("raise ImportError('none here')")
    wrapper = tmp_path / "python"
    wrapper.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} "$@"\n')
    wrapper.chmod(0o755)
    with pytest.raises(sides.TorchError, match=r"has no PyTorch \(none here\)$"):
        sides.Torch(str(wrapper), 60.0)
    with pytest.raises(sides.TorchError, match="^/nowhere can't be started: No such file or directory$"):
        sides.Torch("/nowhere", 60.0)


@pytest.mark.long
def test_peak_memory_in_a_process_of_its_own():
    """Activations of 512 images alone take over 50 MB."""
    options = benchmark_training.parse(["--steps", "1"])
    assert benchmark_training._memory_of("resnet8", "plain", 512, options) > 50


@pytest.mark.long
def test_small_run(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sides, "PAUSE", 0)
    monkeypatch.setattr(benchmark_training, "SCALING", {"width": [(8, 8, 4)]})
    small = archs.resnet((8, 8, 1), 10, depth=8, width=4)
    batches = datasets.digits().training(32, pad=1)
    monkeypatch.setitem(benchmark_training.CASES, "digits", lambda folder: (batches, small))
    file = tmp_path / "training.json"
    parts = [part for part in benchmark_training.PARTS if part != "memory"]
    command = [
        "--parts",
        *parts,
        "--arch",
        "resnet8",
        "--batch",
        "4",
        "--rounds",
        "2",
        "--steps",
        "1",
        "--cases",
        "digits",
    ]
    command += ["--scaling", "width", "--results", str(file)]
    benchmark_training.main(command)
    printed = capsys.readouterr().out
    records = json.loads(file.read_text())["records"]
    assert set(records) == {
        "fit, resnet8, batch 4",
        "sandwich, resnet8, batch 4",
        "input, digits",
        "scaling, resnet8, width 8, batch 4",
    }
    assert all(len(times) == 2 for r in records.values() for times in r.get("seconds", {}).values())
    assert "resnet8: training step / Keras fit" in printed
    assert "digits: input pipeline / training step" in printed
    assert "torch: left out; name an interpreter that has PyTorch with --torch-python." in printed
    benchmark_training.main(command)
    assert json.loads(file.read_text())["records"] == records
