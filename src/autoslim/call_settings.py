"""How the settings of two calls of `autoslim.slim` with one folder differ."""

from __future__ import annotations

from typing import Any


def differing(mine: dict[str, Any], there: dict[str, Any]) -> list[str]:
    """What two calls' settings (`_Job.claim` of `one_call`) differ in, options by their names."""
    other = [name for name in mine if there.get(name) != mine[name]]
    if "options" in other:
        sections = mine["options"]
        names = [
            f"{section}.{name}"
            for section, values in sections.items()
            for name in values
            if there["options"].get(section, {}).get(name) != values[name]
        ]
        other[other.index("options")] = f"options ({', '.join(names)})"
    return other


def renamed(mine: dict[str, Any], there: dict[str, Any]) -> str:
    """A hint, where two networks differ by their layers' names alone."""
    network, other = mine["network"], there.get("network", [])
    if network == other or [shape for _, shape in network] != [shape for _, shape in other]:
        return ""
    changed = [(new[0], old[0]) for new, old in zip(network, other, strict=True) if new != old]
    new, old = min(changed, key=lambda pair: "seed_generator" in pair[0])  # these are not the user's to name
    return (
        f" Its layers have other names ({new} in place of {old}): call "
        "keras.utils.clear_session() before the model is built, or name them."
    )
