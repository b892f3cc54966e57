"""The runner on stages of the tests' own: what a record says is what happens."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from runs import TINY

from autoslim.config import compose
from autoslim.errors import AutoslimError
from autoslim.schema import STAGES
from autoslim.stages.experiment import Experiment
from autoslim.stages.preflight import check_before
from autoslim.stages.record import Look, Need, Piece, Stage, record
from autoslim.stages.runner import Runner
from autoslim.stages.warn import warned


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    return Experiment(compose({**TINY, "output": tmp_path}))


def counting(name: str = "count", **fields) -> tuple[Stage, list[str]]:
    """A stage, and the folders in which its work was done."""
    calls: list[str] = []

    def work(experiment, folder, *what):
        calls.append(folder.path.name)
        return folder.finish({"macs": 5, "what": list(what), **warned("look out")})

    return Stage(
        name, lambda experiment, *of: {"seed": experiment.config.seed, "of": of}, work, **fields
    ), calls


def test_a_stage_is_done_once_and_reused(experiment, capsys, caplog):
    stage, calls = counting()
    first, second = Runner(experiment, ["count"]), Runner(experiment, ["count"])
    first.stage(stage)
    second.stage(stage)
    folder = stage.folder(experiment)
    assert calls == [folder.path.name] and re.fullmatch(r"count-[0-9a-f]{10}", folder.path.name)
    assert first.folders == second.folders == {"count": folder.path}
    assert first.finished["count"]["macs"] == 5 and "seconds" in first.finished["count"]
    assert first.finished == second.finished
    assert caplog.messages.count("count: look out") == 2  # of a reused stage too
    assert f"done before, reused: {folder.path}" in capsys.readouterr().out.replace("\n", "")


def test_another_key_is_another_folder(experiment, tmp_path):
    stage, calls = counting()
    other = Experiment(compose({**TINY, "output": tmp_path, "seed": 1}))
    for one in (experiment, other):
        Runner(one, []).stage(stage)
    assert len(set(calls)) == 2


def test_a_folder_for_each_piece_of_work(experiment):
    def pieces(stage, run):
        for name in ("a", "b"):
            yield Piece(stage, stage.folder(run.experiment, name), (name,), name)

    stage, calls = counting(pieces=pieces)
    run = Runner(experiment, [])
    run.stage(stage)
    assert len(calls) == 2
    assert {label: result["what"] for label, result in run.finished.items()} == {
        "count a": ["a"],
        "count b": ["b"],
    }


def test_what_is_not_enough_is_done_again(experiment):
    stage, calls = counting(done=lambda experiment, folder: len(calls) > 1)
    for _ in range(3):
        Runner(experiment, []).stage(stage)
    assert len(calls) == 2


def test_a_result_that_lacks_a_field_is_refused(experiment):
    stage, _ = counting()
    Runner(experiment, []).stage(stage)
    with pytest.raises(AutoslimError, match=r"is damaged \(no top1 in it\)"):
        Runner(experiment, []).stage(replace(stage, fields=("macs", "top1")))


def needing(stage: Stage, **fields) -> Callable:
    return lambda experiment: [Need(stage, stage.folder(experiment), "This test", **fields)]


def test_what_is_needed_is_refused_or_run(experiment):
    first, first_calls = counting("first")
    second, calls = counting("second", needs=needing(first))
    message = r"This test needs the result of stage first, .* has none: run it first, .*stages=\[first,...\]."
    with pytest.raises(AutoslimError, match=message):
        check_before(experiment, [second])
    with pytest.raises(AutoslimError, match=message):
        Runner(experiment, []).stage(second)
    check_before(experiment, [first, second])  # it will have run
    assert not calls and not first_calls
    implied = replace(first, implied=True)
    second = replace(second, needs=needing(implied))
    check_before(experiment, [second])
    run = Runner(experiment, [])
    run.stage(second)
    assert list(run.finished) == ["first", "second"] and len(first_calls) == len(calls) == 1
    Runner(experiment, []).stage(second)
    assert len(first_calls) == len(calls) == 1


def test_what_is_done_needs_nothing(experiment):
    lacking, _ = counting("first")
    stage, _ = counting("second")
    Runner(experiment, []).stage(stage)
    check_before(experiment, [replace(stage, needs=needing(lacking))])


def test_a_stage_with_nothing_to_do_says_why(experiment, caplog):
    stage, calls = counting(skip=lambda experiment: "not today")
    caplog.set_level("INFO")
    run = Runner(experiment, [])
    run.stage(stage)
    assert not calls and not run.finished and "count: not today" in caplog.messages


def test_a_check_refuses_before_anything_is_done(experiment):
    def check(experiment, stages):
        raise AutoslimError(f"not with {stages}")

    stage, calls = counting(check=check)
    with pytest.raises(AutoslimError, match=r"not with \['count'\]"):
        check_before(experiment, [stage])
    assert not calls


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_has_its_record(name):
    assert record(name).name == name
    assert isinstance(record(name), Look if name in ("describe", "compare") else Stage)
