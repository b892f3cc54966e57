"""The documentation: the configuration reference is complete, and the site builds without a warning."""

import os
import subprocess
import sys
from pathlib import Path

import hydra
import pytest
import yaml
from omegaconf import DictConfig, OmegaConf

from autoslim.cli import annotated
from autoslim.config import documentation
from autoslim.schema.reference import reference

ROOT = Path(__file__).parent.parent


def composed(override: str) -> DictConfig:
    with hydra.initialize_config_module("autoslim.conf", version_base="1.3"):
        return hydra.compose("config", [override])


def leaves(node: DictConfig, prefix: str = "") -> set[str]:
    """The keys of a configuration by their full names; those below a mapping of the user's own left out."""
    found = set()
    for key in node:
        inner = None if OmegaConf.is_missing(node, key) else node._get_node(key)
        if isinstance(inner, DictConfig) and len(inner):
            found |= leaves(inner, f"{prefix}{key}.")
        else:
            found.add(prefix + str(key))
    return found


@pytest.mark.parametrize("arch", sorted(path.stem for path in (ROOT / "conf" / "arch").glob("*.yaml")))
def test_every_key_is_in_the_reference(arch):
    rows = [line.split(" | ") for line in reference().splitlines() if line.startswith("| `")]
    meanings = {row[0].strip("| `"): row[1] for row in rows}
    for key in leaves(composed(f"arch={arch}")):
        assert len(meanings[key]) > 8, key


def test_the_reference_says_what_the_schema_says():
    page, docs = reference(), documentation()
    assert "| `slim.target` |" in page and docs["seed"] in page
    assert "| `arch.depth` | layers: 6n + 4 for n basic blocks a stage (wide_resnet) | `40` |" in page
    assert docs["arch.depth"].count("for n basic blocks a stage (") == 2
    assert "## `slim.limits`: " in page


@pytest.mark.parametrize("override", ["slim.target=[0.5,0.3]", "arch=custom", "dataset=tfrecord"])
def test_the_shown_configuration_is_the_same_with_documentation(override):
    cfg = OmegaConf.to_yaml(composed(override))
    shown = annotated(cfg, documentation())
    assert yaml.safe_load(shown) == yaml.safe_load(cfg)
    bare = [line for line in shown.splitlines() if not line.lstrip().startswith("- ") and "  # " not in line]
    assert bare == []


def test_cfg_job_on_the_command_line():
    command = [sys.executable, "-m", "autoslim", "--cfg", "job", "slim.target=0.3"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"  target: 0.3  # {documentation()['slim.target']}\n" in done.stdout
    assert yaml.safe_load(done.stdout)["slim"]["target"] == 0.3


def test_the_site_builds_without_warnings(tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "scripts")])}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    page = (tmp_path / "site" / "api.html").read_text()
    assert "Find, train and return smaller versions of a network." in page
    assert "slim.min_width" in (tmp_path / "site" / "configuration.html").read_text()
    tutorial = (tmp_path / "site" / "tutorials" / "slim_your_model.html").read_text()
    assert "data:image/png;base64," in tutorial and "What can be slimmed" in tutorial
