"""Notebooks: the tutorials run as they stand, bars and tables are drawn, and TensorFlow keeps quiet."""

import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import autoslim
from autoslim.errors import AutoslimError
from autoslim.metrics import TOP1
from autoslim.reporting import terminal
from autoslim.tabular import MOST_ROWS
from autoslim.training.evaluate import Evaluation

TUTORIALS = sorted((Path(__file__).parent.parent / "docs" / "tutorials").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_tutorials_run(path, tmp_path, monkeypatch):
    """Every cell, in a kernel of its own; nothing is written to the error stream."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    monkeypatch.delenv("PYTEST_CURRENT_TEST")  # with it a kernel does not show what C++ prints
    notebook = nbformat.read(path, as_version=4)
    there = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=there).execute()
    outputs = [one for cell in notebook.cells if cell.cell_type == "code" for one in cell.outputs]
    assert [one.text for one in outputs if one.get("name") == "stderr"] == []
    shown = [one.data for one in outputs if "data" in one]
    assert any("image/png" in one for one in shown)
    bars = [one["text/html"] for one in shown if "<progress" in one.get("text/html", "")]
    assert bars and all(re.search(r"\b(\d+)/\1 steps in ", bar) for bar in bars)  # the last state stays


def test_the_tutorials_are_there():
    assert [path.stem for path in TUTORIALS] == ["search_to_int8", "slim_your_model"]


def test_a_bar_in_a_notebook(monkeypatch):
    """It is shown once, then updated in place, and ends with what there was in all."""
    display = pytest.importorskip("IPython.display")
    seen = []

    class Handle:
        def update(self, shown):
            seen.append(shown.data)

    def show(shown, display_id):
        seen.append(shown.data)
        return Handle()

    monkeypatch.setattr(display, "display", show)
    monkeypatch.setattr(terminal, "CELL_SECONDS", 0.0)
    monkeypatch.setattr(terminal.console, "is_jupyter", True)
    monkeypatch.setattr(type(terminal.console), "is_terminal", property(lambda self: False))
    with terminal.progress("a < b", total=4) as advance:
        advance(1, loss=0.5)
        advance(3, loss=0.25)
    assert len(seen) == 4
    assert 'value="0.000"' in seen[0] and "a &lt; b: 0/4 steps" in seen[0]
    assert 'value="0.250"' in seen[1] and "loss 0.5" in seen[1]
    assert 'value="1.000"' in seen[-1] and "4/4 steps in" in seen[-1] and "loss 0.25" in seen[-1]


@pytest.fixture(scope="module")
def graph():
    image = keras.Input((4, 4, 3))
    y = keras.layers.Conv2D(8, 3, name="conv")(image)
    model = keras.Model(image, keras.layers.Dense(2, name="out")(keras.layers.Flatten()(y)), name="net")
    return autoslim.ChannelGraph(model)


def test_a_graph_is_a_table_of_its_groups(graph):
    assert [(row["group"], row["channels"], bool(row["frozen"])) for row in graph.rows()] == [
        (group.name, group.size, group.frozen is not None) for group in graph.groups
    ]
    text = graph._repr_html_()
    macs, params = 2 * 2 * 8 * 27 + 32 * 2, 27 * 8 + 8 + 32 * 2 + 2
    assert f"1 can be slimmed; {macs} FLOPs (multiply-accumulates), {params} parameters" in text
    assert text.count("<tr>") == 1 + len(graph.groups) and "<td>conv</td>" in text
    lines = repr(graph).splitlines()
    assert len(lines) == 2 + len(graph.groups)
    assert lines[1].split() == ["group", "channels", "frozen", "layers"]


def test_an_evaluation_is_a_row_of_figures():
    found = Evaluation(0.75, 0.5, np.array([1, 1, 1, 0], np.float32), TOP1)
    assert found.rows() == [{"top1": 0.75, "loss": 0.5, "images": 4}]
    assert "0.75" in found._repr_html_() and repr(found) == "top1  loss  images\n0.75   0.5       4"


def test_frames(graph):
    pandas = pytest.importorskip("pandas")
    frame = graph.to_frame()
    assert isinstance(frame, pandas.DataFrame) and list(frame["group"]) == [g.name for g in graph.groups]


def test_frames_without_pandas(graph, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(
        AutoslimError, match="^to_frame\\(\\) needs pandas, which is not installed: pip install"
    ):
        graph.to_frame()


def test_a_long_table_is_cut_in_its_middle(graph):
    class Long(type(graph)):
        def __init__(self):
            pass

        def rows(self):
            return [{"step": number} for number in range(1000, 3000)]

        def caption(self):
            return ""

    text = Long()._repr_html_()
    assert text.count("<tr>") == 1 + MOST_ROWS + 1
    assert "1,000<" in text and "2,999<" in text and "2,000<" not in text and "…" in text


def test_importing_autoslim_is_light():
    """Without a notebook, neither TensorFlow nor Keras is loaded before it is needed."""
    code = "import sys, autoslim; print('tensorflow' in sys.modules, 'keras' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("False False\n", "")
