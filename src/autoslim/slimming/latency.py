"""Latency as a resource: a model of it, fitted to networks that were measured whole.

A few dozen networks are measured in the runtime in which the network will be deployed: the full one, the
smallest, uniform and random ones. The fit to them (`slimming.latency_fit`) never falls with a width. Networks
near each target are measured next and added, until the fit is right there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import keras
import numpy as np

from autoslim.graph import ChannelGraph
from autoslim.rounds import AGREE, Sample, median, settle, spread
from autoslim.slimming.features import Features
from autoslim.slimming.latency_curve import Curve, curve_through
from autoslim.slimming.latency_fit import Fit, fit
from autoslim.slimming.latency_plan import first_networks, networks_near
from autoslim.slimming.latency_table import LatencyTable, Measurement, conditions, network_hash
from autoslim.slimming.levels import Levels
from autoslim.slimming.own_measure import OwnMeasure

log = logging.getLogger(__name__)

TOGETHER = 11  # networks of a session, not counting the full one
NEAR = 8  # networks of a refinement near a target
REFINEMENTS = 3  # at most, near a target
CLOSE = 0.03  # median error near a target that needs no further refinement
ANCHOR_WEIGHT = 9.0  # of the full and the smallest network, and of networks that a search has chosen
FINAL_ROUNDS = 3  # of a measurement of the user's own, for the report


class Meter(Protocol):
    """What measures networks: `exporting.latency.NetworkClock`, or `OwnMeasure`."""

    name: str  # as in the configuration
    unit: str  # "ms", or what a function of the user's own measures

    @property
    def identity(self) -> dict[str, object]:
        """All that decides what is measured, other than the network: JSON-able."""

    def __call__(
        self, models: Iterable[keras.Model], on_ready: Callable[[], None] = ..., rounds: int = 1
    ) -> list[list[float]]:
        """Interleaved rounds of each model, at least `rounds`; `on_ready` is called for each model."""


class Measured(NamedTuple):
    """A network measured along with the full one."""

    time: float  # median of its rounds, in the meter's unit
    spread: float  # half the distance between the quartiles of its rounds, as a share of the median
    share: float  # of the full network's in the same session
    settled: bool  # whether its rounds, or two measurements of it, agree


class LatencyModel:
    """Predicted latency of a network at any widths; it measures when it is first asked.

    Args:
        graph: of the network.
        levels: the widths that each group may take; the networks to measure are drawn from them.
        measure: a `NetworkClock`, or a function of a Keras model that returns a number above 0, of which less
            is better: energy, the latency on a phone. It sees models whose weights are random.
        folder: where the table of measurements is kept between runs; None: in memory.
        targets: shares of the full network's latency near which the prediction must be right.
        limit: a latency, in the unit of what measures, near which it must be right too.
        progress: (description, number of networks) -> a context whose value is called after each network.

    Raises:
        AutoslimError: when it is called, if something cannot be measured.
    """

    def __init__(
        self,
        graph: ChannelGraph,
        levels: Levels,
        measure: Meter | Callable[[keras.Model], float],
        *,
        folder: Path | str | None = None,
        targets: Sequence[float] = (),
        limit: float | None = None,
        progress: Callable[[str, int], AbstractContextManager[Callable[[], Any]]] | None = None,
    ) -> None:
        self.graph, self.levels = graph, levels
        self.limit = limit
        self._shares = {float(target) for target in targets}
        self.meter: Meter = measure if hasattr(measure, "identity") else OwnMeasure(measure)  # type: ignore
        self._progress = progress or (lambda *_: nullcontext(lambda: None))
        self._table = LatencyTable(
            graph, self.meter.identity, network_hash(graph, levels), None if folder is None else Path(folder)
        )
        self._features = Features(graph)
        self._fit: Fit | None = None
        self._curve = Curve(np.arange(2.0), np.arange(2.0))  # brings the fit to what was measured

    @property
    def identity(self) -> dict[str, object]:
        """Device, threads, runtime and versions, or the function that measures."""
        return self.meter.identity

    @property
    def full(self) -> float:
        """The measured latency of the full network."""
        self._ready()
        return self._table.full

    @property
    def targets(self) -> tuple[float, ...]:
        """The shares of the full network's latency near which networks are measured, from the largest."""
        limits = set() if self.limit is None else {self.limit / self._table.full}
        return tuple(sorted((share for share in self._shares | limits if 0 < share < 1), reverse=True))

    @property
    def unit(self) -> str:
        """Of what is measured."""
        return self.meter.unit

    def __call__(self, widths: Any) -> np.ndarray | float:
        """Predicted latency for one image at widths int [..., G]: float, or float64 [...]."""
        array = self.graph.check(widths)
        self._ready()
        found = self._predicted(array)
        return float(found) if array.ndim == 1 else found

    def fitted(self, widths: Any) -> Any:
        """The fit at widths int [..., G], in `unit`: a sum over layers; a curve of it is the prediction."""
        self._ready()
        assert self._fit is not None
        return self._fit(self._features(self.graph.check(widths)))

    def fitted_at(self, latency: float) -> float:
        """The fitted time of which a latency is the prediction, both in `unit`."""
        self._ready()
        return float(self._curve.inverse(np.array(latency)))

    def measured(self, widths: np.ndarray) -> float | None:
        """The measured latency of a network int [G], as a share of the full one's; None: it was not."""
        self._ready()
        return next((m.share for m in self._used() if m.widths == tuple(int(w) for w in widths)), None)

    def learn(self, networks: Sequence[np.ndarray], target: float) -> list[float]:
        """Measure networks int [G] that were chosen for a target, and fit again with them.

        Returns:
            Their measured shares of the full network's latency. What was measured before is not measured
            again.
        """
        self._ready()
        with self._table.locked():
            self._measure(networks, target, chosen=True)
        self._refit()
        shares = [self.measured(network) for network in networks]
        return [share for share in shares if share is not None]

    def compare(self, networks: Sequence[np.ndarray]) -> list[Measured]:
        """The full network and then `networks` int [G], measured in the same rounds; nothing is kept."""
        all_networks = [self.graph.full, *networks]
        with self._progress("latency", len(all_networks)) as advance:
            samples = self._settled(
                all_networks, self.meter(self._models(all_networks), advance, FINAL_ROUNDS)
            )
        return [
            Measured(median(s.rounds), spread(s.rounds), median(s.rounds) / s.reference, s.settled)
            for s in samples
        ]

    @property
    def summary(self) -> dict[str, Any]:
        """How the prediction came about: networks measured, how well, its error on unseen ones, by what."""
        self._ready()
        assert self._fit is not None
        used = self._used()
        return {
            "networks": len(used),
            "spread": float(np.median([spread(m.rounds) for m in used])),
            "noisy": sum(not m.settled for m in used),
            "error": self._fit.error,
            "rank_correlation": self._fit.rank_correlation,
            "unit": self.unit,
            **self.identity,
        }

    # -- measuring and fitting -------------------------------------------------------------------------

    def _ready(self) -> None:
        """Measure what is lacking, once."""
        if self._fit is not None:
            return
        with self._table.locked():
            self._table.read()
            self._measure(first_networks(self.levels), None)
            self._refit()
            for target in self.targets:
                self._refine(target)
        summary = self.summary
        log.info(
            "latency: predicted from %d measured networks (%s; spread of their rounds %.1f %%); "
            "cross-validated: median error %.1f %%, rank correlation %.3f",
            summary["networks"],
            conditions(self.identity),
            100 * summary["spread"],
            100 * summary["error"],
            summary["rank_correlation"],
        )
        if summary["noisy"]:
            log.warning(
                "latency: measurements of %d of %d networks do not agree, however often they were repeated: "
                "another program may be running. The next run measures these again.",
                summary["noisy"],
                summary["networks"],
            )

    def _refine(self, target: float) -> None:
        """Measure networks near a target, until what was predicted of them holds; once for all runs."""
        if target in self._table.refined:
            return
        for number in range(REFINEMENTS):
            near = networks_near(self.levels, self._share, target, NEAR, number)
            expected = [float(self._share(network)) for network in near]
            self._measure(near, target)
            self._refit()
            pairs = zip(expected, (self.measured(network) for network in near), strict=True)
            errors = [abs(e / share - 1) for e, share in pairs if share is not None]
            if not errors or np.median(errors) <= CLOSE:
                break
        self._table.finish(target)

    def _share(self, networks: np.ndarray) -> Any:
        return self._predicted(networks) / self._predicted(self.graph.full)

    def _predicted(self, widths: np.ndarray) -> Any:
        assert self._fit is not None
        return self._curve(self._fit(self._features(widths)))

    def _used(self) -> list[Measurement]:
        """What the fit is made from: not what was measured for other targets."""
        return [m for m in self._table.measurements if m.near is None or m.near in self.targets]

    def _refit(self) -> None:
        used = self._used()
        widths = np.array([m.widths for m in used])
        times = np.array([m.share for m in used]) * self._table.full
        ends = [tuple(map(int, w)) for w in (self.levels.smallest, self.graph.full)]
        weights = np.array([ANCHOR_WEIGHT if m.chosen or m.widths in ends else 1.0 for m in used])
        self._fit = fit(self._features(widths), times, self._features.own, weights)
        self._curve = self._through_known(ends)

    def _through_known(self, ends: Sequence[tuple[int, ...]]) -> Curve:
        """Takes the fit of the smallest, the full and all chosen networks to what was measured."""
        assert self._fit is not None
        known = {m.widths: m.share * self._table.full for m in self._used() if m.chosen or m.widths in ends}
        fitted = self._fit(self._features(np.array(list(known))))
        return curve_through(fitted, np.array(list(known.values())))

    def _measure(self, networks: Sequence[np.ndarray], near: float | None, chosen: bool = False) -> None:
        """Measure the networks that were not, in sessions along with the full one, and keep them."""
        lacking = self._table.lacking(networks, near, chosen)
        if not lacking:
            return
        log.info("latency: measuring %d networks (%s)", len(lacking), conditions(self.identity))
        sessions = []
        for start in range(0, len(lacking), TOGETHER):
            some = lacking[start : start + TOGETHER]
            full = any(np.array_equal(network, self.graph.full) for network in some)
            sessions.append(some if full else [self.graph.full, *some])
        with self._progress("latency", sum(map(len, sessions))) as advance:
            for session in sessions:
                self._table.add(session, self._session(session, advance), near, chosen)

    def _session(self, networks: Sequence[np.ndarray], advance: Callable[[], Any]) -> list[Sample]:
        """Measure networks int [G], the full one first, until what is measured agrees.

        A meter that gives one number a network has no rounds to judge it by; but it gives one of the full
        network in each session. Where these lie apart, a session is measured in rounds.
        """
        first = self.meter(self._models(networks), advance)
        full = self._table.full if self._table.measurements else median(first[0])
        if len(first[0]) == 1 and abs(first[0][0] / full - 1) > AGREE:
            first = self.meter(self._models(networks), rounds=FINAL_ROUNDS)
        return self._settled(networks, first)

    def _settled(self, networks: Sequence[np.ndarray], first: list[list[float]]) -> list[Sample]:
        again = lambda places: self.meter(  # noqa: E731
            self._models([networks[place] for place in places]), rounds=FINAL_ROUNDS
        )
        return settle(first, again)

    def _models(self, networks: Sequence[np.ndarray]) -> Iterable[keras.Model]:
        """The networks as Keras models with random weights, one at a time."""
        return (self.graph.materialize(network, weights=False) for network in networks)
