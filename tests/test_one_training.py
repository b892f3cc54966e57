"""Slimming a trained network without a supernet, and supernets that start from sorted channels."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from runs import TINY

from autoslim.config import compose
from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.stages import Outcome, run_stages
from autoslim.stages.experiment import Experiment
from autoslim.stages.supernet import initial_supernet

STAGES = "[baseline,supernet,search,retrain]"


def run(output: Path, **settings: object) -> Outcome:
    given = {name.replace("__", "."): value for name, value in settings.items()}
    return run_stages(compose({**TINY, "output": output, "stages": STAGES, **given}))


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("one")


@pytest.fixture(scope="module")
def from_baseline(output: Path) -> Outcome:
    return run(output, slimming="taylor")


def test_the_baseline_is_sorted_searched_and_fine_tuned_and_no_supernet_is_trained(
    from_baseline: Outcome,
) -> None:
    assert [row["network"] for row in from_baseline.rows] == ["baseline", "taylor"]
    result = json.loads((Path(from_baseline.folders["supernet"]) / "result.json").read_text())
    assert result["history"] == []
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype(np.float32)
    baseline = keras.saving.load_model(Path(from_baseline.folders["baseline"]) / "model.keras")
    expected, order = baseline.predict(x, verbose=0), baseline.get_weights()
    baseline.load_weights(Path(from_baseline.folders["supernet"]) / "full.weights.h5")
    np.testing.assert_allclose(baseline.predict(x, verbose=0), expected, atol=1e-5)
    assert any((a != b).any() for a, b in zip(order, baseline.get_weights(), strict=True))


def test_the_trained_network_is_on_the_bill_of_what_was_cut_from_it(
    from_baseline: Outcome, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(output, slimming="taylor")
    assert "baseline trainings (baseline 1.000 + supernet " in capsys.readouterr().out


def test_a_given_network_is_slimmed_without_any_training_of_the_full_one(
    from_baseline: Outcome, output: Path
) -> None:
    path = Path(from_baseline.folders["baseline"]) / "model.keras"
    arch = {"arch": "keras_file", "arch.path": path, "arch.name": "mine"}
    tiny = {key: value for key, value in TINY.items() if not key.startswith("arch")}
    found = run_stages(compose({**tiny, **arch, "output": output, "stages": STAGES, "slimming": "magnitude"}))
    assert [row["network"] for row in found.rows] == ["given", "magnitude"]
    assert "baseline" not in found.folders
    again = run_stages(compose({**tiny, **arch, "output": output, "stages": STAGES, "slimming": "magnitude"}))
    assert again.rows == found.rows


def test_a_stage_that_lacks_the_trained_network_says_so(tmp_path: Path) -> None:
    with pytest.raises(AutoslimError, match=r"slimming=taylor of a network without trained weights needs"):
        run(tmp_path, slimming="taylor", stages="[supernet]")


@pytest.mark.parametrize("sort", [True, False])
def test_a_supernet_starts_from_the_trained_weights_sorted_or_as_they_are(
    from_baseline: Outcome, output: Path, sort: bool
) -> None:
    path = Path(from_baseline.folders["baseline"]) / "model.keras"
    tiny = {key: value for key, value in TINY.items() if not key.startswith("arch")}
    arch = {"arch": "keras_file", "arch.path": path, "arch.name": "mine", "supernet.sort": sort}
    one = Experiment(compose({**tiny, **arch, "output": output}))
    first = initial_supernet(one.supernet, one.builder, one.own_weights)
    given = keras.saving.load_model(path)
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype(np.float32)
    np.testing.assert_allclose(first(x), given(x), atol=1e-5)
    same = all((a == b).all() for a, b in zip(first.get_weights(), given.get_weights(), strict=True))
    assert same != sort
    graph = ChannelGraph(first)
    norms = np.square(graph.model.layers[-1].kernel.numpy()).sum(1)
    assert (np.diff(norms) <= 1e-6).all() == sort  # the last stream is read by the logits and the last block
