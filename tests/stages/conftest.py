"""One run of all stages, which the tests of stages share."""

import shutil
from pathlib import Path

import pytest
from staged import run


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of all stages."""
    output = tmp_path_factory.mktemp("whole")
    run(output)
    return output


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    """A copy of that output, to do harm to."""
    return Path(shutil.copytree(whole, tmp_path / "copy"))
