"""The stages in this process, tiny: what they leave, what they reuse, how they refuse what cannot work."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from runs import TINY, lasting

from autoslim import datasets
from autoslim.config import compose
from autoslim.errors import AutoslimError
from autoslim.slimming.latency import LatencyModel
from autoslim.stages import Outcome, run_stages
from autoslim.stages.experiment import Experiment


def run(output: Path, **settings: object) -> Outcome:
    """Run stages with the tiny settings; `__` in a name stands for a dot."""
    given = {name.replace("__", "."): value for name, value in settings.items()}
    return run_stages(compose({**TINY, "output": output, **given}))


def refused(output: Path, **settings: object) -> str:
    """The message with which stages are refused; paths under the output folder begin with OUT."""
    with pytest.raises(AutoslimError) as caught:
        run(output, **settings)
    return re.sub(r"-[0-9a-f]{10}", "-HASH", str(caught.value).replace(str(output), "OUT"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of all stages."""
    output = tmp_path_factory.mktemp("whole")
    run(output)
    return output


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    """A copy of that output, to do harm to."""
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def folder(output: Path, stage: str) -> Path:
    """The folder of a stage."""
    (found,) = (output / "resnet8-digits").glob(f"{stage}-*")
    return found


# -- what the stages leave --------------------------------------------------------------------------------


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


def results(output: Path, *stages: str) -> list[dict]:
    """The results of stages."""
    return [json.loads((folder(output, stage) / "result.json").read_text()) for stage in stages]


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


# -- refused before anything is trained -------------------------------------------------------------------

REFUSED = [
    (
        {"slim__target": 0.1},
        "Cannot reach flops <= 0.1: with every group at its smallest level the network still costs 0.256 of "
        "the full one's flops. Lower slim.min_width or slim.divisor, or raise slim.target to 0.257 or more.",
    ),
    (
        {"slim__target": 0.005, "stages": "[baseline,uniform]"},
        "Cannot reach flops <= 0.005 uniformly: with the smallest multiple of slim.divisor=4 in every group "
        "the network still costs 0.139 of the full one's flops, or is above another limit. Raise slim.target "
        "or slim.limits, or lower slim.divisor.",
    ),
    (
        {"slim__freeze": '["*"]'},
        "No channel group can be slimmed: 0 of 8 groups are not frozen, and none has a second width at "
        "slim.min_width=0.5, slim.divisor=4. Freeze less, or lower slim.divisor.",
    ),
    (
        {"stages": "[baseline,search]"},
        "The search needs the result of stage supernet, and OUT/resnet8-digits/supernet-HASH has none: run "
        "it first, or together with this one: stages=[supernet,...].",
    ),
    (
        {"stages": "[baseline,supernet,retrain]"},
        "retrain (or give slim.channels=FILE) needs the result of stage search, and OUT/resnet8-digits/"
        "search-HASH has none: run it first, or together with this one: stages=[search,...].",
    ),
    (
        {"stages": "[baseline,uniform]"},
        "uniform with retrain.init=supernet (retrain.init=scratch does without) needs the result of stage "
        "supernet, and OUT/resnet8-digits/supernet-HASH has none: run it first, or together with this one: "
        "stages=[supernet,...].",
    ),
    (
        {"stages": "[supernet,uniform]", "retrain__teacher": "baseline"},
        "uniform with retrain.teacher=baseline needs the result of stage baseline, and OUT/resnet8-digits/"
        "baseline-HASH has none: run it first, or together with this one: stages=[baseline,...].",
    ),
    (
        {"stages": "[report]"},
        "stages=[report] alone has nothing to report: name the stages whose results it should read too (they "
        "are reused where they are done), such as stages=[baseline,supernet,search,retrain,uniform,report].",
    ),
    (
        {"dataset__train_images": 10},
        "Cannot hold out images for the search: class 0 has one training image. Expected at least 2 of every "
        "class. Raise dataset.train_images, or use more data.",
    ),
    (
        {"dataset": "fashion_mnist", "dataset__path": "/nowhere"},
        "dataset.path=/nowhere does not exist: expected a folder with fashion_mnist.npz or the IDX files "
        "train-images-idx3-ubyte[.gz] and its three companions, or one .npz file. Correct dataset.path.",
    ),
]


@pytest.mark.parametrize(("settings", "message"), REFUSED)
def test_refused_before_anything_is_trained(
    tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    assert refused(tmp_path, **settings) == message
    assert list(tmp_path.iterdir()) == []


CHANNELS = [
    ("nosuch: 3\n", "slim.channels=FILE: No channel group is named 'nosuch'. Nearest: image, "),
    ("stem_conv: 9\n", "slim.channels=FILE: Width 9 of group 'stem_conv' is not possible: "),
    ("stem_conv: 0\n", "slim.channels=FILE: Width 0 of group 'stem_conv' is not possible: "),
    (
        "stem_conv: 3.5\n",
        "slim.channels=FILE: Width 3.5 of group 'stem_conv' is not a whole number of channels.",
    ),
    ("logits: 5\n", "slim.channels=FILE: Width 5 of group 'logits' is not possible: "),
    ("- stem_conv\n", "slim.channels=FILE holds list; expected lines 'group: width'."),
    ("", "slim.channels=FILE holds nothing; expected lines 'group: width'."),
    ("a: [\n", "slim.channels=FILE is not valid YAML: "),
    ("\udcff\udcfe", "slim.channels=FILE is not valid YAML: "),
    (
        None,
        "slim.channels=FILE can't be read: No such file or directory. A search leaves such files "
        "in its folder; autoslim comes with autoslim_",
    ),
]


@pytest.mark.parametrize(("text", "message"), CHANNELS)
def test_a_channels_file_that_does_not_fit(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "channels.yaml"
    if text is not None:
        path.write_text(text, errors="surrogateescape")
    said = refused(
        tmp_path / "out", slim__channels=path, stages="[baseline,retrain]", retrain__init="scratch"
    )
    assert said.replace(str(path), "FILE").startswith(message)
    assert not (tmp_path / "out").exists()


# -- damage -----------------------------------------------------------------------------------------------


def truncate(path: Path, share: float) -> None:
    """Keep only the first part of a file."""
    os.truncate(path, int(path.stat().st_size * share))


@pytest.mark.parametrize("share", [0.0, 0.5])
@pytest.mark.parametrize("stage", ["baseline", "supernet", "search", "retrain"])
def test_a_damaged_result(copy: Path, stage: str, share: float) -> None:
    truncate(folder(copy, stage) / "result.json", share)
    said = refused(copy)
    assert said.startswith(f"OUT/resnet8-digits/{stage}-HASH/result.json is damaged (")
    assert said.endswith(f"Remove the folder OUT/resnet8-digits/{stage}-HASH to run stage {stage} again.")


@pytest.mark.parametrize("text", ["{}", "[]", "3", '{"top1": 1}'])
def test_a_result_that_lacks_something(copy: Path, text: str) -> None:
    (folder(copy, "retrain") / "result.json").write_text(text)
    assert "result.json is damaged (" in refused(copy)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"points": []}', '{"groups": 3}'])
def test_a_damaged_trajectory(copy: Path, text: str) -> None:
    (folder(copy, "search") / "trajectory.json").write_text(text)
    said = refused(copy)
    assert said.startswith(
        "OUT/resnet8-digits/search-HASH/trajectory.json is damaged or of another network ("
    )
    assert said.endswith("Remove the folder OUT/resnet8-digits/search-HASH to search again.")


def test_a_trajectory_of_another_network(copy: Path) -> None:
    path = folder(copy, "search") / "trajectory.json"
    data = json.loads(path.read_text())
    data["groups"][1] = "other"
    path.write_text(json.dumps(data))
    assert "is damaged or of another network" in refused(copy)


@pytest.mark.parametrize("share", [0.0, 0.5, None])
def test_damaged_weights(copy: Path, share: float | None) -> None:
    path = folder(copy, "supernet") / "full.weights.h5"
    path.unlink() if share is None else truncate(path, share)
    shutil.rmtree(folder(copy, "retrain"))
    said = refused(copy, stages="[retrain]")
    what = "is missing." if share is None else "is damaged: it holds "
    assert said.startswith(f"OUT/resnet8-digits/supernet-HASH/full.weights.h5 {what}")
    assert said.endswith("Stage supernet makes it again: stages=[supernet,...].")


@pytest.mark.slow
@pytest.mark.parametrize(
    "stage, name",
    [
        ("retrain", "model.keras"),
        pytest.param("retrain", "channels.yaml", marks=pytest.mark.long),
        ("supernet", "full.weights.h5"),
        pytest.param("search", "trajectory.csv", marks=pytest.mark.long),
    ],
)
def test_what_is_damaged_is_made_again_from_what_is_whole(
    copy: Path, caplog: pytest.LogCaptureFixture, stage: str, name: str
) -> None:
    place = folder(copy, stage)
    before, path = lasting(place / "result.json"), place / name
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    run(copy)
    assert f"{path} is damaged: its content is not what was written: {stage}" in caplog.text
    after = lasting(place / "result.json")
    assert after.keys() == before.keys() and after.get("flops") == before.get("flops")
    assert after.get("loss") == pytest.approx(before.get("loss"), abs=1e-4)
    if not name.endswith((".keras", ".h5")):  # these hold times
        assert path.read_bytes() == content
    caplog.clear()
    run(copy)
    assert "is damaged" not in caplog.text


def unfinished(output: Path, stage: str) -> Path:
    """Make a stage unfinished, with its checkpoints: the checkpoints' folder."""
    (folder(output, stage) / "result.json").unlink()
    return folder(output, stage) / "checkpoints"


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_damaged_checkpoint(copy: Path, share: float) -> None:
    (path,) = unfinished(copy, "supernet").glob("*.data*")
    truncate(path, share)
    said = refused(copy)
    assert said.startswith("Checkpoint OUT/resnet8-digits/supernet-HASH/checkpoints/ckpt-")
    assert "is damaged (" in said and said.endswith(
        "Put back the file as it was, or remove the folder OUT/resnet8-digits/supernet-HASH/checkpoints to "
        "train this stage from its beginning."
    )


@pytest.mark.slow
def test_a_damaged_list_of_checkpoints(copy: Path) -> None:
    (unfinished(copy, "baseline") / "checkpoint").write_text("model_checkpoint_path: \x00{")
    run(copy, stages="[baseline]")  # the checkpoints themselves are found without it


@pytest.mark.long
def test_a_checkpoint_of_another_network(copy: Path, tmp_path: Path) -> None:
    run(tmp_path / "other", arch__width=12, stages="[baseline]")
    place = unfinished(copy, "baseline")
    shutil.rmtree(place)
    shutil.copytree(folder(tmp_path / "other", "baseline") / "checkpoints", place)
    said = refused(copy)
    assert said.startswith("Checkpoint OUT/resnet8-digits/baseline-HASH/checkpoints/ckpt-")
    assert "is of another network or optimizer: it holds stem_conv" in said


def test_a_damaged_config_file_harms_nobody(copy: Path) -> None:
    (folder(copy, "baseline") / "config.yaml").write_text("")
    run(copy, stages="[baseline]")


# -- training that fails, networks of one's own -----------------------------------------------------------


def test_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    settings = {"optimizer__learning_rate": 1e9, "baseline__epochs": 9, "stages": "[baseline]"}
    said = refused(tmp_path, **settings)
    assert re.match(r"train/loss became NaN or infinite at step \d+ of 27\. ", said)
    assert said.endswith("Lower optimizer.learning_rate, or set optimizer.clipnorm.")
    assert not (folder(tmp_path, "baseline") / "result.json").exists()


NETS = """
from keras import Input, Model, layers

def net(input_shape, classes, width=8):
    x = Input(input_shape)
    y = layers.Conv2D(width, 3, name="conv")(x)
    y = layers.BatchNormalization(name="norm")(y)
    y = layers.Flatten()(layers.ReLU()(y))
    return Model(x, layers.Dense(classes, name="logits")(y))

def raises(input_shape, classes):
    raise RuntimeError("no such thing")

def leaves(input_shape, classes):
    raise SystemExit(3)

class Subclassed(Model):
    pass

def subclassed(input_shape, classes):
    return Subclassed()

def linear(input_shape, classes):
    x = Input(input_shape)
    return Model(x, layers.Dense(classes)(layers.Flatten()(x)))
"""

OWN = [
    ("raises", "stage_nets.raises failed with RuntimeError: no such thing\n"),
    ("leaves", "stage_nets.leaves failed with SystemExit: 3\n"),
    ("subclassed", "stage_nets.subclassed returned a Subclassed: expected a Keras functional model."),
    ("linear", "No channel group can be slimmed: 0 of 2 groups are not frozen, and none has a second width"),
    ("nosuch", "arch._target_=stage_nets.nosuch: stage_nets has no nosuch."),
]


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module of one's own."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    path = tmp_path / "stage_nets.py"
    path.write_text(NETS)
    yield path
    sys.modules.pop("stage_nets", None)


def own(output: Path, name: str, **settings: object) -> Outcome:
    """Stages on a network of one's own."""
    tiny = {key: value for key, value in TINY.items() if not key.startswith("arch")}
    given = {"arch": "custom", "arch._target_": f"stage_nets.{name}", "output": output, **settings}
    return run_stages(compose({**tiny, **given}))


@pytest.mark.parametrize(("name", "message"), OWN)
def test_a_network_that_does_not_fit(nets: Path, tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(AutoslimError) as caught:
        own(tmp_path / "out", name)
    assert str(caught.value).startswith(message)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_network_that_was_edited_has_a_folder_of_its_own(nets: Path, tmp_path: Path) -> None:
    first = own(tmp_path / "out", "net", stages="[baseline]").folders["baseline"]
    assert own(tmp_path / "out", "net", stages="[baseline]").folders["baseline"] == first
    nets.write_text(NETS.replace("layers.ReLU()", "layers.Activation('tanh')"))
    sys.modules.pop("stage_nets")
    assert own(tmp_path / "out", "net", stages="[baseline]").folders["baseline"] != first


# -- two processes ----------------------------------------------------------------------------------------

HOLD = """
import sys
from pathlib import Path
from autoslim.stages.store import StageFolder
folder = StageFolder(Path(sys.argv[1]), "baseline", {})
folder.path = Path(sys.argv[2])
with folder.locked(0):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_processes_on_one_stage(copy: Path) -> None:
    place = folder(copy, "baseline")
    (place / "result.json").unlink()
    command = [sys.executable, "-c", HOLD, str(copy), str(place)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        said = refused(copy)
        expected = (
            rf"OUT/resnet8-digits/baseline-HASH is being written by process {holder.pid} on \S+\. Let that "
            r"finish, or wait for it with lock_wait=SECONDS\."
        )
        assert re.fullmatch(expected, said)
        assert run(copy, stages="[supernet,search,retrain]").rows  # what is done needs no lock
        holder.kill()
        holder.wait()
        assert run(copy, stages="[baseline]").rows  # a lock dies with its process
    finally:
        holder.kill()
        holder.communicate()


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


# -- networks retrained as one ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def together(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """The output of retraining two targets as one."""
    output = Path(shutil.copytree(whole, tmp_path_factory.mktemp("joint") / "copy"))
    shutil.rmtree(folder(output, "retrain"))
    return output, run(output, slim__target="[0.7,0.5]", retrain="joint", stages=JOINT)


JOINT = "[baseline,supernet,search,retrain,report]"


@pytest.mark.long
def test_networks_retrained_as_one_are_reported_as_others(together: tuple[Path, Outcome]) -> None:
    output, outcome = together
    assert [(row["network"], row["target"]) for row in outcome.rows] == [
        ("baseline", None),
        ("autoslim", 0.7),
        ("autoslim", 0.5),
    ]
    report = (Path(outcome.folders["report"]) / "report.md").read_text()
    assert "AutoSlim 0.7" in report and "AutoSlim 0.5" in report
    assert "- supernet + search + retrain 0.7 + retrain 0.5: " in report
    parts = [Path(outcome.folders[f"retrain {target}"]) for target in ("0.7", "0.5")]
    for part in parts:
        assert {"model.keras", "channels.yaml", "full.weights.h5", "result.json"} <= set(os.listdir(part))
    baseline, joint = results(output, "baseline", "joint")
    wide, narrow = (json.loads((part / "result.json").read_text()) for part in parts)
    assert joint["bill"] == pytest.approx(wide["bill"] + narrow["bill"])
    assert narrow["bill"] == pytest.approx(narrow["flops"] / baseline["flops"])
    assert [set(epoch) for epoch in narrow["history"]] == [{"epoch", "train/loss", "train/top1"}]


@pytest.mark.long
def test_they_share_weights_but_no_batch_norms(together: tuple[Path, Outcome]) -> None:
    import keras

    models = [
        keras.saving.load_model(Path(together[1].folders[f"retrain {target}"]) / "model.keras")
        for target in ("0.7", "0.5")
    ]
    wide, narrow = ({v.path: np.asarray(v) for v in model.variables} for model in models)
    assert wide.keys() == narrow.keys()
    for path, value in narrow.items():
        corner = wide[path][tuple(slice(n) for n in value.shape)]
        if path.endswith("/gamma"):
            assert (value != corner).all(), path
        elif path.endswith("/kernel"):
            np.testing.assert_array_equal(value, corner)


@pytest.mark.long
def test_a_part_that_was_lost_is_made_anew(together: tuple[Path, Outcome], tmp_path: Path) -> None:
    """From the checkpoint, without training."""
    output = Path(shutil.copytree(together[0], tmp_path / "copy"))
    (place,) = (
        path for path in output.glob("*/retrain-*") if path.name in together[1].folders["retrain 0.5"]
    )
    before = lasting(place / "result.json")
    shutil.rmtree(place)
    run(output, slim__target="[0.7,0.5]", retrain="joint", stages=JOINT)
    assert lasting(place / "result.json") == before
