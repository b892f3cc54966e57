"""What README shows runs: its Python, and the configuration of its command lines."""

import re
import shlex
from pathlib import Path

import pytest

from autoslim.config import compose

README = (Path(__file__).parent.parent / "README.md").read_text()
PYTHON = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)
COMMANDS = [c for c in re.findall(r"python -m autoslim ([^\n`]*)", README) if "=" in c]


@pytest.mark.slow
def test_python(tmp_path, monkeypatch, capsys):
    """All Python blocks, one after another, as in a notebook."""
    import keras

    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in PYTHON:
        exec(compile(block, "README.md", "exec"), names)
    assert keras.saving.load_model("small.keras").count_params() == names["small"].count_params()
    assert 0 < float(capsys.readouterr().out.split()[0]) <= 1


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_compose(line):
    """Every command line is a valid configuration; a sweep's choices are tried one by one."""
    words = [word for word in shlex.split(line, comments=True) if not word.startswith("--")]
    for word in words:
        key, _, value = word.partition("=")
        choices = [value] if value.startswith(("[", "{")) else value.split(",")
        for choice in choices:
            others = [w if "[" in w or "{" in w else w.split(",")[0] for w in words if w != word]
            compose([*others, f"{key}={choice}"])


def test_there_is_something_to_test():
    assert len(PYTHON) >= 2 and len(COMMANDS) >= 4
