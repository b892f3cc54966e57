"""Stage `joint`, a part of `retrain`: train the networks of all targets as one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from autoslim.stages.channels import write_channels
from autoslim.stages.experiment import Experiment
from autoslim.stages.images import Images
from autoslim.stages.judge import measured
from autoslim.stages.macs import TRAINING, billed, trained_images
from autoslim.stages.network import Network, distinct
from autoslim.stages.recipe import Recipe, joint_key, recipe_needs, recipe_of
from autoslim.stages.record import Need, Piece, Stage
from autoslim.stages.store import StageFolder
from autoslim.tasks import Outputs, objective_of
from autoslim.training.distribution import is_multi_worker
from autoslim.training.evaluate import evaluate
from autoslim.training.joint import JointNetwork, train_joint


def run_joint(experiment: Experiment, folder: StageFolder, parts: Sequence[Network]) -> dict[str, Any]:
    """Train the networks as one on all training images; resumes from the last checkpoint.

    Then each of them that is not done is calibrated and evaluated, and written as stage `retrain` writes one.

    Args:
        experiment: of the run.
        folder: of the training.
        parts: the networks, all different, the largest first.
    """
    config, images, task, judge = experiment.config, experiment.images, experiment.task, experiment.judge
    # 1. Train.
    graph = experiment.builder.graph(recipe_of(experiment).full_model(experiment.builder))
    model = JointNetwork(graph, [part.known_widths for part in parts])
    batches = images.training()
    history = train_joint(
        model,
        batches,
        experiment.retrain,
        config.optimizer,
        config.train,
        names=[part.name for part in parts],
        task=task,
        folder=folder.path,
        description=f"joint, seed {config.seed}",
        evaluate=lambda: _on_test_images(model, parts, images, task),
    )
    # 2. Write each of the networks as a plain one; the time and the bill are shared by their FLOPs.
    flops = [int(graph.cost(part.known_widths).flops) for part in parts]
    for place, part in enumerate(parts):
        part.trained_in.clock = folder.share_of_time(flops[place] / sum(flops))
        with part.trained_in.locked(experiment.lock_wait):
            if is_multi_worker(experiment.strategy) or not part.trained_in.done:
                with experiment.strategy.scope():
                    small = model.materialize(place)
                write_channels(part.trained_in, experiment.plan.channels(part.known_widths))
                own = _history_of(part, history, task.metric.name)
                judge.finish(part.trained_in, small, own, experiment.retrain)
    # 3. Write the result.
    macs = TRAINING * sum(flops) * trained_images(batches, len(history))
    folders = {part.name: str(part.trained_in.path) for part in parts}
    return folder.finish({"networks": folders, **billed(macs, experiment.unit), "history": history})


def _on_test_images(
    model: JointNetwork, parts: Sequence[Network], images: Images, task: Outputs
) -> dict[str, float]:
    """Metrics of the networks as they are in mid-training, for the curves."""
    metrics: dict[str, float] = {}
    objective = objective_of(task, model.graph)
    for place, part in enumerate(parts):
        found = evaluate(partial(model.run, place=place), images.test(), objective)
        metrics |= measured(found, f"test/{part.name}_")
    return metrics


def _history_of(part: Network, history: Sequence[dict[str, float]], metric: str) -> list[dict[str, float]]:
    """One network's own part of the history of all."""
    names = {f"train/{name}": f"{part.name}/{name}" for name in ("loss", metric)}
    return [
        {"epoch": epoch["epoch"], **{own: epoch[name] for own, name in names.items()}} for epoch in history
    ]


def joint_piece(networks: Sequence[Network], recipe: Recipe) -> Iterator[Piece]:
    """The training of the networks as one, where that is asked for: each is then found done in its folder."""
    folder = recipe.joint_folder(networks)
    if folder is not None:
        detail = "uniform" if networks[0].kind == "uniform" else ""
        yield Piece(STAGE, folder, (distinct(networks),), detail)


def _needs(experiment: Experiment) -> Iterator[Need]:
    yield from recipe_needs(experiment, "retrain")


def _done(experiment: Experiment, folder: StageFolder, parts: Sequence[Network]) -> bool:
    return folder.done and all(part.done for part in parts)


STAGE = Stage("joint", joint_key, run_joint, needs=_needs, done=_done)
