"""Every key of the configuration with its meaning, out of the option classes."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from typing import Any, NamedTuple

from omegaconf import MISSING

from autoslim.schema.arch import (
    ArchConfig,
    CustomArch,
    ImageNetArch,
    KerasApplication,
    KerasFile,
    MobileNetV2,
    ResNet,
    WideResNet,
)
from autoslim.schema.checks import Options
from autoslim.schema.config import Config

ARCHS: dict[str, type[ArchConfig]] = {
    "resnet": ResNet,
    "wide_resnet": WideResNet,
    "mobilenet_v2": MobileNetV2,
    "imagenet": ImageNetArch,
    "keras_application": KerasApplication,
    "keras_file": KerasFile,
    "custom": CustomArch,
}
"""The kinds of networks by the names of their schemas."""


SWITCH = "true or false"  # the range of such keys, in words


class Key(NamedTuple):
    """A key of the configuration, or the section that holds others."""

    name: str  # as it is typed: "slim.target"
    doc: str
    default: Any
    range: str  # in words; "": a section, or anything of its type
    of: str = ""  # the kind of network that has it, "": all


def keys(kind: type[Options] = Config, prefix: str = "") -> Iterator[Key]:
    """All keys, section by section, those of all kinds of networks included."""
    hints = typing.get_type_hints(kind)
    for item in dataclasses.fields(kind):
        name = prefix + item.name
        nested: Any = item.default_factory
        if dataclasses.is_dataclass(nested):
            yield Key(name, item.metadata["doc"], None, "")
            inner: Any = nested
            yield from _networks(f"{name}.") if nested is ArchConfig else keys(inner, f"{name}.")
            continue
        default = item.default if nested is dataclasses.MISSING else nested()
        check = item.metadata["check"]
        words = f"one of: {', '.join(check.words)}" if check.words else ""
        yield Key(name, item.metadata["doc"], default, words or check.range(_type(hints[item.name])))


def _networks(prefix: str) -> Iterator[Key]:
    """Keys that all networks have, then those of each kind."""
    common = list(keys(ArchConfig, prefix))
    yield from common
    shared = {key.name for key in common}
    for called, kind in ARCHS.items():
        yield from (key._replace(of=called) for key in keys(kind, prefix) if key.name not in shared)


def _type(hint: Any) -> str:
    """A type in words.

    >>> _type(int | None), _type(list[float])
    ('a whole number', 'a list')
    """
    names = {bool: SWITCH, int: "a whole number", float: "a number", str: "a text"}
    names |= {list: "a list", dict: "names of your own, each `+key.NAME=VALUE`"}
    plain = next((one for one in typing.get_args(hint) or (hint,) if one is not type(None)), hint)
    plain = hint if typing.get_origin(hint) in (list, dict) else plain
    return names.get(typing.get_origin(plain) or plain, "a value")


def shown(value: Any) -> str:
    """A value as it is typed.

    >>> shown(None), shown(True), shown([0.5, 0.3]), shown("sgd")
    ('null', 'true', '[0.5,0.3]', 'sgd')
    """
    if value is None:
        return "null"
    if value == MISSING:
        return "???"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(shown, value))}]"
    return str(value) if not isinstance(value, float) else f"{value:g}"


def reference() -> str:
    """The page of the documentation: a table of keys for each section."""
    parts = [
        "# Configuration reference",
        "Every key, as it is typed: `python -m autoslim slim.target=0.3 train.batch_size=64`. From Python "
        "the same names are keywords: `autoslim.fit(..., label_smoothing=0.1)`. A file of an option "
        "(`arch=resnet56`, `slimming=predictor`, `optimizer=adamw`, `+recipe=economy`) may set other "
        "defaults: `python -m autoslim --cfg job` shows what holds.",
    ]
    sections: dict[str, list[Key]] = {}
    titles: dict[str, str] = {"": "The run"}
    for key in keys():
        if key.range:
            sections.setdefault(key.name.rpartition(".")[0], []).append(key)
        else:
            titles[key.name] = key.doc
    for section, members in sections.items():
        parts.append(f"## {f'`{section}`: ' if section else ''}{titles[section]}")
        parts.append(_table(members))
    return "\n\n".join(parts) + "\n"


def _table(members: list[Key]) -> str:
    lines = ["| key | meaning | default | values |", "| --- | --- | --- | --- |"]
    for key in members:
        whose = f" ({key.of})" if key.of else ""
        cells = [f"`{key.name}`", f"{key.doc}{whose}", f"`{shown(key.default)}`", key.range]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)
