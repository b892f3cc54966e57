"""Event files, read back."""

import re
import subprocess
import sys

import pytest
from browser import needs_browser, shown
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.util import tensor_util

from autoslim.reporting import figures
from autoslim.reporting.tensorboard import write_hparams, write_report

TOP1, LOSS = "accuracy/top1_by_flops", "accuracy/loss_by_flops"


def read(folder):
    accumulator = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    accumulator.Reload()
    return {
        tag: [(e.step, tensor_util.make_ndarray(e.tensor_proto)) for e in accumulator.Tensors(tag)]
        for tag in accumulator.Tags()["tensors"]
    }


def curve(events):
    return [(step, pytest.approx(float(value))) for step, value in events]


def test_curves_widths_and_images(tmp_path, results, full, trajectory):
    images = {"search": figures.search_curve(trajectory, [0.5])}
    for _ in range(2):  # a second report takes the place of the first
        write_report(tmp_path, results, full, "flops", trajectory, images)
    supernet = read(tmp_path / "supernet")
    assert curve(supernet[TOP1]) == [
        (480, 0.87),
        (650, 0.90),
        (800, 0.91),
        (1000, 0.92),
    ]
    assert curve(supernet[LOSS]) == [(480, 0.41), (650, 0.35), (800, 0.32), (1000, 0.3)]
    assert curve(read(tmp_path / "autoslim")[TOP1]) == [(480, 0.93), (650, 0.95)]
    assert curve(read(tmp_path / "uniform")[TOP1]) == [(490, 0.94)]
    assert curve(read(tmp_path / "baseline")[TOP1]) == [(1000, 0.95)]
    assert not (tmp_path / "search").exists()  # the stage writes it, in its own folder
    (shown,) = read(tmp_path)["figures/search"]
    assert shown[1][2].startswith(b"\x89PNG")


def test_results_alone(tmp_path, results, full):
    write_report(tmp_path / "new", results, full)
    runs = [path.name for path in (tmp_path / "new").iterdir() if path.is_dir()]
    assert sorted(runs) == ["autoslim", "baseline", "uniform"]


def test_accuracy_against_flops_is_one_chart(tmp_path, results, full, trajectory):
    write_report(tmp_path, results, full, "flops", trajectory)
    ((_, value),) = read(tmp_path)["custom_scalars__config__"]
    layout = layout_pb2.Layout.FromString(value.item())
    charts = {chart.title: list(chart.multiline.tag) for chart in layout.category[0].chart}
    assert charts["top-1 against FLOPs (‰ of the full network)"] == [f"^{TOP1}$"]


def test_hyperparameters_are_read_back(tmp_path, results, full):
    rows = [result.row(full) for result in results[:2]]
    write_hparams(tmp_path, ["seed=1", "slimming=greedy", "+recipe=economy"], rows)
    accumulator = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0})
    accumulator.Reload()
    content = accumulator.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    info = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    given = {key: value.number_value or value.string_value for key, value in info.hparams.items()}
    assert given == {"seed": 1.0, "slimming": "greedy", "recipe": "economy"}
    found = read(tmp_path)
    assert curve(found["top1/uniform 0.5"]) == [(0, 0.94)]
    assert curve(found["FLOPs share/slimmed 0.5"]) == [(0, 0.48)]


@pytest.fixture
def served(tmp_path, results, full, trajectory):
    """The address of a TensorBoard that shows a report."""
    write_report(tmp_path, results, full, "flops", trajectory)
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(tmp_path), "--port", "0"]
    with subprocess.Popen([*command, "--load_fast", "false"], stderr=subprocess.PIPE, text=True) as board:
        said = iter(board.stderr)
        yield next(found[0] for line in said if (found := re.search(r"http://\S+", line)))
        board.terminate()
        list(said)


@pytest.mark.slow
@needs_browser
def test_in_a_browser(tmp_path, served):
    """The charts against FLOPs are there, with the last loss of each kind of network."""
    page = shown(f"{served}#timeseries", tmp_path / "profile", 20_000)
    text = " ".join(re.sub(r"<(style|script)\b.*?</\1>|<[^>]*>", " ", page, flags=re.DOTALL).split())
    assert "accuracy /loss_by_flops" in text and "accuracy /top1_by_flops" in text
    for kind, flops in {
        "autoslim": "650",
        "baseline": "1,000",
        "supernet": "1,000",
        "uniform": "490",
    }.items():
        assert re.search(rf" {kind} [\d.]+ 0\.3 {flops} ", text), text
