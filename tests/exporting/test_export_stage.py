"""Stage `export`: what is done gets files, what cannot be exported is said before any training."""

import csv
import json
import sys
from pathlib import Path

import keras
import pytest
from rich.console import Console

from autoslim.config import compose
from autoslim.errors import AutoslimError
from autoslim.reporting.exports import export_csv, export_markdown, export_table
from autoslim.schema.export import ExportConfig
from autoslim.stages import run_stages

# Keras reads variables with np.array, NumPy 2 asks TensorFlow's for a keyword that they don't know.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")

SMALL = {
    "arch.depth": 8,
    "arch.width": 4,
    "dataset.train_images": 100,
    "train.batch_size": 50,
    "train.calibration_batches": 1,
    "baseline.epochs": 1,
    "retrain.epochs": 1,
    "retrain.init": "scratch",
    "slim.divisor": 1,
}


def run(output, **overrides):
    return run_stages(compose({"output": output, **SMALL, **overrides}))


@pytest.fixture
def no_clock(monkeypatch):
    monkeypatch.setattr(
        "autoslim.exporting.exporter.latencies", lambda files, image: dict.fromkeys(files, (2.0, 0.04))
    )


@pytest.mark.slow
def test_files_of_all_that_is_done(tmp_path, no_clock, capsys):
    asked = {"export.formats": "[keras,litert]", "export.images": 60}
    outcome = run(tmp_path, stages="[baseline,uniform,export]", **asked)
    folder = Path(outcome.folders["export"])
    rows = list(csv.DictReader((folder / "export.csv").read_text().splitlines()))
    assert [(row["network"], row["format"]) for row in rows] == [
        ("baseline", "keras"),
        ("baseline", "litert"),
        ("uniform 0.5", "keras"),
        ("uniform 0.5", "litert"),
    ]
    assert json.loads((folder / "result.json").read_text())["test_images"] == 60
    text = (folder / "export.md").read_text()
    assert text.startswith("# Exported files\n") and "on 60 test images" in text
    for row in rows:
        file = (folder / row["path"]).resolve()
        stage = "baseline" if row["network"] == "baseline" else "uniform 0.5"
        assert file.parent == Path(outcome.folders[stage]).resolve() / "export"
        assert file.stat().st_size == int(row["bytes"])
        assert (
            row["metric"] == row["keras_metric"]
            and float(row["latency_ms"]) == 2
            and row["latency_spread"] == "0.04"
        )
    keras.saving.load_model(folder / rows[2]["path"])
    assert "uniform 0.5" in capsys.readouterr().out

    # Alone it finds what is done; what was exported is reused, unless a file is gone.
    stamp = (folder / "export.csv").stat().st_mtime_ns
    assert run(tmp_path, stages="[export]", **asked).folders == {"export": str(folder)}
    assert (folder / "export.csv").stat().st_mtime_ns == stamp
    (folder / rows[1]["path"]).unlink()
    run(tmp_path, stages="[export]", **asked)
    assert (folder / rows[1]["path"]).exists()


def test_nothing_to_export(tmp_path):
    with pytest.raises(AutoslimError) as error:
        run(tmp_path, stages="[export]")
    assert str(error.value) == (
        "The export found no trained network of this configuration: expected baseline, retrain or uniform to "
        "be done, or among the stages: stages=[baseline,supernet,search,retrain,uniform,export] (what is "
        "done is reused)."
    )


def test_a_missing_package_is_named_before_training(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(AutoslimError) as error:
        run(tmp_path, stages="[baseline,export]", **{"export.formats": "[keras,onnx]"})
    assert str(error.value) == (
        "The export format onnx needs the package onnxruntime, not installed here: "
        "pip install 'autoslim[export]'"
    )
    assert not list(tmp_path.glob("*/baseline-*"))


def test_the_keys():
    assert compose(["export.formats=[onnx,keras,onnx]"]).export.formats == ["onnx", "keras"]
    for override, message in {
        "export.formats=[onxx]": "unknown export.formats 'onxx'. Did you mean onnx? There are: keras, "
        "saved_model, litert, litert_float16, litert_int8, onnx.",
        "export.formats=[]": "export.formats=[] is out of range: some of: keras, saved_model, litert, "
        "litert_float16, litert_int8, onnx.",
        "export.images=0": "export.images=0 is out of range: a whole number of 1 or more.",
        "export.calibration_images=0": "export.calibration_images=0 is out of range: a whole number of 1 or "
        "more.",
        "export.input_size=[8,8]": "export.input_size=[8, 8] is out of range: files take the size of "
        "dataset.shape unless export.preprocessing=inside.",
        "export.preprocessing=insid": "unknown export.preprocessing 'insid'. Did you mean inside? There are: "
        "outside, inside.",
    }.items():
        with pytest.raises(AutoslimError) as error:
            compose([override])
        assert str(error.value) == message


def test_files_that_take_other_inputs_have_other_folders():
    from autoslim.stages.export import _files_folder

    asked = [{}, {"preprocessing": "inside"}, {"preprocessing": "inside", "input_size": [9, 8]}]
    found = [_files_folder(ExportConfig(**keys)) for keys in asked]
    assert found == ["export", "export-inside", "export-inside-9x8"]


def test_the_schema_names_the_formats_that_there_are():
    from autoslim.exporting import FORMATS
    from autoslim.schema import EXPORT_FORMATS

    assert tuple(FORMATS) == EXPORT_FORMATS


def row(network, kind, size, latency, top1=0.5):
    found = {"network": network, "format": kind, "bytes": size, "metric": top1, "keras_metric": 0.5}
    return {
        **found,
        "largest_difference": 1.25e-6,
        "agreement": 1.0,
        "latency_ms": latency,
        "latency_spread": latency and 0.031,
        "path": f"{kind}",
    }


ROWS = [
    row("baseline", "keras", 2048, 1.0),
    row("baseline", "onnx", 1024, None),
    row("AutoSlim 0.5", "keras", 1024, 0.25),
    row("AutoSlim 0.5", "onnx", 256, 0.125),
]


def test_full_and_slimmed_stand_side_by_side():
    text = export_markdown(ROWS, 500, 200)
    table = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line[:1] == "|"
    ]
    assert [line[0:4] + line[7:9] for line in table[2:]] == [
        ["keras", "baseline", "2 KiB", "1.00", "1 ± 3.1 %", "1.00"],
        ["keras", "AutoSlim 0.5", "1 KiB", "0.50", "0.25 ± 3.1 %", "0.25"],
        ["onnx", "baseline", "1 KiB", "1.00", "-", "-"],
        ["onnx", "AutoSlim 0.5", "256 B", "0.25", "0.125 ± 3.1 %", "-"],
    ]
    assert "int8 was calibrated with 200 training images." in text
    assert "calibrated" not in export_markdown(ROWS, 500, None)


def test_unknown_latency_is_empty_in_the_csv():
    lines = export_csv(ROWS).splitlines()
    assert lines[0].startswith("network,format,bytes,metric,")
    assert lines[2] == "baseline,onnx,1024,0.5,0.5,1.25e-06,1.0,,,onnx"


def test_the_table_in_the_terminal():
    wide = Console(width=200)
    with wide.capture() as captured:
        wide.print(export_table(ROWS))
    lines = [line.split() for line in captured.get().splitlines() if line.strip(" ─")]
    assert lines[1][:5] == ["keras", "baseline", "2", "KiB", "1.00"]
    assert lines[-1][-6:] == ["100.0", "0.125", "±", "3.1", "%", "-"]
