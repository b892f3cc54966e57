"""The training step: one or several networks within one set of weights, arm by arm.

Plain training is a step with one arm; the sandwich rule draws the widths of its arms for every step; joint
training has arms of fixed widths with batch norms of their own. A step runs in every replica of the strategy
that its network was made for (`replicas.strategy_of`): each takes its part of the batch, losses are sums over
images divided by the images of the whole batch, and the sum of all gradients is applied once. The arms are
calls of traced functions, one after another, so that memory stays near one arm's; their gradients are summed
on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from autoslim.graph import ChannelGraph
from autoslim.graph.replicas import strategy_of
from autoslim.graph.run import Replaced
from autoslim.schema.checks import Options, gather
from autoslim.schema.training import FitOptions, LoopOptions, SandwichOptions
from autoslim.slimming.levels import Levels
from autoslim.slimming.sandwich import arm_names, draw_arms
from autoslim.tasks import AnyTask, Objective, objective_of
from autoslim.training.distribution import Strategy, on_replicas, total
from autoslim.training.gradients import (
    Differentiation,
    GradientSums,
    Pass,
    apply,
    images_in_all,
    part_of,
    prepare,
    update_moving_statistics,
)
from autoslim.training.lessons import Lesson, Teacher, taught_by

Metrics = dict[str, Any]  # name -> scalar tensor


class Step(Protocol):
    """What the loop asks of a training step.

    A step owns its traced functions, each of which calls `strategy.run` once, so that nothing that exchanges
    values between replicas stands in a nested function. State that a step needs besides the variables of its
    model and optimizer would have to be in the checkpoint; there is none: what is drawn at random is a
    function of the step's number.
    """

    model: Any  # what is trained: a model, or what has its variables, output_shape and name
    optimizer: keras.optimizers.Optimizer
    strategy: Strategy
    options: LoopOptions

    @property
    def arms(self) -> Sequence[str]:
        """Names of the networks that a step trains."""

    def __call__(self, images: Any, labels: Any, step: int) -> Metrics:
        """One optimizer step.

        Args:
            images: [B, H, W, C], or what `distribution.distributed` made of them.
            labels: as the task takes them, perhaps `Weighted`; likewise.
            step: its number, from 0.

        Returns:
            {metric: scalar tensor}: means over all images of the batch.
        """


@dataclass(frozen=True)
class Arm:
    """One of the networks that a step trains.

    Attributes:
        name: in the curves.
        widths: int32 [G]; None: full width, or drawn for each step.
        replaced: weights that it has in place of the full network's, as in `ChannelGraph.run`.
        norms: id(batch norm of the full network) -> the arm's own, for those that it has; None: the moving
            statistics stay as they are.
    """

    name: str
    widths: np.ndarray | None = None
    replaced: Replaced | None = None
    norms: Mapping[int, keras.Layer] | None = None


class ArmsStep:
    """One optimizer step of one or several networks that share weights; their gradients are summed.

    The first arm learns from the labels, a teacher if there is one, and the weights' regularizers; the others
    from its outputs or from the labels. Each arm normalises with its own batch statistics. With `accumulate`,
    batch norms normalise part by part.

    Args:
        graph: of the full network.
        optimizer: built on the model's trainable variables here.
        arms: the networks, the largest first.
        lesson: what they learn from.
        options: precision and the like.
        model: whose weights are trained; None: the graph's.
        draw: step -> widths int32 [arms, G] of that step, the full ones first; None: those of the arms.
    """

    def __init__(
        self,
        graph: ChannelGraph,
        optimizer: keras.optimizers.Optimizer,
        arms: Sequence[Arm],
        lesson: Lesson,
        options: LoopOptions,
        *,
        model: Any = None,
        draw: Callable[[int], np.ndarray] | None = None,
    ) -> None:
        graph.verify()
        self.graph, self.model = graph, graph.model if model is None else model
        self.optimizer, self.options = optimizer, options
        self.arms = tuple(arm.name for arm in arms)
        self.strategy = strategy_of(self.model)
        self.variables = prepare(self.model, optimizer, self.strategy)
        self.differentiation = Differentiation(graph, self.variables, optimizer, options)
        self._first_arm, self._other_arms = arms[0], arms[1:]
        self._lesson, self._draw = lesson, draw
        self.fusable = len(arms) == 1 and options.accumulate == 1
        self.compilable = self._first_arm.widths is None  # sliced arms have no static shapes
        if self.fusable:
            self._whole = tf.function(self.compute, autograph=False)
            return
        self._sums = GradientSums(self.variables, optimizer, self.strategy)
        self._first = tf.function(self._first_pass, autograph=False)
        self._others = self._traced_others()
        self._clear = traced(self.strategy, self._sums.clear)
        self._apply = traced(self.strategy, self._sums.apply)

    def _traced_others(self) -> list[Any]:
        """A traced function for each arm but the first; one for all of them where their widths are drawn."""
        own = [traced(self.strategy, partial(self._other, arm), summed=True) for arm in self._other_arms]
        return own if self._draw is None else own[:1] * len(own)

    def __call__(self, images: Any, labels: Any, step: int) -> Metrics:
        if self.fusable:
            return self._whole(images, labels)
        drawn: list[Any] = [None] * len(self.arms)
        if self._draw is not None:
            drawn = [tf.constant(widths) for widths in self._draw(step)]
        ramp, parts = self._lesson.ramp, self.options.accumulate
        share = tf.constant(min(1.0, step / ramp)) if ramp else None
        if parts == 1:
            found = [self._part(images, labels, None, drawn, share)]
        else:
            self._clear()
            found = [self._part(images, labels, tf.constant(part), drawn, share) for part in range(parts)]
        self._apply()
        metrics: Metrics = {}
        for name, pairs in zip(self.arms, zip(*found, strict=True), strict=True):
            sums = pairs[0] if parts == 1 else [tf.add_n(values) for values in zip(*pairs, strict=True)]
            metrics |= self._named(name, sums)
        return metrics

    @property
    def objective(self) -> Objective:
        """What the networks learn."""
        return self._lesson.objective

    @property
    def traces(self) -> int:
        """How often the functions of the arms but the first were traced."""
        functions = {id(function): function for function in self._others}
        return sum(function.experimental_get_tracing_count() for function in functions.values())

    def compute(self, images: Any, labels: Any) -> Metrics:
        """The step of a single arm, for use within a `tf.function`."""
        run = on_replicas(self.strategy, self._single)
        return self._named(self.arms[0], tf.unstack(total(self.strategy, run(images, labels))))

    def _named(self, arm: str, values: Sequence[Any]) -> Metrics:
        """The (loss, metric) of an arm by their names in the curves."""
        loss, metric = values
        return {f"{arm}/loss": loss, f"{arm}/{self._lesson.objective.metric.name}": metric}

    def _single(self, images: Any, labels: Any) -> Any:
        count = images_in_all(labels)
        found = self.full_pass(images, labels, count)
        apply(self.optimizer, found.gradients, self.variables)
        _move_statistics(self._first_arm, found)
        return self._measured(found, labels, count)

    def _measured(self, found: Pass, labels: Any, count: Any) -> Any:
        """This replica's share of (loss, metric): float32 [2]."""
        metric = tf.reduce_sum(self._lesson.objective.scored(labels, found.outputs)) / count
        return tf.stack([found.loss, metric])

    def _part(
        self, images: Any, labels: Any, part: Any | None, drawn: list[Any], share: Any | None
    ) -> list[Any]:
        """All arms on one part of the batch: (loss, metric) of each."""
        targets, count, first = self._first(images, labels, part)
        others = [
            other(images, labels, (targets, share), count, widths, part)
            for other, widths in zip(self._others, drawn[1:], strict=True)
        ]
        return [first, *others]

    def _first_pass(self, images: Any, labels: Any, part: Any | None) -> tuple[Any, Any, Any]:
        run = on_replicas(self.strategy, self._first_in_replica)
        targets, count, found = run(images, labels, part)
        return targets, count, tf.unstack(total(self.strategy, found))

    def _first_in_replica(self, images: Any, labels: Any, part: Any | None) -> tuple[Any, Any, Any]:
        count = images_in_all(labels)
        images, labels = (part_of(x, part, self.options.accumulate) for x in (images, labels))
        found = self.full_pass(images, labels, count)
        (self._sums.start if part is None else self._sums.add)(found.gradients)
        _move_statistics(self._first_arm, found)
        lesson = self._lesson
        if lesson.distill:
            targets = lesson.objective.softened(found.outputs)
        else:
            targets = lesson.objective.targets(labels, found.outputs, lesson.label_smoothing)
        return targets, count, self._measured(found, labels, count)

    def _other(
        self,
        arm: Arm,
        images: Any,
        labels: Any,
        taught: tuple[Any, Any | None],
        count: Any,
        drawn: Any | None,
        part: Any | None,
    ) -> Any:
        """An arm that learns from given targets, or a share of them and the labels, within a replica."""
        images, labels = (part_of(x, part, self.options.accumulate) for x in (images, labels))
        found = self.differentiation(
            images,
            lambda outputs: tf.reduce_sum(self._lesson.of_others(taught, labels, outputs)) / count,
            arm.widths if drawn is None else drawn,
            replaced=arm.replaced,
        )
        self._sums.add(found.gradients)
        _move_statistics(arm, found)
        return self._measured(found, labels, count)

    def full_pass(self, images: Any, labels: Any, count: Any) -> Pass:
        """The first arm, forward and backward on images of one replica, within it.

        Args:
            images: of the replica.
            labels: likewise.
            count: images of the whole batch, float32.
        """
        teacher, soft = self._lesson.teacher, None
        if teacher is not None:  # outside the tape
            soft = teacher.objective.softened(teacher.outputs(images), teacher.temperature)
        return self.differentiation(
            images,
            lambda outputs: self._lesson.of_first(soft, labels, outputs) / count,
            self._first_arm.widths,
            weight_share=weight_share(self),
            replaced=self._first_arm.replaced,
        )


def plain_step(
    graph: ChannelGraph,
    optimizer: keras.optimizers.Optimizer,
    *options: Options,
    teacher: Callable[[Any], Any] | None = None,
    task: AnyTask = "classification",
    **keys: Any,
) -> ArmsStep:
    """The step of a network at full width; batch-norm statistics move as Keras moves them.

    Args:
        graph: of the network; its model's weights are trained.
        optimizer: built on the model's trainable variables here.
        options: `FitOptions`, `LoopOptions`; their keys may also be given as keywords.
        teacher: images -> outputs of a teacher, or None.
        task: what is learnt, see `tasks.objective_of`.
        keys: of the options.
    """
    stage, loop = gather("plain_step", [FitOptions, LoopOptions], options, keys)
    objective, taught = objective_of(task, graph), None
    if teacher is not None:
        taught = Teacher(
            teacher, taught_by(teacher, task, objective), stage.distill_weight, stage.temperature
        )
    lesson = Lesson(objective, stage.label_smoothing, teacher=taught)
    return ArmsStep(graph, optimizer, [Arm("train", norms={})], lesson, loop)


def sandwich_step(
    graph: ChannelGraph,
    levels: Levels,
    optimizer: keras.optimizers.Optimizer,
    *options: Options,
    seed: int = 0,
    steps: int | None = None,
    task: AnyTask = "classification",
    **keys: Any,
) -> ArmsStep:
    """The step of a supernet by the sandwich rule with in-place distillation.

    The largest arm learns from the labels; the others learn from its outputs (or from the labels, without
    distillation). Moving statistics stay as they are.

    Args:
        graph: of the supernet; its model's weights are trained.
        levels: widths that each group may take.
        optimizer: built on the model's trainable variables here.
        options: `SandwichOptions`, `LoopOptions`; their keys may also be given as keywords.
        seed: of the random widths.
        steps: of the whole training, of which `distill_ramp` is a share; None: not known, without a ramp.
        task: what is learnt, see `tasks.objective_of`.
        keys: of the options.
    """
    stage, loop = gather("sandwich_step", [SandwichOptions, LoopOptions], options, keys)
    arms = [Arm(name) for name in arm_names(stage.arms)]

    def draw(step: int) -> np.ndarray:
        return draw_arms(levels, stage.arms, seed, step)

    ramp = round(stage.distill_ramp * (steps or 0))
    lesson = Lesson(objective_of(task, graph), stage.label_smoothing, stage.distill, ramp)
    return ArmsStep(graph, optimizer, arms, lesson, loop, draw=draw)


def _move_statistics(arm: Arm, found: Pass) -> None:
    """Move the moving statistics of an arm's batch norms by what its pass found."""
    own = arm.norms
    if own is not None:
        update_moving_statistics([(own.get(id(layer), layer), *pair) for layer, *pair in found.statistics])


def traced(strategy: Strategy, in_replica: Callable[..., Any], summed: bool = False) -> Any:
    """A traced function that runs `in_replica` in every replica.

    Args:
        strategy: of the replicas.
        in_replica: what each does.
        summed: return the sums over the replicas of the vector that each returns, as a list of scalars.
    """
    run = on_replicas(strategy, in_replica)

    def call(*arguments: Any) -> Any:
        result = run(*arguments)
        return tf.unstack(total(strategy, result)) if summed else None

    return tf.function(call, autograph=False)


def weight_share(step: Step) -> float:
    """The regularizers' losses are added once in all: so much of them in each part of each replica."""
    return 1.0 / (step.strategy.num_replicas_in_sync * step.options.accumulate)
