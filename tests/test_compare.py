"""What is compared with what: by which recipe, under which name, on which bill."""

import json
import re
import time
from pathlib import Path

import pytest
import yaml
from runs import SMALL

from autoslim.config import compose
from autoslim.reporting.bill import Bill
from autoslim.reporting.network import NetworkResult
from autoslim.resources import Cost
from autoslim.stages import Outcome, run_stages
from autoslim.stages.clock import elapsed
from autoslim.stages.report import trained_apart


def run(output: Path, **settings: object) -> Outcome:
    """Run stages with the tiny settings; `__` in a name stands for a dot."""
    given = {name.replace("__", "."): value for name, value in settings.items()}
    return run_stages(compose({**SMALL, "output": output, **given}))


def result(folder: str) -> dict:
    """What a stage left."""
    return json.loads((Path(folder) / "result.json").read_text())


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runs of this module lie."""
    return tmp_path_factory.mktemp("compare")


@pytest.fixture(scope="module")
def joint(output: Path) -> Outcome:
    """A run that trains its networks jointly."""
    return run(output, retrain="joint", slim__target="[0.7,0.5]")


def test_uniform_networks_are_trained_jointly_where_the_others_are(joint: Outcome) -> None:
    """The keys of both differ in the channels only: of the networks, and of those trained with them."""
    keys = [
        yaml.safe_load((Path(joint.folders[label]) / "config.yaml").read_text())
        for label in ("joint", "joint uniform")
    ]
    assert [len(key.pop("channels")) for key in keys] == [2, 2]
    assert keys[0] == keys[1]
    trained = result(joint.folders["joint uniform"])["networks"]
    assert trained == {name: joint.folders[f"uniform {name}"] for name in ("0.7", "0.5")}
    assert [row["network"] for row in joint.rows] == ["baseline", *["autoslim"] * 2, *["uniform"] * 2]


def test_the_report_says_what_is_of_the_training(joint: Outcome) -> None:
    text = (Path(joint.folders["report"]) / "report.md").read_text()
    assert "trained by one recipe, from the supernet's weights (epochs: 1), the networks of one" in text
    assert "its difference from a slim network is of the training and the channels together." in text


def test_methods_that_trained_other_targets_together_have_no_recipe_in_common() -> None:
    """Here the search missed 0.3, which uniform met: its kernels served three networks, not two."""

    def trained(kind: str, *targets: float) -> list[NetworkResult]:
        return [NetworkResult(kind, t, 0.9, 0.3, Cost({}), {}, f"{kind}-{t}") for t in targets]

    ours = trained("autoslim", 0.7, 0.5)
    assert trained_apart([*ours, *trained("uniform", 0.5, 0.7)]) == ""
    told = trained_apart([*trained("uniform", 0.7, 0.5, 0.3), *ours, *trained("baseline", None)])
    assert "(AutoSlim 0.7, 0.5; uniform 0.7, 0.5, 0.3)" in told


def test_time_of_networks_trained_jointly_is_that_of_the_training(joint: Outcome) -> None:
    parts = [result(joint.folders[f"retrain {name}"])["seconds"] for name in ("0.7", "0.5")]
    whole = result(joint.folders["joint"])["seconds"]
    assert min(parts) > 0 and sum(parts) <= whole + 0.2


def test_a_file_of_this_supernets_search_is_known_by_its_widths(
    joint: Outcome, output: Path, tmp_path: Path
) -> None:
    """Wherever it lies; with another width it is hand-made, and no search is on its bill."""
    (found,) = Path(joint.folders["search"]).glob("channels_0.5.yaml")
    channels = yaml.safe_load(found.read_text())
    mine = tmp_path / "mine.yaml"
    mine.write_text(yaml.safe_dump(channels))
    stages = "[retrain,report]"
    copied = run(output, slim__channels=mine, stages=stages)
    assert [row["network"] for row in copied.rows] == ["autoslim"]
    text = (Path(copied.folders["report"]) / "report.md").read_text()
    assert "| search " in text and re.search(r"- supernet \+ search \+ retrain 0\.\d+: ", text)
    name = next(name for name in channels if name == "conv3")
    found.write_text(yaml.safe_dump({**channels, name: channels[name] - 1}))  # edited where it lies
    edited = run(output, slim__channels=found, stages=stages)
    assert [row["network"] for row in edited.rows] == ["channels"]
    text = (Path(edited.folders["report"]) / "report.md").read_text()
    assert "AutoSlim" not in text and re.search(r"\| hand-made 0\.\d+ ", text)
    assert "| supernet " in text and "| search " not in text


def test_times_add_up_over_calls_that_were_stopped(tmp_path: Path) -> None:
    path = tmp_path / "elapsed.json"
    path.write_text('{"seconds": 100}')
    with pytest.raises(KeyboardInterrupt), elapsed(path):
        time.sleep(0.2)
        raise KeyboardInterrupt
    assert 100.2 <= json.loads(path.read_text())["seconds"] < 110
    with elapsed(path) as seconds:
        assert seconds() >= 100.2


def test_a_kill_loses_some_seconds_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is written while the stage runs, not only at its end."""
    monkeypatch.setattr("autoslim.stages.clock.EVERY", 0.02)
    path = tmp_path / "elapsed.json"
    with elapsed(path):
        time.sleep(0.5)
        assert json.loads(path.read_text())["seconds"] > 0.1


def test_times_in_units_of_the_baseline() -> None:
    seconds = {"supernet": 50.0, "search": 20.0, "retrain 0.5": 30.0}
    stages = {"supernet": 0.3, "search": 0.1, "retrain 0.5": 0.25}
    line = "bill, retrain 0.5: 0.650 baseline trainings (supernet 0.300 + search 0.100 + retrain 0.5 0.250)"
    slim = ("retrain 0.5",)
    timed = Bill(stages, slim, False, seconds, 80.0, ("a, 2 CPU cores", "b, 4 CPU cores"))
    assert timed.lines() == [f"{line}; time 1:40, 1.250 of the baseline's"]
    assert "can't be compared" in timed.about_time()
    assert Bill(stages, slim, False, seconds).lines() == [f"{line}; time 1:40"]
    assert Bill(stages, slim).lines() == [f"{line}; time -"]


def test_a_stage_that_goes_on_in_another_environment_says_so(tmp_path, monkeypatch, caplog):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    path = tmp_path / "elapsed.json"
    for _ in range(2):
        with elapsed(path):
            pass
    assert not caplog.messages
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with elapsed(path):
        pass
    assert caplog.messages == [
        f"{tmp_path} was begun in another environment (variables {{}} before, {{'OMP_NUM_THREADS': '1'}} "
        "now): its last digits may differ from those of one that is run through."
    ]
    assert json.loads(path.read_text())["environment"]["variables"] == {"OMP_NUM_THREADS": "1"}
