"""What a stage is: what its result depends on, what it needs, and the work; and where its record is found."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from autoslim.errors import AutoslimError
from autoslim.stages.experiment import Experiment
from autoslim.stages.network import Network
from autoslim.stages.store import NETWORK_FIELDS, StageFolder


class Piece(NamedTuple):
    """One piece of a stage's work, with a folder of its own."""

    stage: Stage
    folder: StageFolder
    what: tuple[Any, ...] = ()  # further arguments of the stage's functions, such as the network
    detail: str = ""  # of its label, such as the target
    network: Network | None = None  # that it trains or evaluates

    @property
    def label(self) -> str:
        """Its name for people: "supernet", "retrain 0.5"."""
        return f"{self.folder.stage} {self.detail}".strip()


class Need(NamedTuple):
    """The result of an earlier stage that a stage reads."""

    stage: Stage
    folder: StageFolder
    needed_by: str  # in a message: "The search"
    check: Callable[[], Any] | None = None  # raises if the result does not serve; None: it must be done
    read: bool = True  # False: nothing of it is read, but what it cost is a part of what the networks cost

    def met(self) -> None:
        """Make sure that the result is there and serves.

        Raises:
            AutoslimError: with the stage to run first; or naming a file of it that is damaged.
        """
        if not self.read:
            return
        if self.check is not None:
            self.check()
        elif not self.folder.done:
            raise AutoslimError(
                f"{self.needed_by} needs the result of stage {self.folder.stage}, and {self.folder.path} has "
                f"none: run it first, or together with this one: stages=[{self.folder.stage},...]."
            )
        if self.folder.done:
            self.folder.result()  # is whole


@dataclass
class Run:
    """One run through the stages, and what they have left so far."""

    experiment: Experiment
    stages: Sequence[str]  # names of those that are to run
    trained: list[Network] = field(default_factory=list)
    finished: dict[str, dict[str, Any]] = field(default_factory=dict)  # label of a piece -> its result.json
    folders: dict[str, Path] = field(default_factory=dict)  # label of a piece -> its folder


def one_piece(stage: Stage, run: Run) -> Iterator[Piece]:
    """The work of a stage that has one folder."""
    yield Piece(stage, stage.folder(run.experiment))


def finished(_: Experiment, folder: StageFolder, *what: Any) -> bool:
    """Whether a stage whose result serves every later stage is done."""
    return folder.done


@dataclass(frozen=True)
class Stage:
    """A stage of a run.

    Its functions take the experiment first. What `pieces` gives as `what` follows in `work` and `done`.
    """

    name: str  # and of its folders, `<name>-<hash of the key>`
    key: Callable[..., dict[str, Any]]  # all that its result depends on, JSON-able
    work: Callable[..., dict[str, Any]]  # (experiment, folder, *what) -> its result, written
    needs: Callable[[Experiment], Iterable[Need]] = lambda experiment: ()  # what it reads of other stages
    skip: Callable[[Experiment], str] = lambda experiment: ""  # why it has nothing to do; "": it has
    check: Callable[[Experiment, Sequence[str]], None] = lambda experiment, stages: None
    """Raises, before anything is trained, for what could not work after it; `stages`: all that will run."""
    pieces: Callable[[Stage, Run], Iterable[Piece]] = one_piece  # its work, each piece with its folder
    done: Callable[..., bool] = finished  # (experiment, folder, *what) -> whether what it left is enough
    fields: tuple[str, ...] = ()  # what its result must hold
    holds_out: bool = False  # whether images must be held out for it
    alone: bool = False  # whether the first of several workers runs it, and the others do not
    resumes: bool = True  # whether its work goes on from what it left; else it is done again as a whole
    implied: bool = False  # whether stages that need it run it themselves
    with_given: bool = True
    """Whether a given network with trained weights is evaluated first, to compare with."""
    show: Callable[[Experiment, dict[str, Any]], None] = lambda experiment, result: None
    """Says what stands in the result, new or reused."""

    def folder(self, experiment: Experiment, *of: Any) -> StageFolder:
        """The folder of the work whose key is made of these."""
        return StageFolder(experiment.root, self.name, self.key(experiment, *of))

    def is_ready(self, experiment: Experiment) -> bool:
        """Whether nothing is left to be done, as far as that is known before the stages run."""
        return self.pieces is one_piece and self.done(experiment, self.folder(experiment))

    def came_from(self, experiment: Experiment) -> dict[str, StageFolder]:
        """Name -> folder of all that its networks came from, the earliest first."""
        found: dict[str, StageFolder] = {}
        for need in self.needs(experiment):
            found |= {**need.stage.came_from(experiment), need.stage.name: need.folder}
        return found

    @property
    def trains_networks(self) -> bool:
        """Whether each piece of its work trains, or brings, a network."""
        return self.fields == NETWORK_FIELDS


@dataclass(frozen=True)
class Look:
    """A stage that only shows: it reads no images, trains nothing, and has no folder."""

    name: str
    show: Callable[[Experiment, Path | None], None]  # the folder is this call's, for its logs


def record(name: str) -> Any:
    """The `Stage` or `Look` of a name in `schema.STAGES`: the `STAGE` of the module of that name.

    >>> record("uniform").trains_networks
    True
    """
    return importlib.import_module(f"autoslim.stages.{name}").STAGE


def any_trains_networks(stages: Sequence[str]) -> bool:
    """Whether any of these stages trains, or brings, networks."""
    return any(record(name).trains_networks for name in stages)
