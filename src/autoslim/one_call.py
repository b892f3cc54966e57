"""One call from a Keras model to smaller ones: supernet, search and retraining, from arrays or data sets."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from autoslim.call_settings import differing, renamed
from autoslim.datasets.divided import Divided, Division, divided, images_of
from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.graph.sorting import sort_channels
from autoslim.kinds import METHODS
from autoslim.reporting.network import NetworkResult
from autoslim.reporting.slimmed import Slimmed
from autoslim.reporting.statistics import guessing, near_chance, standard_error
from autoslim.schema import OptimizerConfig, RetrainConfig, SlimConfig, SupernetConfig, TrainConfig
from autoslim.schema.checks import Options, gather
from autoslim.schema.starts import filled, first_weights
from autoslim.scoring import images_in
from autoslim.slimming.calibrate import calibrate
from autoslim.slimming.importance import CRITERIA, put_important_first
from autoslim.slimming.levels import Levels
from autoslim.slimming.search import search
from autoslim.slimming.trajectory import Trajectory
from autoslim.stages.scored import SCORED, ScoreFile
from autoslim.stages.store import TRAJECTORY
from autoslim.tasks import AnyTask
from autoslim.tasks.configured import given_task
from autoslim.tasks.identity import identity
from autoslim.training.checkpoint import Checkpoints
from autoslim.training.evaluate import evaluate
from autoslim.training.fit import fit, train_supernet
from autoslim.writing import write_whole

log = logging.getLogger(__name__)

SECTIONS: dict[str, type[Options]] = {
    "supernet": SupernetConfig,
    "retrain": RetrainConfig,
    "optimizer": OptimizerConfig,
    "train": TrainConfig,
}
"""Sections of the configuration that `slim` takes as dicts; keys of section `slim` are plain keywords."""
SETTINGS = "settings.json"
START = "start"
CALIBRATION_BATCHES = 16


def slim(
    model: keras.Model,
    train: Any,
    /,
    target: float | list[float] = 0.5,
    *,
    holdout: Any = 0.2,
    test: Any = None,
    folder: Path | str | None = None,
    trained: bool | None = None,
    task: AnyTask | Mapping[str, Any] | None = None,
    **keys: Any,
) -> Slimmed:
    """Find, train and return smaller versions of a network.

    >>> result = autoslim.slim(model, (x, y), target=[0.5, 0.3], retrain={"epochs": 20})  # doctest: +SKIP
    >>> result.models[0.5].save("half.keras")  # doctest: +SKIP

    Args:
        model: functional or Sequential Keras model; it is copied, not changed. The copy's weights are where
            training begins. Where it leaves sizes open, costs are those for the first held-out batch's.
        train: (images, labels) as arrays in a tuple, a tf.data.Dataset of batches, a keras PyDataset, a list
            of batches, or a data set of `autoslim.datasets`. Labels are whole numbers or one-hot rows. All
            but the last are read into memory, unless `holdout` gives the images that the search looks at.
        target: share of the network's FLOPs (or of `resource`) to keep; a list gives a network for each.
        holdout: share of the training images that the search looks at and the supernet does not learn; or
            these images, as `train`.
        test: images for the final figures, as `train`; None: the held-out ones, which flatters.
        folder: for checkpoints; the same call with it goes on where it was stopped. It keeps the weights that
            the first call began with: a model without trained weights may have been built anew.
        trained: whether the model's weights are trained for this task: they are then trained on gently. None:
            found out on the held-out images for classes; else no.
        task: what is learnt, as in `fit`.
        keys: options by their names on the command line: those of section `slim` plainly (resource="params",
            limits={...}, method="taylor"), sections as dicts (supernet={"epochs": 5}, retrain={...},
            optimizer={...}, train={"batch_size": 64}); and seed.

    Returns:
        The networks with their figures, and the search's path.

    Raises:
        AutoslimError: for options that do not exist, budgets that can't be met, or a folder of another call.
    """
    seed = int(keys.pop("seed", 0))
    sections = {name: gather("slim", [kind], [], keys.pop(name, {}))[0] for name, kind in SECTIONS.items()}
    (chosen,) = gather("slim", [SlimConfig], [], {**keys, "target": target})
    task = given_task(task)
    job = _Job(chosen, _Sections(**sections), seed, task, None if folder is None else Path(folder))
    graph = _copied(model, chosen)
    data = divided(train, holdout, Division(job.batch_size, chosen.batch_size, chosen.images, seed))
    sizes = _sizes(data.heldout)
    if any(None in shape[1:] for shape in graph.trace.input_shapes):  # costs are those of the images' sizes
        graph = ChannelGraph(graph.model, tuple(chosen.freeze), sizes)
    trained = _is_trained(graph, data, task) if trained is None else trained
    given, job = job, job.resolved(trained)  # the folder keeps what was given
    given.claim(graph, data, trained)
    levels = Levels.spaced(graph, chosen.levels, chosen.min_width, chosen.divisor, chosen.step)
    judged = data.heldout if test is None else images_of(test, job.batch_size)
    networks = (
        [_result(None, graph.model, graph.channels(graph.full), sizes, judged, task)] if trained else []
    )
    begun = _own_weights(job, graph)
    _supernet(job, graph, levels, data, trained)
    path = _searched(job, graph, levels, data)
    found = {
        wanted: _retrained(job, begun or graph, path, wanted, data, trained)
        for wanted in chosen.targets
        if path.reaches(wanted, chosen.limits.given)
    }
    networks += [
        _result(wanted, small, graph.channels(_widths(path, wanted, chosen)), sizes, judged, task)
        for wanted, small in found.items()
    ]
    images = sum(images_in(batch[1]) for batch in judged)
    return Slimmed(found, tuple(networks), path, graph.cost(), images, test is not None, chosen)


def _result(
    target: float | None, model: keras.Model, channels: dict[str, int], sizes: Any, judged: Any, task: Any
) -> NetworkResult:
    """What a network costs and reaches; no target: the given one."""
    found, cost = evaluate(model, judged, task), ChannelGraph(model, image_shape=sizes).cost()
    return NetworkResult(
        "given" if target is None else "autoslim",
        target,
        metric=found.metric,
        loss=found.loss,
        cost=cost,
        channels=channels,
        folder="",
        measure=found.measure,
        error=standard_error(found.values),
    )


class _Sections(NamedTuple):
    supernet: SupernetConfig
    retrain: RetrainConfig
    optimizer: OptimizerConfig
    train: TrainConfig


@dataclasses.dataclass(frozen=True)
class _Job:
    """The options of one call."""

    slim: SlimConfig
    sections: _Sections
    seed: int
    task: AnyTask
    folder: Path | None

    @property
    def batch_size(self) -> int:
        return self.sections.train.batch_size

    @property
    def prunes(self) -> bool:
        """Whether the method takes trained weights as they are, in place of a supernet."""
        return METHODS[self.slim.method].importance is not None

    def resolved(self, trained: bool) -> _Job:
        """The same, with a value for `retrain.init`; `trained`: whether the model is.

        Raises:
            AutoslimError: for what begins with trained weights where the model has none.
        """
        init = first_weights(self.sections.retrain, trained, self.prunes)
        if not trained and (self.prunes or init == "baseline"):
            what, other = (
                (f"method={self.slim.method}", "method='greedy'")
                if self.prunes
                else ("retrain.init='baseline'", "retrain={'init': 'supernet'}")
            )
            raise AutoslimError(
                f"{what} needs trained weights, and the model has none (trained=True says that it has). "
                f"Train it first, or choose {other}."
            )
        retrain = dataclasses.replace(self.sections.retrain, init=init)
        return dataclasses.replace(self, sections=self.sections._replace(retrain=retrain))

    def place(self, name: str) -> Path | None:
        """A folder within the call's."""
        return None if self.folder is None else self.folder / name

    def claim(self, graph: ChannelGraph, data: Divided, trained: bool) -> None:
        """Keep what the folder's files depend on; refuse a folder of another call.

        The weights begun with are kept too: of a later call the model gets these.
        """
        if self.folder is None:
            return
        file, model = self.folder / SETTINGS, graph.model
        start = Checkpoints(self.folder / START, model, keep=1)
        mine = json.loads(json.dumps(self._settings(model, data, trained)))
        if not file.exists():
            start.save({})
            write_whole(file, json.dumps(mine, indent=1))
            return
        try:
            there = json.loads(file.read_text(encoding="utf-8"))
            other = differing(mine, there)
        except (OSError, ValueError, AttributeError) as error:
            raise AutoslimError(
                f"{file} can't be read ({error}). Choose another folder, or remove it."
            ) from error
        if "weights" in other and not trained:  # built anew, with other random numbers
            log.info("%s: goes on with the weights that its first call began with.", self.folder)
            other.remove("weights")
        if other:
            raise AutoslimError(
                f"{self.folder} is of another call of slim(), with other {', '.join(other)}. Choose another "
                f"folder, or remove this one.{renamed(mine, there)}"
            )
        start.restore()

    def _settings(self, model: keras.Model, data: Divided, trained: bool) -> dict[str, Any]:
        """All that the results depend on, to be written as JSON."""
        weights = hashlib.sha256(b"".join(np.asarray(v).tobytes() for v in model.weights))
        options = {"slim": self.slim, **self.sections._asdict()}
        return {
            "options": {name: identity(dataclasses.asdict(one)) for name, one in options.items()},
            "seed": self.seed,
            "task": identity(self.task),
            "network": [[v.path, list(v.shape)] for v in model.variables],
            "weights": weights.hexdigest(),
            "held-out images": data.fingerprint,
            "trained": trained,
        }


def _sizes(batches: list[Any]) -> tuple[int, ...] | None:
    """Sizes of the first batch's images, without the batch; None where a network has several inputs."""
    images = tf.nest.flatten(batches[0][0])
    return tuple(np.shape(images[0])[1:]) if len(images) == 1 else None


def _copied(model: keras.Model, chosen: SlimConfig) -> ChannelGraph:
    """The graph of a copy of the model, with the same weights."""
    whole = ChannelGraph(model, tuple(chosen.freeze))
    return ChannelGraph(whole.materialize(whole.full), tuple(chosen.freeze))


def _is_trained(graph: ChannelGraph, data: Divided, task: Any) -> bool:
    """Whether the model answers clearly better than by guessing classes."""
    found = evaluate(graph.model, data.heldout, task)
    if not found.measure.binary:
        return False
    labels = np.concatenate([np.asarray(tf.nest.flatten(batch[1])[0]) for batch in data.heldout])
    labels = labels.argmax(-1) if labels.ndim > 1 and labels.shape[-1] > 1 else labels.reshape(-1)
    labels = labels.astype(np.int64)
    trained = not near_chance(found.metric, len(labels), guessing(labels, int(labels.max()) + 1))
    log.info(
        "The model reaches %s on held-out images: its weights are taken as %strained (trained=True or False "
        "says which they are).",
        found.measure.text(found.metric),
        "" if trained else "not ",
    )
    return trained


# -- the three steps -----------------------------------------------------------------------------------------


def _clean(data: Divided) -> list[Any]:
    """Batches that batch-norm statistics and importances are taken over."""
    return [batch[:2] for batch in data.kept.dataset(1).take(CALIBRATION_BATCHES)]


def _supernet(job: _Job, graph: ChannelGraph, levels: Levels, data: Divided, trained: bool) -> None:
    """Train the copy at every width; for a method that prunes a trained network, sort its channels only."""
    criterion = METHODS[job.slim.method].importance
    start = "trained" if trained else "fresh"
    if criterion is not None:
        sort_channels(graph, CRITERIA[criterion](graph, _clean(data), job.task))
        return
    if trained:
        put_important_first(graph)
    train_supernet(
        graph,
        levels,
        data.kept,
        filled(job.sections.supernet, start, job.sections.optimizer),
        job.sections.optimizer,
        job.sections.train,
        seed=job.seed,
        folder=job.place("supernet"),
        task=job.task,
    )


def _own_weights(job: _Job, graph: ChannelGraph) -> ChannelGraph | None:
    """A copy with the model's own weights, sorted, where the small networks begin with these; else None."""
    if job.sections.retrain.init != "baseline":
        return None
    copy = _copied(graph.model, job.slim)
    put_important_first(copy)
    return copy


def _searched(job: _Job, graph: ChannelGraph, levels: Levels, data: Divided) -> Trajectory:
    """The search, which keeps its path in the folder."""
    place = job.place("search")
    start, known, file = None, None, None
    if place is not None:
        place.mkdir(parents=True, exist_ok=True)
        file = place / TRAJECTORY
        if file.exists() and METHODS[job.slim.method].path:
            start = Trajectory.from_dict(json.loads(file.read_text(encoding="utf-8")))
        known = _Kept(ScoreFile(place / SCORED))

    def keep(path: Trajectory) -> None:
        if file is not None:
            write_whole(file, json.dumps(path.to_dict()))

    return search(
        graph,
        levels,
        data.heldout,
        job.slim,
        seed=job.seed,
        start=start,
        known=known,
        on_point=keep,
        task=job.task,
    )


class _Kept(dict[Any, Any]):
    """Scores that are written down as they come."""

    def __init__(self, file: ScoreFile) -> None:
        super().__init__(file.known)
        self._file = file

    def __setitem__(self, widths: Any, score: Any) -> None:
        super().__setitem__(widths, score)
        self._file.add(widths, score)


def _widths(path: Trajectory, target: float, chosen: SlimConfig) -> np.ndarray:
    """What the search found for a target: int32 [G]."""
    return np.array(path.at(target, chosen.limits.given).widths, np.int32)


def _retrained(
    job: _Job, graph: ChannelGraph, path: Trajectory, target: float, data: Divided, trained: bool
) -> keras.Model:
    """The network for a target, trained on all images."""
    r = job.sections.retrain
    small = graph.materialize(_widths(path, target, job.slim), weights=r.init != "scratch")
    fit(
        small,
        data.all,
        filled(r, "fresh" if r.init == "scratch" or not trained else "trained", job.sections.optimizer),
        job.sections.optimizer,
        job.sections.train,
        folder=job.place(f"retrain-{target:g}"),
        description=f"retrain {target:g}",
        task=job.task,
    )
    calibrate(ChannelGraph(small), _clean(data))
    return small
