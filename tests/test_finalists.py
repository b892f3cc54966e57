"""The final of a search: judged on held-out images alone, resumed with the same bits."""

import json
import shutil
from pathlib import Path

import pytest
from runs import SMALL

from autoslim.config import compose
from autoslim.stages import Outcome, run_stages
from autoslim.stages.experiment import Experiment
from autoslim.stages.images import Images

FINAL = {**SMALL, "slim.finalists": 3, "slim.levels": 4, "slimming": "random"}


def run(output: Path, stages: str = "[supernet,search]", **settings: object) -> Outcome:
    return run_stages(compose({**FINAL, "output": output, "stages": stages, **settings}))


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Supernet and search, in which nobody may ask for test images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Images, "test", None)
        return run(tmp_path_factory.mktemp("final"))


def trajectory(outcome: Outcome) -> dict:
    return json.loads((Path(outcome.folders["search"]) / "trajectory.json").read_text())


def test_the_best_of_the_candidates_is_taken_by_held_out_loss(searched: Outcome) -> None:
    (final,) = trajectory(searched)["finals"]
    losses = [point["loss"] for point in final["points"]]
    assert 2 <= len(losses) <= 3 and len(set(losses)) == len(losses)
    assert losses[final["chosen"]] == min(losses)
    result = json.loads((Path(searched.folders["search"]) / "result.json").read_text())
    assert result["macs"] > sum(point["macs"] for point in final["points"]) > 0


def test_what_was_taken_is_retrained(searched: Outcome) -> None:
    output = Path(searched.folders["search"]).parent.parent
    outcome = run(output, "[search,retrain]")
    (final,) = trajectory(searched)["finals"]
    chosen = final["points"][final["chosen"]]
    row = next(row for row in outcome.rows if row["network"] == "random")
    assert (row["flops"], row["params"]) == (chosen["flops"], chosen["params"])


def test_a_search_that_was_stopped_within_a_final_ends_the_same(searched: Outcome, tmp_path: Path) -> None:
    shutil.copytree(Path(searched.folders["search"]).parent.parent, tmp_path, dirs_exist_ok=True)
    folder = tmp_path / Path(searched.folders["search"]).relative_to(
        Path(searched.folders["search"]).parent.parent
    )
    before = (folder / "trajectory.json").read_bytes()
    stopped = json.loads(before)
    (folder / "trajectory.json").write_text(json.dumps({**stopped, "finals": []}))
    (folder / "result.json").unlink()
    kept = (folder / "finalists_0.5" / "0" / "score.json").read_bytes()
    shutil.rmtree(folder / "finalists_0.5" / "1")
    run(tmp_path)
    assert (folder / "trajectory.json").read_bytes() == before
    assert (folder / "finalists_0.5" / "0" / "score.json").read_bytes() == kept


def test_candidates_never_begin_with_weights_that_know_the_held_out_images(
    searched: Outcome, tmp_path: Path
) -> None:
    """Also where networks are retrained from the baseline: it isn't asked for, and scores are the same."""
    rate = Experiment(compose({**FINAL, "output": tmp_path})).retrain.learning_rate
    keys = {"retrain.init": "baseline", "retrain.learning_rate": rate, "retrain.epochs": 1}
    outcome = run(tmp_path, **keys)
    assert not list(tmp_path.glob("*/baseline-*"))
    assert trajectory(outcome)["finals"] == trajectory(searched)["finals"]
