"""How small networks are trained: what they start and learn from, and the folders that follow from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.schema import RetrainConfig
from autoslim.slimming.importance import put_important_first
from autoslim.stages import baseline, supernet
from autoslim.stages.builder import Builder
from autoslim.stages.experiment import Experiment
from autoslim.stages.network import Network, distinct
from autoslim.stages.record import Need
from autoslim.stages.store import StageFolder, stage_hash
from autoslim.stages.weights import load_weights

# Stage and the key of `retrain` that asks for it -> what does without.
INSTEAD = {
    ("supernet", "init"): "retrain.init=baseline or scratch",
    ("baseline", "init"): "retrain.init=supernet or scratch",
    ("supernet", "teacher"): "retrain.teacher=none",
    ("baseline", "teacher"): "retrain.teacher=none",
}
GIVEN = (
    "retrain.teacher=given needs a network that comes with trained weights: give arch.trained=true if it "
    "does, or choose another teacher: none, baseline or supernet."
)


@dataclass(frozen=True)
class Recipe:
    """How the small networks of a run are trained."""

    root: Path  # of the stages' folders
    plan: ChannelGraph  # whose groups their widths are of
    options: RetrainConfig
    read: dict[str, StageFolder]  # stage -> folder of what it reads: "supernet", "baseline"
    common: dict[str, Any]  # what every stage that trains depends on

    # -- folders -------------------------------------------------------------------------------------

    def key(self, joint: bool) -> dict[str, Any]:
        """What a training depends on, other than the channels; `joint`: of several networks as one."""
        own = self.options.affecting_result()
        if not joint:
            del own["joint"], own["distill"]
        read = {stage: stage_hash(folder.key) for stage, folder in self.read.items()}
        return {**self.common, "retrain": own, "supernet": None, "baseline": None, **read}

    def network_key(self, widths: np.ndarray, joint: StageFolder | None = None) -> dict[str, Any]:
        """What the network at `widths` int32 [G] depends on, trained alone or as a part of a joint one."""
        key = {**self.key(joint is not None), "channels": self.plan.channels(widths)}
        if joint is not None:
            key["joint"] = stage_hash(joint.key)
        return key

    def joint_key(self, widths: Sequence[np.ndarray]) -> dict[str, Any]:
        """What the joint training of the networks at these widths depends on."""
        return {**self.key(True), "channels": [self.plan.channels(one) for one in widths]}

    def network_folder(self, stage: str, widths: np.ndarray, joint: StageFolder | None = None) -> StageFolder:
        """The folder in which the network at `widths` is trained.

        Args:
            stage: "retrain" or "uniform".
            widths: int32 [G].
            joint: the folder of the joint training that this network is a part of.
        """
        return StageFolder(self.root, stage, self.network_key(widths, joint))

    def joint_folder(self, networks: Sequence[Network]) -> StageFolder | None:
        """The folder in which the networks are trained as one; None where each is trained alone."""
        widths = [network.known_widths for network in distinct(networks)]
        if not (self.options.joint and widths):
            return None
        return StageFolder(self.root, "joint", self.joint_key(widths))

    def with_folders(self, networks: Sequence[Network]) -> list[Network]:
        """The networks with the folder of each, all trained jointly or each alone."""
        joint = self.joint_folder(networks)
        found = []
        for network in networks:
            stage = "uniform" if network.kind == "uniform" else "retrain"
            folder = self.network_folder(stage, network.known_widths, joint)
            found.append(network._replace(folder=folder))
        return found

    # -- networks ------------------------------------------------------------------------------------

    def full_model(self, builder: Builder) -> keras.Model:
        """The full network, with the supernet's room, with the weights that `retrain.init` names."""
        init = self.options.first
        if init == "baseline":
            return builder.widened(self._important_first(builder), weights=True)
        model = builder.supernet()
        return model if init == "scratch" else load_weights(model, self.read[init])

    def small_model(self, builder: Builder, widths: np.ndarray) -> keras.Model:
        """The network at `widths` int32 [G] with its part of the weights that `retrain.init` names."""
        graph = builder.graph(self.full_model(builder))
        with builder.strategy.scope():
            return graph.materialize(widths, weights=self.options.init != "scratch")

    def _important_first(self, builder: Builder) -> keras.Model:
        """The trained full network, or the given one in its place, with sorted channels."""
        model = builder.network()
        if "baseline" in self.read:
            load_weights(model, self.read["baseline"])
        put_important_first(builder.graph(model))
        return model

    def teacher(self, builder: Builder) -> Callable[[Any], Any] | None:
        """Images -> logits of the teacher that `retrain.teacher` names."""
        which = self.options.teacher
        if which in (None, "none"):
            return None
        if which == "given":
            graph = ChannelGraph(builder.network())
        else:
            model = builder.supernet() if which == "supernet" else builder.network()
            graph = ChannelGraph(load_weights(model, self.read[which]))
        return lambda images: graph.run(images, batch_statistics=which == "supernet")


def recipe_of(experiment: Experiment, options: RetrainConfig | None = None) -> Recipe:
    """The recipe of a run; `options`: in place of its section `retrain`."""
    options = options or experiment.retrain
    read = {need.stage.name: need.folder for need in recipe_needs(experiment, "", options)}
    return Recipe(experiment.root, experiment.plan, options, read, experiment.common_key)


def recipe_needs(experiment: Experiment, stage: str, options: RetrainConfig | None = None) -> Iterator[Need]:
    """What the training of small networks, in a stage of this name, reads of other stages."""
    own = experiment.given and not experiment.baseline.train
    for source, key in _sources(options or experiment.retrain, own).items():
        why = f"{stage} with retrain.{key}={source} ({INSTEAD[source, key]} does without)"
        record = {"supernet": supernet.STAGE, "baseline": baseline.STAGE}[source]
        yield Need(record, record.folder(experiment), why)


def _sources(options: RetrainConfig, own: bool) -> dict[str, str]:
    """Stage whose network small ones begin with, or learn from -> the key of `retrain` that asks for it.

    Args:
        options: section `retrain`.
        own: whether a given network's own weights stand for the baseline's.
    """
    found = {options.teacher or "none": "teacher"}
    if not (options.init == "baseline" and own):
        found[options.first] = "init"
    return {stage: found[stage] for stage in ("supernet", "baseline") if stage in found}


def check_recipe(experiment: Experiment) -> None:
    """Refuse a teacher, or first weights, that there will not be.

    Raises:
        AutoslimError: with the key, and the way out.
    """
    options, given = experiment.retrain, experiment.given
    if options.teacher == "given" and not given:
        raise AutoslimError(GIVEN)
    key = _sources(options, given and not experiment.baseline.train).get("baseline")
    if key and not experiment.baseline.train:
        why = "where the network comes trained, it is not trained again" if given else "baseline.train=false"
        raise AutoslimError(
            f"retrain.{key}=baseline needs a baseline, and this run trains none ({why}). Give "
            f"baseline.train=true, which reuses one that is there, or {INSTEAD['baseline', key]}."
        )


def network_key(
    experiment: Experiment, widths: np.ndarray, joint: StageFolder | None = None
) -> dict[str, Any]:
    """What the network at `widths` int32 [G] depends on, trained alone or as a part of a joint training."""
    return recipe_of(experiment).network_key(widths, joint)


def joint_key(experiment: Experiment, widths: Sequence[np.ndarray]) -> dict[str, Any]:
    """What the joint training of the networks at these widths depends on."""
    return recipe_of(experiment).joint_key(widths)
