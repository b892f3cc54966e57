"""Methods through the stages: each leaves the same files, is reused and resumed, and stands in one report."""

import csv
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import yaml
from runs import SMALL, TINY

from autoslim import sweep
from autoslim.config import compose
from autoslim.errors import AutoslimError
from autoslim.slimming.points import Score
from autoslim.slimming.trajectory import Point, Trajectory
from autoslim.stages import Outcome, run_stages
from autoslim.stages.scored import ScoreFile

SETTINGS = {**TINY, "slim.levels": 3, "slim.passes": 8}
METHODS = ("greedy", "random", "sensitivity", "uniform")


def run(output: Path, method: str, **settings: object) -> Outcome:
    given = {name.replace("__", "."): value for name, value in settings.items()}
    return run_stages(compose({"slimming": method, **SETTINGS, "output": output, **given}))


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """All methods, one after the other, in one folder."""
    output = tmp_path_factory.mktemp("methods")
    return {method: run(output, method) for method in METHODS}


def found_for(folder: Path, target: float) -> Point:
    """The network that a search found for a target, after what was given back."""
    return Trajectory.from_dict(json.loads((folder / "trajectory.json").read_text())).at(target)


def report(outcome: Outcome) -> str:
    return (Path(outcome.folders["report"]) / "report.md").read_text()


@pytest.mark.long
@pytest.mark.parametrize("method", METHODS)
def test_each_method_leaves_the_same_files(outcomes: dict[str, Outcome], method: str) -> None:
    folder = Path(outcomes[method].folders["search"])
    names = {path.name for path in folder.iterdir()}
    assert {"trajectory.json", "trajectory.csv", "channels_0.5.yaml", "result.json", "config.yaml"} <= names
    result = json.loads((folder / "result.json").read_text())
    trajectory = json.loads((folder / "trajectory.json").read_text())
    assert result["steps"] == len(trajectory["points"]) - 1 and result["reached"] <= 0.5
    with open(folder / "trajectory.csv") as file:
        rows = list(csv.DictReader(file))
    on_path = [row for row in rows if not row["widening"] and not row["exchange"]]
    assert [int(row["flops"]) for row in on_path] == [point["flops"] for point in trajectory["points"]]
    channels = yaml.safe_load((folder / "channels_0.5.yaml").read_text())
    assert tuple(channels.values()) == tuple(
        width
        for name, width in zip(trajectory["groups"], found_for(folder, 0.5).widths, strict=True)
        if name in channels
    )
    if method == "random":
        assert result["passes"] <= 8


@pytest.mark.long
def test_searches_differ_and_what_is_shared_is_done_once(outcomes: dict[str, Outcome]) -> None:
    for stage, count in (("search", 4), ("supernet", 1), ("baseline", 1)):
        assert len({outcome.folders[stage] for outcome in outcomes.values()}) == count
    kinds = {method: {row["network"] for row in outcome.rows} for method, outcome in outcomes.items()}
    assert kinds["greedy"] == {"baseline", "autoslim", "uniform"}
    assert kinds["random"] == {"baseline", "random", "uniform"}
    assert kinds["uniform"] == {"baseline", "uniform"}
    assert "retrain 0.5" not in outcomes["uniform"].folders  # its network is the stage's
    assert len(outcomes["uniform"].rows) == 2


@pytest.mark.long
def test_a_report_has_the_other_methods(outcomes: dict[str, Outcome]) -> None:
    first, third = report(outcomes["greedy"]), report(outcomes["sensitivity"])
    assert "## AutoSlim against uniform\n" in first and "random 0.5" not in first
    assert "## Sensitivity against other methods\n" in third
    labels = re.findall(r"^\| (\w+ 0\.5) +\|", third, re.M)
    assert labels[:4] == ["AutoSlim 0.5", "uniform 0.5", "random 0.5", "sensitivity 0.5"]
    assert re.search(r"held-out images: sensitivity [\d.]+, AutoSlim [\d.]+, random [\d.]+\.", third)
    for outcome in outcomes.values():
        assert (Path(outcome.folders["report"]) / "accuracy.png").exists()


@pytest.mark.long
def test_a_report_says_how_far_the_supernet_can_be_trusted(
    outcomes: dict[str, Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    few, all_of_them = report(outcomes["greedy"]), report(outcomes["uniform"])
    assert "2 networks were retrained by this recipe: at least 4" in few
    folder = Path(outcomes["uniform"].folders["report"])
    trained = {path.parent for path in folder.parent.glob("retrain-*/result.json")}
    trained |= {path.parent for path in folder.parent.glob("uniform-*/result.json")}
    different = {(path / "channels.yaml").read_text() for path in trained}
    (kept,) = folder.glob("supernet-*.jsonl")
    assert len(different) >= 4  # all methods found networks of their own
    assert f"for all n = {len(different)} networks" in all_of_them
    assert (folder / "trust.png").exists()
    assert len(ScoreFile(kept).known) == len(different)
    output = folder.parent.parent
    monkeypatch.setattr("autoslim.stages.trust.Scorer", None)  # what is known is not computed again
    assert report(run(output, "uniform")) == all_of_them


@pytest.mark.long
def test_scores_are_those_of_the_search(outcomes: dict[str, Outcome]) -> None:
    """The supernet's score in the report is the one that the search saw."""
    (kept,) = Path(outcomes["uniform"].folders["report"]).glob("supernet-*.jsonl")
    known = ScoreFile(kept).known
    for method in METHODS:
        point = found_for(Path(outcomes[method].folders["search"]), 0.5)
        assert known[point.widths].loss == pytest.approx(point.loss, rel=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("method", ["random", "sensitivity"])
def test_a_stopped_search_goes_on_to_the_same(
    outcomes: dict[str, Outcome], tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after some networks, in the middle of a line: what was scored is not scored again."""
    from autoslim.slimming.scorer import Scorer

    whole = Path(outcomes[method].folders["search"])
    output = Path(shutil.copytree(whole.parent.parent, tmp_path / "copy"))
    folder = output / whole.parent.name / whole.name
    for other in set(folder.parent.glob("search-*")) - {folder}:
        shutil.rmtree(other)
    for name in ("result.json", "trajectory.json", "trajectory.csv", "channels_0.5.yaml"):
        (folder / name).unlink()
    lines = (folder / "scored.jsonl").read_text().splitlines(keepends=True)
    (folder / "scored.jsonl").write_text("".join(lines[:4]) + lines[4][:20])
    counted = []
    call = Scorer.__call__
    monkeypatch.setattr(
        Scorer,
        "__call__",
        lambda self, widths, *rest: counted.append(len(widths)) or call(self, widths, *rest),
    )
    shown = watched_bar(monkeypatch)
    run(output, method, stages="[search]")
    for name in ("trajectory.json", "trajectory.csv", "channels_0.5.yaml", "scored.jsonl"):
        assert (folder / name).read_text() == (whole / name).read_text()
    assert sum(counted) == len(lines) - 4
    if method == "random":  # ‰ of the passes
        spent = 1000 * json.loads((whole / "result.json").read_text())["passes"] / SETTINGS["slim.passes"]
        assert shown["total"] == 1000 and 0 < shown["start"] < shown["done"] == round(spent)
    else:  # ‰ of the FLOPs
        assert shown == {"total": 500, "unit": "‰", "start": 0, "done": 500}


def watched_bar(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What the bar of a search shows at its end."""
    shown: dict[str, object] = {}

    @contextmanager
    def progress(name: str, total: int | None, start: int, unit: str) -> Iterator[Callable[..., None]]:
        shown.update(total=total, unit=unit, start=start, done=start)
        yield lambda n, **info: shown.update(done=shown["done"] + n)

    monkeypatch.setattr("autoslim.stages.search.progress", progress)
    return shown


def test_what_one_search_scored_serves_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A predictor's networks, by FLOPs, then by parameters; unless their file is damaged."""
    from autoslim.slimming.scorer import Scorer

    settings = {**SMALL, "slimming": "predictor", "slim.levels": 4, "slim.min_width": 0.25, "slim.divisor": 1}
    settings |= {"slim.passes": 12, "stages": "[supernet,search]", "output": tmp_path}
    counted: list[tuple[int, ...]] = []
    call = Scorer.__call__

    def counting(self: Scorer, widths: np.ndarray, *rest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        counted.extend(map(tuple, widths.tolist()))
        return call(self, widths, *rest)

    monkeypatch.setattr(Scorer, "__call__", counting)

    def scored(resource: str) -> tuple[set[tuple[int, ...]], Path]:
        counted.clear()
        outcome = run_stages(compose({**settings, "slim.resource": resource}))
        assert len(set(counted)) == len(counted)
        return set(counted), Path(outcome.folders["search"])

    first, folder = scored("flops")
    assert len(first) > 20
    second, other = scored("params")
    assert len(second) <= 1 and not second & first  # the network that it found
    alone, _ = scored("memory")
    assert len(alone) <= 1
    path = ScoreFile(folder / "scored.jsonl").known
    assert set(path) == first
    shutil.rmtree(other)
    (folder / "scored.jsonl").write_text((folder / "scored.jsonl").read_text().replace("0.", "1.", 1))
    assert len(scored("params")[0]) >= 20


@pytest.mark.long
def test_a_damaged_rival_is_left_out(
    outcomes: dict[str, Outcome], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = Path(shutil.copytree(Path(outcomes["greedy"].folders["search"]).parents[1], tmp_path / "copy"))
    folder = output / "resnet8-digits" / Path(outcomes["random"].folders["search"]).name
    (folder / "trajectory.json").write_text("{}")
    text = report(run(output, "greedy"))
    assert "random 0.5" not in text and "sensitivity 0.5" in text
    told = f"The search in {folder} is left out of the report: {folder / 'trajectory.json'} is damaged or of"
    assert told in caplog.text


@pytest.mark.long
def test_more_targets_are_another_random_search(outcomes: dict[str, Outcome], tmp_path: Path) -> None:
    """The targets share the passes; a threshold's path serves them all."""
    output = Path(shutil.copytree(Path(outcomes["greedy"].folders["search"]).parents[1], tmp_path / "copy"))
    for method, same in (("random", False), ("sensitivity", True)):
        again = run(output, method, stages="[search]", slim__target="[0.7,0.5]").folders["search"]
        assert (Path(again).name == Path(outcomes[method].folders["search"]).name) == same
        points = json.loads((Path(again) / "trajectory.json").read_text())["points"]
        assert (
            min(point["share"] for point in points[1:]) <= 0.5 < max(point["share"] for point in points[1:])
        )


@pytest.mark.long
def test_networks_of_other_targets_stand_beside_nothing(outcomes: dict[str, Outcome], tmp_path: Path) -> None:
    """A random search for 0.4 has no network for 0.5, though the one it has keeps within it."""
    output = Path(shutil.copytree(Path(outcomes["greedy"].folders["search"]).parents[1], tmp_path / "copy"))
    for folder in output.glob("*/search-*"):
        if "method: random" in (folder / "config.yaml").read_text():
            shutil.rmtree(folder)
    run(output, "random", stages="[search,retrain]", slim__target=0.4)
    text = report(run(output, "greedy"))
    assert "sensitivity 0.5" in text and "random" not in text.split("## How far")[0]


def test_uniform_needs_no_level_within_the_budget(tmp_path: Path) -> None:
    message = r"^Cannot reach flops <= 0\.005 uniformly: with the smallest multiple of slim\.divisor=4 "
    with pytest.raises(AutoslimError, match=message):
        run(tmp_path, "uniform", slim__target=0.005, stages="[supernet,search]")
    assert list(tmp_path.iterdir()) == []


def test_a_score_file_survives_a_cut_line(tmp_path: Path) -> None:
    path = tmp_path / "scored.jsonl"
    file = ScoreFile(path)
    scores = {(4, i): Score(float(np.float32(0.1 * i)), 0.01, 1 / 3) for i in range(3)}
    for widths, score in scores.items():
        file.add(widths, score)
    assert ScoreFile(path).known == scores
    path.write_text(path.read_text()[:-10])
    cut = ScoreFile(path)
    assert list(cut.known) == [(4, 0), (4, 1)]
    cut.add((4, 2), scores[4, 2])
    assert ScoreFile(path).known == scores
    path.write_text("[]\n3\n\n" + path.read_text())
    assert ScoreFile(path).known == scores


def test_a_sweep_tells_methods_apart() -> None:
    """Networks are named after their method, what jobs share counts once, one's own file is a setting."""

    def job(number: int, option: str, network: str) -> sweep.Job:
        rows = [
            {"network": kind, "target": target, "metric": 0.5, "flops": 1, "params": 1, "folder": folder}
            for kind, target, folder in (
                ("baseline", None, "b"),
                (network, 0.5, f"r{number}"),
                ("uniform", 0.5, "u"),
            )
        ]
        overrides = [f"slimming={option}", "slim.target=0.5"]
        return sweep.Job(number, overrides, arch="net", dataset="digits", seed=0, rows=rows)

    jobs = [job(0, "greedy", "autoslim"), job(1, "random", "random")]
    groups = sweep.group_jobs(jobs)
    assert [(g.network, g.settings, g.seeds) for g in groups] == [
        ("baseline", "", (0,)),
        ("autoslim", "", (0,)),
        ("uniform", "", (0,)),
        ("random", "", (0,)),
    ]
    mine = {g.settings for g in sweep.group_jobs([*jobs, job(2, "mine", "autoslim")])}
    assert mine == {"", "slimming=mine"}
