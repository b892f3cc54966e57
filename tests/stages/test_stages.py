"""The stages in this process, tiny: what they leave, and what they reuse."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from runs import TINY
from staged import folder, refused, results, run

from autoslim import datasets
from autoslim.config import compose
from autoslim.slimming.latency import LatencyModel
from autoslim.stages import run_stages
from autoslim.stages.experiment import Experiment


def test_all_stages_leave_what_they_promise(whole: Path) -> None:
    for stage in ("baseline", "supernet", "search", "retrain", "uniform", "report"):
        assert {"result.json", "config.yaml"} <= {path.name for path in folder(whole, stage).iterdir()}
    assert list(folder(whole, "search").glob("channels_0.5.yaml"))
    assert (folder(whole, "retrain") / "model.keras").exists()
    assert (folder(whole, "report") / "report.md").exists()
    result = json.loads((folder(whole, "retrain") / "result.json").read_text())
    assert result["top1"] == result["correct"].count("1") / 360 and result["test_images"] == 360
    channels = yaml.safe_load((folder(whole, "retrain") / "channels.yaml").read_text())
    assert channels == yaml.safe_load((folder(whole, "search") / "channels_0.5.yaml").read_text())
    left = [path.name for path in whole.glob("*/*/.*") if path.name != ".lock"]
    assert left == []


def test_what_is_done_is_reused(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {
        path: path.stat().st_mtime_ns for path in whole.glob("*/*/result.json") if "report" not in str(path)
    }
    outcome = run(whole)
    printed = capsys.readouterr().out
    assert printed.count("done before, reused: ") == 5
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert [row["network"] for row in outcome.rows] == ["baseline", "autoslim", "uniform"]
    for text in (*outcome.folders.values(), "network", "top-1", f"tensorboard --logdir {whole}"):
        assert text in printed


def test_the_report_reads_what_other_calls_did(copy: Path) -> None:
    outcome = run(copy, stages="[baseline,retrain,report]")
    text = (Path(outcome.folders["report"]) / "report.md").read_text()
    assert "AutoSlim 0.5" in text and "baseline" in text and "uniform 0.5" not in text


def test_every_stage_says_what_it_cost(whole: Path) -> None:
    """In units of the baseline's training on 120 images; the supernet sees two batches of 40 of them."""
    baseline, supernet, search, *small = results(
        whole, "baseline", "supernet", "search", "retrain", "uniform"
    )
    unit = 3 * baseline["flops"] * 120
    assert (baseline["bill"], baseline["macs"], baseline["bill_unit"]) == (1.0, unit, unit)
    assert supernet["bill"] == pytest.approx(supernet["arms_cost"] * 80 / 120)
    assert search["holdout_images"] == 20
    assert search["bill"] == pytest.approx(search["passes"] * 20 / (3 * 120))
    for result in small:
        assert result["bill"] == pytest.approx(result["flops"] / baseline["flops"])


def test_the_bill_without_a_baseline(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A baseline of twice the epochs, which is not run, halves the bill; stages run before are on it."""
    before = results(copy, "supernet", "search", "retrain")
    run(copy, stages="[retrain]", baseline__epochs=2)
    parts = [result["bill"] / 2 for result in before]
    line = (
        "bill, retrain 0.5: {:.3f} baseline trainings (supernet {:.3f} + search {:.3f} + retrain 0.5 {:.3f})"
    )
    assert line.format(sum(parts), *parts) in capsys.readouterr().out


@pytest.mark.slow
def test_a_teacher_is_on_the_bill(copy: Path) -> None:
    """Its pass for every image is a third of a full-width training step."""
    (before,) = results(copy, "retrain")
    outcome = run(copy, stages="[baseline,retrain]", retrain__teacher="baseline")
    result = json.loads((Path(outcome.folders["retrain 0.5"]) / "result.json").read_text())
    assert result["bill"] == pytest.approx(before["bill"] + 1 / 3)


def test_a_lower_target_goes_on_with_the_search(copy: Path) -> None:
    path = folder(copy, "search") / "trajectory.json"
    before = json.loads(path.read_text())["points"]
    assert before[-1]["share"] > 0.3
    run(copy, stages="[supernet,search]", slim__target=0.3)
    after = json.loads(path.read_text())["points"]
    assert after[: len(before)] == before and len(after) > len(before)
    assert (path.parent / "channels_0.3.yaml").exists()


def test_a_search_that_ends_early_serves_the_targets_that_it_met(
    copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As when measured times change under way: all is at its smallest, and a target is still not met."""
    path = folder(copy, "search") / "trajectory.json"
    written = json.loads(path.read_text())
    smallest = Experiment(compose({**TINY, "output": copy})).levels.smallest.tolist()
    written["points"][-1] |= {"widths": smallest, "share": 0.45}
    path.write_text(json.dumps(written))
    (path.parent / "result.json").unlink()
    outcome = run(copy, stages="[search,retrain]", slim__target="[0.5,0.4]")
    assert [row["target"] for row in outcome.rows] == [0.5]
    ours = [record for record in caplog.records if record.name.startswith("autoslim")]
    messages = [record.getMessage() for record in ours if record.levelname == "WARNING"]
    messages = [message for message in messages if "is near chance" not in message]  # after one epoch
    assert "The search ended at 0.450 of the full network's flops" in messages[0]
    assert messages[1:] == ["retrain: no network for slim.target=0.4, which the search did not reach"]
    message = "reached 0.450 of the full flops, not 0.4. Add search to stages: it goes on from there."
    assert refused(copy, stages="[retrain]", slim__target=0.4).endswith(message)


def test_a_channels_file_is_retrained(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    channels = yaml.safe_load((folder(whole, "search") / "channels_0.5.yaml").read_text())
    channels["stage3_block1_conv1"] = 17
    path.write_text(yaml.safe_dump(channels))
    outcome = run(
        tmp_path, stages="[supernet,search,retrain,uniform]", slim__channels=path, retrain__init="scratch"
    )
    assert sorted(name.split()[0] for name in outcome.folders) == ["retrain", "uniform"]
    mine, uniform = outcome.rows
    (name,) = (name for name in outcome.folders if name.startswith("retrain"))
    assert yaml.safe_load((Path(outcome.folders[name]) / "channels.yaml").read_text()) == channels
    assert uniform["flops"] <= mine["flops"] and name == f"retrain {mine['flops_share']:.3g}"


@pytest.mark.slow
def test_a_teacher_makes_the_supernet_needed(copy: Path) -> None:
    """With a channels file and fresh weights, but the supernet as teacher, the supernet is not left out."""
    path = folder(copy, "search") / "channels_0.5.yaml"
    settings = {"slim__channels": path, "retrain__init": "scratch", "retrain__teacher": "supernet"}
    outcome = run(copy, stages="[supernet,retrain]", **settings)
    assert "supernet" in outcome.folders


@pytest.mark.slow
class Untouchable:
    """Stands for images that nobody may look at."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"the search asked for {name} of the test images")

    def __getitem__(self, index: object) -> object:
        raise AssertionError("the search read test images")

    def __array__(self, *args: object, **kwargs: object) -> np.ndarray:
        raise AssertionError("the search read test images")


@pytest.mark.parametrize("more", [{}, {"slim__search": "halving", "slim__lazy": "true", "slim__exchange": 1}])
def test_no_test_image_is_read(copy: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, object]) -> None:
    load = datasets.load

    def hidden(*args: object, **kwargs: object) -> datasets.Dataset:
        found = load(*args, **kwargs)
        assert isinstance(found, datasets.ArrayDataset)
        assert found.fingerprint  # of all bytes: it names folders
        found.test_images = found._test = Untouchable()
        found._labels = found.train_labels, Untouchable()
        return found

    monkeypatch.setattr(datasets, "load", hidden)
    shutil.rmtree(folder(copy, "search"))
    run(copy, stages="[search]", **more)
    assert (folder(copy, "search") / "result.json").exists()


def test_full_target_is_the_full_network(copy: Path) -> None:
    outcome = run(copy, stages="[supernet,search,retrain]", slim__target=1.0)
    assert outcome.rows[0]["flops_share"] == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("resource", ["params", "memory"])
def test_other_resources(copy: Path, resource: str) -> None:
    outcome = run(copy, stages="[supernet,search]", slim__resource=resource, slim__target=0.8)
    result = json.loads((Path(outcome.folders["search"]) / "result.json").read_text())
    assert result["reached"] <= 0.8


MEASURED = {"slim__resource": "latency", "slim__measure": "runs.parameters", "slim__target": 0.6}


@pytest.mark.long
def test_latency_is_reported_beside_what_was_measured(copy: Path) -> None:
    outcome = run(copy, **MEASURED)
    report = (Path(outcome.folders["report"]) / "report.md").read_text()
    section = report.split("## Latency")[1].split("##")[0]
    lines = [re.split(r" *\| *", line.strip("| ")) for line in section.splitlines() if line.startswith("| ")]
    assert lines[0][-1] == "measured / predicted"
    shares = {line[0]: float(line[4]) for line in lines[2:]}
    assert list(shares) == ["full", "AutoSlim 0.6", "uniform 0.6"]
    full = outcome.rows[0]["params"]
    assert shares.pop("full") == 1.0
    assert all(0.4 < share <= 0.6 * 1.02 for share in shares.values())
    for name, share in zip(("autoslim", "uniform"), shares.values(), strict=True):
        (row,) = (row for row in outcome.rows if row["network"] == name)
        assert share == pytest.approx(row["params"] / full, abs=0.02)  # batch norm's statistics aside
    assert list((copy / "latency").glob("*.json"))
    assert "warnings" not in json.loads((Path(outcome.folders["search"]) / "result.json").read_text())


def test_a_measurement_that_nothing_asks_for_is_told(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(copy, stages="[supernet,search]", slim__measure="runs.parameters")
    assert "slim.measure=runs.parameters measures nothing: slim.resource=flops" in caplog.text


@pytest.mark.slow
def test_a_network_that_stays_above_its_latency_is_a_warning(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def learn(self: LatencyModel, networks: list[np.ndarray], target: float) -> list[float]:
        asked.append(target)
        return [target * 1.1]

    monkeypatch.setattr(LatencyModel, "learn", learn)
    outcome = run(copy, stages="[supernet,search]", **MEASURED)
    (warning,) = json.loads((Path(outcome.folders["search"]) / "result.json").read_text())["warnings"]
    assert warning.startswith("the network for slim.target=0.6 was measured at 0.660 of the full one's")
    assert asked == [0.6] * 4


ARCHS = ("resnet20", "resnet56", "wresnet16_1", "wresnet40_4", "mobilenet_v2")


@pytest.mark.parametrize("dataset", ["digits", "fashion_mnist", "cifar10", "cifar100"])
def test_describe_reads_no_data(tmp_path: Path, capsys: pytest.CaptureFixture[str], dataset: str) -> None:
    config = compose(
        {"output": tmp_path / "out", "stages": "[describe]", "dataset": dataset, "dataset.path": "/nowhere"}
    )
    run_stages(config)
    printed = capsys.readouterr().out
    assert re.search(r"FLOPs +\d[\d,]* *\n", printed) and re.search(r"parameters +\d[\d,]* *\n", printed)
    assert "stage1_block1_conv1" in printed and not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHS)
def test_describe_every_network(tmp_path: Path, capsys: pytest.CaptureFixture[str], arch: str) -> None:
    run_stages(compose({"output": tmp_path, "stages": "[describe]", "arch": arch}))
    assert re.search(r"FLOPs +\d[\d,]* *\n", capsys.readouterr().out)


def test_top1_is_of_the_test_images(whole: Path) -> None:
    """The saved model, run by hand on the normalised test images, has the accuracy that is written."""
    import keras

    from autoslim import datasets

    place = folder(whole, "baseline")
    result = json.loads((place / "result.json").read_text())
    model = keras.models.load_model(place / "model.keras", compile=False)
    data = datasets.digits()
    normal = result["normalization"]
    images = (data.test_images / np.float32(255) - np.float32(normal["mean"])) / np.float32(normal["std"])
    guesses = np.argmax(model.predict(images, verbose=0), 1)
    assert np.mean(guesses == data.test_labels) == pytest.approx(result["top1"], abs=1 / 360)
