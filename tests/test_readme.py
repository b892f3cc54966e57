"""What README and the pages in docs/ show runs: Python, and the configuration of command lines."""

import re
import shlex
from pathlib import Path

import pytest

from autoslim.config import compose

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]


def python(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S)


def commands(page: Path) -> list[str]:
    """Command lines that set something, those with a placeholder left out."""
    lines = [c for c in re.findall(r"python -m autoslim ([^\n`]*)", page.read_text()) if "=" in c]
    return [line for line in lines if not re.search(r"=NAME|FILE|\.\.\.", line)]


COMMANDS = {(page.name, line): line for page in PAGES for line in commands(page)}


@pytest.mark.slow
@pytest.mark.parametrize("page", [README, ROOT / "docs" / "python.md"], ids=lambda page: page.name)
def test_python(page, tmp_path, monkeypatch, capsys):
    """All Python blocks of a page, one after another, as in a notebook."""
    import keras

    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in python(page):
        exec(compile(block, page.name, "exec"), names)
    if page == README:
        small = names["result"].models[0.5]
        assert keras.saving.load_model("half.keras").count_params() == small.count_params()
    else:
        assert keras.saving.load_model("small.keras").count_params() == names["small"].count_params()
        assert 0 < float(capsys.readouterr().out.split()[0]) <= 1


@pytest.mark.parametrize("line", COMMANDS.values(), ids=[" ".join(key) for key in COMMANDS])
def test_commands_compose(line):
    """Every command line is a valid configuration, with each of a sweep's choices."""
    words = [word for word in shlex.split(line, comments=True) if not word.startswith("--")]
    words = [word for word in words if not word.startswith("hydra") and "interval(" not in word]
    choices = [[w] if "[" in w or "{" in w else _choices(w) for w in words]
    for place in range(max(map(len, choices))):
        compose([one[min(place, len(one) - 1)] for one in choices])


def _choices(word: str) -> list[str]:
    key, _, values = word.partition("=")
    return [f"{key}={value}" for value in values.split(",")]


def test_there_is_something_to_test():
    assert python(README) and len(python(ROOT / "docs" / "python.md")) >= 2
    assert len(commands(README)) >= 6 and len(COMMANDS) >= 25


def test_readme_is_short_and_its_links_lead_somewhere():
    text = README.read_text()
    assert len(text.splitlines()) <= 250
    titles = {
        re.sub(r"[^\w -]", "", t).lower().replace(" ", "-") for t in re.findall(r"^#+ (.*)", text, re.M)
    }
    for link in re.findall(r"\]\(([^)]*)\)", text):
        path, _, anchor = link.partition("#")
        if link.startswith("http"):
            continue
        assert not path or (ROOT / path).exists(), link
        assert path or anchor in titles, link
