"""Runs of stages with tiny settings, and what they left."""

import json
import re
from pathlib import Path

import pytest
from runs import TINY

from autoslim.config import compose
from autoslim.errors import AutoslimError
from autoslim.stages import Outcome, run_stages


def run(output: Path, **settings: object) -> Outcome:
    """Run stages with the tiny settings; `__` in a name stands for a dot."""
    given = {name.replace("__", "."): value for name, value in settings.items()}
    return run_stages(compose({**TINY, "output": output, **given}))


def refused(output: Path, **settings: object) -> str:
    """The message with which stages are refused; paths under the output folder begin with OUT."""
    with pytest.raises(AutoslimError) as caught:
        run(output, **settings)
    return re.sub(r"-[0-9a-f]{10}", "-HASH", str(caught.value).replace(str(output), "OUT"))


def folder(output: Path, stage: str) -> Path:
    """The folder of a stage."""
    (found,) = (output / "resnet8-digits").glob(f"{stage}-*")
    return found


def results(output: Path, *stages: str) -> list[dict]:
    """The results of stages."""
    return [json.loads((folder(output, stage) / "result.json").read_text()) for stage in stages]
