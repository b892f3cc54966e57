"""One line for people out of what Hydra, OmegaConf and PyYAML raise."""

import re
from collections.abc import Collection, Mapping
from types import MappingProxyType

import yaml
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from autoslim.errors import AutoslimError, near
from autoslim.resources import RESOURCES
from autoslim.schema.config import STAGES

FAMILY = (
    AutoslimError,
    HydraException,
    OmegaConfBaseException,
    yaml.YAMLError,
    RecursionError,
    UnicodeDecodeError,
)
"""The exceptions that mean "bad input": one line and exit status 2, never a traceback."""


HINTS = {
    "recipe": "+recipe=NAME (with a plus: it is added to the configuration)",
    "experiment": "+recipe=NAME (values that go together)",
    "lr": "optimizer.learning_rate",
    "model": "arch",
    "data": "dataset",
    "method": "slimming",
    **{name: f"slim.limits.{name}" for name in RESOURCES},
    "logger": "train.logger",
    "callbacks": "train.callbacks",
}
"""What people type by habit from other tools, and the key that they look for."""


def one_line(text: object) -> str:
    """The text with every run of white space, line ends included, as one blank."""
    return " ".join(str(text).split())


def unknown_key(key: str, keys: Collection[str]) -> str:
    """The message for a key that the schema does not have, or that has none of those in a mapping."""
    inner = [name for name in keys if name.startswith(f"{key}.")]
    if inner:
        return f"{key} has no such key. Its keys: {', '.join(inner)}."
    if key in keys:
        return f"{key} takes names of your own, added with a plus: +{key}.NAME=VALUE for each."
    hint = HINTS.get(key.rpartition(".")[2])
    meant = f" Did you mean {hint}?" if hint else near(key, keys)
    return f"unknown key {key}.{meant} Every key with its value: python -m autoslim --cfg job"


def _chain(error: BaseException) -> list[BaseException]:
    """The exception and what led to it, outermost first."""
    found = []
    link: BaseException | None = error
    while link is not None and link not in found:
        found.append(link)
        link = link.__cause__ or link.__context__
    return found


def _unreadable(override: str) -> str:
    """The message for an argument that Hydra's grammar does not take."""
    if override in STAGES:
        return f"cannot read {override!r}: expected key=value. A stage is asked for so: stages=[{override}]."
    key, equals, value = override.partition("=")
    if equals and re.fullmatch(r"[+~]*[\w.@/]+", key) and value[:1] not in "'\"[{":
        quoted = value.replace("\\", "\\\\").replace('"', '\\"')
        return (
            f"cannot read {override!r}: a value with special characters, or letters beyond ASCII, needs "
            f"quotes of its own inside those of the shell: '{key}=\"{quoted}\"'"
        )
    return (
        f"cannot read {override!r}: expected key=value or group=option, with no blank "
        "around the = and every bracket and quote closed."
    )


def _missing_option(error: MissingConfigException) -> str:
    """The message for ``group=option`` where the group has no such option."""
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    options = list(error.options or ())
    if not group or not options:
        return _without_details(error)
    extra = {"joblib": "joblib", "submitit_local": "submitit", "submitit_slurm": "submitit"}.get(name)
    if group == "hydra/launcher" and extra:
        return f"hydra/launcher={name} needs an extra package: pip install 'autoslim[{extra}]'"
    return f"unknown {group} {name!r}.{near(name, options)} There are: {', '.join(options)}."


def _without_details(error: BaseException) -> str:
    """The exception's text without the lines that only a developer of Hydra can use."""
    noise = ("reference_type", "object_type", "full_key", "Config search path", "provider=", "Set the env")
    lines = [line.strip() for line in str(error).splitlines()]
    return one_line(" ".join(line for line in lines if line and not line.startswith(noise)))


def _schema_error(error: OmegaConfBaseException, docs: Mapping[str, str]) -> str:
    """The message for a value or a key that the typed schema refuses."""
    text = re.sub(r"^\w+ raised while resolving interpolation: ", "", _without_details(error))
    key = str(error.full_key or "").replace("_dummy_", "")  # Hydra's, for a choice within the defaults list
    if isinstance(error, ConfigKeyError | ConfigAttributeError) and "not in" in text:
        return unknown_key(key, docs)
    if not key:
        return text
    way_out = f" A list is typed so: '{key}=[a,b]'." if "is not a ListConfig" in text else ""
    return f"{key}: {text.rstrip('.')}." + (f" It is: {docs[key]}." if key in docs else "") + way_out


def describe(error: BaseException, docs: Mapping[str, str] = MappingProxyType({})) -> str:
    """One line for an exception of ``FAMILY``; ``docs`` are the schema's keys with what they mean.

    >>> describe(ValueError("two\\n  lines"))
    'two lines'
    """
    chain = _chain(error)
    first = chain[0]
    if isinstance(first, AutoslimError):
        return one_line(first)
    if isinstance(first, RecursionError):
        return "a value or a file is nested too deep to be read: look for brackets within brackets."
    if isinstance(first, UnicodeDecodeError):
        return f"a config file holds no text in UTF-8: {one_line(first)}. Write it as UTF-8."
    if isinstance(first, yaml.YAMLError):
        return f"not valid YAML: {one_line(first)}"
    override = re.match(r"Could not override '([^']+)'", str(first))
    if override:
        return unknown_key(override.group(1), docs)
    if isinstance(first, OverrideParseException):
        return _unreadable(str(first.override))
    for link in chain:
        if isinstance(link, MissingConfigException):
            return _missing_option(link)
        if isinstance(link, OmegaConfBaseException):
            where = re.match(r"In '([^']+)'", str(first))
            return (f"in the config file {where.group(1)}: " if where else "") + _schema_error(link, docs)
    return _without_details(first)
