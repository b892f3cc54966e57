"""Option classes: their keys check themselves, and are filled from objects and keyword arguments alike."""

import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import yaml
from omegaconf import OmegaConf

from autoslim import schema
from autoslim.config import compose, documentation
from autoslim.errors import AutoslimError
from autoslim.schema.checks import Options, gather, key
from autoslim.schema.training import FitOptions, LoopOptions, OptimizerConfig


@dataclass
class Tank(Options):
    section: ClassVar[str] = "tank"
    level: float = key(0.5, "how full", least=0, below=1, unit="a share")
    drops: int = key(3, "drops", above=2)
    heat: float | None = key(None, "degrees", affects_result=False)
    colours: list[str] = key(["red"], "colours", words=("red", "blue"))
    pair: list[float] = key([1.0, 2.0], "low and high", length=2, holds=lambda pair: pair[0] <= pair[1])
    lit: bool = key(True, "whether light is on")


@dataclass
class Vat(Options):
    level: float = key(0.1, "how full", least=0)


def refused(**keys):
    with pytest.raises(AutoslimError) as found:
        Tank(**keys)
    return str(found.value)


def test_bounds_words_and_types() -> None:
    assert refused(level=1) == "tank.level=1.0 is out of range: a share in [0, 1)."
    assert refused(level=math.nan) == "tank.level=nan is out of range: a share in [0, 1)."
    assert refused(level="0.5") == "tank.level='0.5' is out of range: a share in [0, 1)."
    assert refused(level=None) == "tank.level=None is out of range: a share in [0, 1)."
    assert refused(drops=2) == "tank.drops=2 is out of range: a whole number above 2."
    assert refused(drops=3.5) == "tank.drops=3.5 is out of range: a whole number above 2."
    assert refused(drops=True) == "tank.drops=True is out of range: a whole number above 2."
    assert refused(heat=math.inf) == "tank.heat=inf is out of range: a number, or null."
    assert refused(colours=["bleu"]).startswith("unknown tank.colours 'bleu'. Did you mean blue?")
    assert refused(pair=[2, 1]) == "tank.pair=[2.0, 1.0] is out of range: a list."
    assert refused(pair=[1, 2, 3]).startswith("tank.pair=[1.0, 2.0, 3.0] is out of range")
    assert refused(pair=[1, math.inf]).startswith("tank.pair=[1.0, inf] is out of range")
    assert refused(lit=1) == "tank.lit=1 is out of range: true or false."


def test_values_become_pythons_own() -> None:
    tank = Tank(level=0, drops=np.int64(4), heat=np.float32(0.5), pair=(1, 2))
    assert [type(v) for v in (tank.level, tank.drops, tank.heat, tank.pair, tank.pair[0])] == [
        float,
        int,
        float,
        list,
        float,
    ]
    assert Tank().colours is not Tank().colours


def test_a_key_says_whether_it_affects_results() -> None:
    assert Tank(heat=3).affecting_result() == Tank().affecting_result()
    assert set(vars(Tank())) - set(Tank().affecting_result()) == {"heat"}


def test_keywords_fill_every_class_that_has_them() -> None:
    tank, vat = gather("pour", [Tank, Vat], [], {"level": 0.25, "drops": 5})
    assert (tank.level, tank.drops, vat.level) == (0.25, 5, 0.25)
    given = Tank(drops=7)
    tank, vat = gather("pour", [Tank, Vat], [given], {"level": 0.25})
    assert (tank.level, tank.drops, given.level) == (0.25, 7, 0.5)
    with pytest.raises(
        AutoslimError, match=r"pour\(\) has no option 'drop'\. Did you mean drops\? There are: "
    ):
        gather("pour", [Tank, Vat], [], {"drop": 5})
    with pytest.raises(AutoslimError, match=r"pour\(\) takes no Tank: expected Vat\."):
        gather("pour", [Vat], [given], {})


def test_objects_that_share_a_base_fill_what_they_share() -> None:
    stage = schema.BaselineConfig(epochs=7, label_smoothing=0.1)
    fit, optimizer, loop = gather(
        "fit",
        [FitOptions, OptimizerConfig, LoopOptions],
        [schema.TrainConfig(precision="mixed_float16"), stage],
        {"temperature": 2, "learning_rate": 0.3},
    )
    assert (fit.epochs, fit.label_smoothing, fit.temperature, fit.learning_rate) == (7, 0.1, 2.0, 0.3)
    assert optimizer == OptimizerConfig(learning_rate=0.3)
    assert loop.precision == "mixed_float16"


def test_the_schema_is_imported_without_tensorflow() -> None:
    code = "import autoslim.schema, sys; assert not {'tensorflow', 'keras'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("group", "kind"), [("optimizer", OptimizerConfig), ("retrain", schema.RetrainConfig)]
)
def test_yaml_files_restate_no_default(group, kind) -> None:
    folder = Path(__file__).parents[1] / "conf" / group
    defaults = OmegaConf.to_container(OmegaConf.structured(kind))
    for path in folder.glob("*.yaml"):
        values = {k: v for k, v in yaml.safe_load(path.read_text()).items() if k != "defaults"}
        assert not [name for name, value in values.items() if defaults[name] == value], path


def test_every_key_has_one_line_of_documentation() -> None:
    assert all(line and "\n" not in line for line in documentation().values())
    assert compose().train == schema.TrainConfig()
