"""Configuration from the command line to checked dataclasses: :func:`compose` and :func:`validate`.

The YAML files in ``conf/`` fill the dataclasses of :mod:`autoslim.schema`; only these travel further.
"""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from autoslim.errors import AutoslimError
from autoslim.messages import FAMILY, describe, unknown_key
from autoslim.schema import Config, DatasetConfig, OptimizerConfig, RetrainConfig, SlimConfig, TaskConfig
from autoslim.schema.reference import ARCHS, SWITCH, keys


def register() -> None:
    """Put the schema where the YAML files find it: ``/schema/config``, ``/schema/arch/resnet`` and so on."""
    store = ConfigStore.instance()
    store.store(group="schema", name="config", node=Config)
    store.store(group="schema", name="dataset", node=DatasetConfig)
    store.store(group="schema", name="task", node=TaskConfig)
    store.store(group="schema", name="optimizer", node=OptimizerConfig)
    store.store(group="schema", name="retrain", node=RetrainConfig)
    store.store(group="schema", name="slimming", node=SlimConfig)
    for name, node in ARCHS.items():
        store.store(group="schema/arch", name=name, node=node)


register()


def share_of(share: float, whole: int) -> int:
    """A share of a number of epochs or images, for recipes: ``${autoslim_share:0.2,${baseline.epochs}}``.

    >>> share_of(0.2, 30), share_of(0.2, 1)
    (6, 1)
    """
    return max(1, round(share * whole))


OmegaConf.register_new_resolver("autoslim_share", share_of, replace=True)


def documentation() -> dict[str, str]:
    """Every key of the schema, those of all architectures included, with its line of documentation.

    >>> documentation()["baseline.epochs"]
    'passes over the training images'
    """
    found: dict[str, dict[str, str]] = {}
    for key in keys():
        found.setdefault(key.name, {}).setdefault(key.doc, key.of)
    return {
        name: "; ".join(f"{doc} ({of})" if len(docs) > 1 else doc for doc, of in docs.items())
        for name, docs in found.items()
    }


def _strangers(node: DictConfig, prefix: str = "") -> Iterator[str]:
    """Full names of keys that were added with ``+`` and that no dataclass knows."""
    kind = OmegaConf.get_type(node)
    if kind is None or not dataclasses.is_dataclass(kind):
        return
    known = {item.name for item in dataclasses.fields(kind)}
    for key in node:
        name = prefix + str(key)
        if key not in known:
            yield name
        elif not OmegaConf.is_missing(node, key) and isinstance(node[key], DictConfig):
            yield from _strangers(node[key], name + ".")


def check_overrides(overrides: Sequence[str]) -> None:
    """Refuse what Hydra and OmegaConf take for something else without a word.

    Numbers for keys that are true or false: every one but 0 would be true. Keys that are taken out (~seed):
    they would have their defaults.

    >>> check_overrides(["retrain.joint=true", "seed=2"])

    Args:
        overrides: as typed, of one job.

    Raises:
        AutoslimError: naming the key.
    """
    ranges = {key.name: key.range for key in keys()}
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key, value = override.key_or_group, override.value()
        if override.is_delete() and key in ranges:
            raise AutoslimError(f"~{key}: no key can be left out. Give it another value: {key}=VALUE.")
        if ranges.get(key) == SWITCH and type(value) is int and value not in (0, 1):
            raise AutoslimError(f"{key}={value}: expected {SWITCH}.")


def check_folder(folder: str) -> None:
    """Refuse a folder of YAML files that may not be read: Hydra would take it for an empty one.

    Raises:
        AutoslimError: naming the folder.
    """
    if os.path.isdir(folder) and not os.access(folder, os.R_OK | os.X_OK):
        raise AutoslimError(
            f"cannot read the configuration folder {folder}: permission denied. Name another with "
            "--config-dir, or give yourself the right to read it."
        )


def validate(cfg: object) -> Config:
    """The composed configuration as checked dataclasses.

    Args:
        cfg: what Hydra composed from ``conf/`` (or a ``Config``, which comes back as it is).

    Raises:
        AutoslimError: a key that does not exist, a value that is missing, of the wrong type or out of range.
    """
    if isinstance(cfg, Config):
        return cfg
    if not (isinstance(cfg, DictConfig) and OmegaConf.get_type(cfg) is Config):
        raise AutoslimError(
            f"expected a configuration composed from autoslim's schema, got {type(cfg).__name__}. "
            "Compose it with autoslim.config.compose(['arch=resnet20', 'slim.target=0.5'])."
        )
    docs = documentation()
    try:
        for key in _strangers(cfg):
            raise AutoslimError(unknown_key(key, docs))
        for key in sorted(OmegaConf.missing_keys(cfg)):
            raise AutoslimError(
                f"{key} has no value. It is the {docs.get(key, 'key')}: give it as {key}=VALUE."
            )
        result = OmegaConf.to_object(cfg)
    except OmegaConfBaseException as error:
        raise AutoslimError(describe(error, docs)) from error
    assert isinstance(result, Config)
    return result


def compose(overrides: Sequence[str] | Mapping[str, Any] = (), config_dir: str | None = None) -> Config:
    """The configuration that the command line would build from these overrides, checked.

    >>> compose(["arch=resnet56", "slim.target=[0.5,0.3]"]).slim.targets
    (0.5, 0.3)

    Args:
        overrides: as typed after ``python -m autoslim``; or a mapping from key to value.
        config_dir: a folder with YAML files of one's own (as ``--config-dir``).

    Raises:
        AutoslimError: as :func:`validate`; also for an unknown option of a group.
    """
    import hydra

    if isinstance(overrides, Mapping):
        overrides = [f"{key}={'null' if value is None else value}" for key, value in overrides.items()]
    if config_dir:
        check_folder(config_dir)
    extra = [f"hydra.searchpath=[file://{config_dir}]"] if config_dir else []
    try:
        with hydra.initialize_config_module("autoslim.conf", version_base="1.3"):
            cfg = hydra.compose("config", [*extra, *overrides])
        check_overrides(overrides)
    except FAMILY as error:
        raise AutoslimError(describe(error, documentation())) from error
    return validate(cfg)
