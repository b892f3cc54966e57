"""The table of measured networks, kept in a file: raw rounds, and what decides if they still hold."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from autoslim.graph import ChannelGraph
from autoslim.rounds import NOISY, Sample, error, median, spread
from autoslim.sealing import sealed_json, unsealed
from autoslim.slimming.levels import Levels
from autoslim.writing import write_whole

log = logging.getLogger(__name__)

# Configuration that does not decide how long a layer takes: names, and endings of names.
UNTIMED = ("name", "trainable", "seed")
UNTIMED_ENDS = ("_initializer", "_regularizer", "_constraint")


@dataclass(frozen=True)
class Measurement:
    """A network that was measured along with the full one."""

    widths: tuple[int, ...]  # [G]
    rounds: tuple[float, ...]  # of the network, in the meter's unit
    full: float  # the full network in the same session
    near: float | None = None  # the target near which it was measured; None: for all targets
    chosen: bool = False  # by a search for that target
    settled: bool = True  # whether its rounds, or two measurements of it, agree

    @property
    def share(self) -> float:
        """Its median as a share of the full network's."""
        return median(self.rounds) / self.full


class LatencyTable:
    """Measurements of one network's widths in one place, in memory and in a file.

    Args:
        graph: of the network; the full one is measured in every session.
        identity: of what measures (`Meter.identity`).
        network: of the network and its levels (`network_hash`).
        folder: of the file; None: in memory only.
    """

    def __init__(
        self, graph: ChannelGraph, identity: Mapping[str, Any], network: str, folder: Path | None
    ) -> None:
        self.graph, self.identity, self.network = graph, dict(identity), network
        place = hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()[:6]
        name = f"{network}-{place}.json"
        self.path = None if folder is None else folder / name
        self.measurements: list[Measurement] = []
        self.refined: list[float] = []  # targets near which enough networks were measured

    @property
    def full(self) -> float:
        """The full network's median in the first session."""
        return self.measurements[0].full

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Within the block no other process measures the same: it waits, and reads what was measured."""
        if self.path is None:
            yield
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock"):
            yield

    def read(self) -> None:
        """Take over the file's measurements, if they are of the same network, measured in the same place."""
        if self.path is None:
            return
        if not self.path.exists():
            self._tell_others()
            return
        try:
            data = unsealed(self.path.read_text(encoding="utf-8"))
            for name, here in (("network", self.network), ("identity", self.identity)):
                if data[name] != here:
                    log.warning(
                        "latency: %s is of another %s (%s; here it is %s): it is measured again",
                        self.path,
                        "network" if name == "network" else "device, runtime or version",
                        data[name],
                        here,
                    )
                    return
            found = self._checked([_measurement(item) for item in data["measurements"]])
            self._take(found, [float(target) for target in data["refined"]])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning(
                "latency: %s is damaged (%s): it is measured again",
                self.path,
                f"{type(error).__name__}: {error}"[:120],
            )

    def _take(self, found: list[Measurement], refined: list[float]) -> None:
        """Take over what agrees; what was noisy is measured again, everything where the full network was.

        A network that a search chose is kept: it is not measured again where the search is done.
        """
        noisy = [m for m in found if not (m.settled or m.chosen)] if found[0].settled else found
        if noisy:
            log.info("latency: %d of %d measurements were noisy: they are made again", len(noisy), len(found))
        if found[0].settled:
            self.measurements = [m for m in found if m.settled or m.chosen]
            self.refined = [target for target in refined if target not in {m.near for m in noisy}]

    def lacking(
        self, networks: Sequence[np.ndarray], near: float | None, chosen: bool = False
    ) -> list[np.ndarray]:
        """Those of the networks int [G], each once, that were not measured for this target."""
        known = {m.widths for m in self.measurements if m.near is None or (m.near == near)}
        if chosen:  # one that was drawn by chance counts more once a search has chosen it
            known = {m.widths for m in self.measurements if m.near == near and m.chosen}
        found: dict[tuple[int, ...], np.ndarray] = {}
        for network in networks:
            key = tuple(int(width) for width in network)
            if key not in known:
                found.setdefault(key, network)
        return list(found.values())

    def add(
        self,
        networks: Sequence[np.ndarray],
        samples: Sequence[Sample],
        near: float | None,
        chosen: bool = False,
    ) -> None:
        """Keep a session whose first network is the full one, and write the file."""
        first = 0 if not self.measurements else 1
        for network, one in list(zip(networks, samples, strict=True))[first:]:
            widths = tuple(int(width) for width in network)
            self.measurements.append(
                Measurement(widths, one.rounds, one.reference, near, chosen, one.settled)
            )
        self._write()

    def finish(self, target: float) -> None:
        """Keep that enough networks were measured near a target."""
        self.refined.append(target)
        self._write()

    def _checked(self, found: list[Measurement]) -> list[Measurement]:
        self.graph.check(np.array([m.widths for m in found]))
        if found[0].widths != tuple(int(width) for width in self.graph.full):
            raise ValueError("the first network is not the full one")
        for m in found:
            if not m.rounds or not all(0 < t < math.inf for t in (*m.rounds, m.full)):
                raise ValueError("a time that is not above 0")
        return found

    def _tell_others(self) -> None:
        """Say that the network was measured elsewhere: with another device, runtime or version."""
        assert self.path is not None
        others = sorted(self.path.parent.glob(f"{self.network}-*.json"))
        if others:
            log.info(
                "latency: the measurements in %s are of another device, runtime or version than this one "
                "(%s): it is measured here",
                others[0],
                conditions(self.identity),
            )

    def _write(self) -> None:
        if self.path is None:
            return
        data = {
            "network": self.network,
            "identity": self.identity,
            "refined": self.refined,
            "groups": [group.name for group in self.graph.groups],
            "measurements": [
                {
                    "widths": m.widths,
                    "near": m.near,
                    "chosen": m.chosen,
                    "settled": m.settled,
                    "spread": spread(m.rounds),
                    "full": m.full,
                    "rounds": m.rounds,
                }
                for m in self.measurements
            ],
        }
        write_whole(self.path, sealed_json(data))


def network_hash(graph: ChannelGraph, levels: Levels) -> str:
    """What the time of the network at any of its levels depends on, in short."""
    layers = []
    for node in graph.trace.nodes:
        try:
            config = node.op.get_config()
        except (AttributeError, NotImplementedError):
            config = {}
        kept = {k: v for k, v in config.items() if k not in UNTIMED and not k.endswith(UNTIMED_ENDS)}
        layers.append([type(node.op).__name__, kept, node.inputs, node.output_shapes])
    text = json.dumps([layers, graph.trace.input_shapes, levels.widths], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def conditions(identity: Mapping[str, Any]) -> str:
    """A meter's identity in words.

    >>> conditions({"runtime": "litert", "threads": 1, "device": "a CPU", "versions": {"tensorflow": "2.21"}})
    'litert, threads 1, a CPU, tensorflow 2.21'
    """
    order = ("runtime", "measure", "threads", "device")
    parts = [f"{k} {identity[k]}" if k == "threads" else str(identity[k]) for k in order if k in identity]
    return ", ".join(
        [*parts, *(f"{name} {version}" for name, version in identity.get("versions", {}).items())]
    )


def _measurement(item: Mapping[str, Any]) -> Measurement:
    near, rounds = item["near"], tuple(float(time) for time in item["rounds"])
    return Measurement(
        tuple(int(width) for width in item["widths"]),
        rounds,
        float(item["full"]),
        None if near is None else float(near),
        bool(item["chosen"]),
        bool(item.get("settled", error(rounds) <= NOISY)),  # tables of earlier versions do not say it
    )
