"""From the configuration's section `task`, or what a call was given, to tasks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from autoslim.errors import AutoslimError, first_line
from autoslim.importing import function_at
from autoslim.schema.task import TaskConfig
from autoslim.tasks.base import Task
from autoslim.tasks.kinds import TASKS, segmentation
from autoslim.tasks.losses import task_for, with_class_weights, with_loss
from autoslim.tasks.objective import Objective
from autoslim.tasks.outputs import AnyTask, Outputs, named


def task_of(config: TaskConfig) -> Outputs:
    """The tasks of a configuration's network."""
    if config.outputs:
        tasks = {
            output: _changed(_named(str(name), config), config) for output, name in config.outputs.items()
        }
        return Outputs(tasks, config.weights, config.main)
    own = _custom(config) if config._target_ else _named(config.name, config)
    return Outputs(_changed(own, config), config.weights, config.main)


def _named(name: str, config: TaskConfig) -> Task:
    return segmentation(config.ignore) if name == "segmentation" else TASKS[name]


def _changed(task: Task, config: TaskConfig) -> Task:
    """The task with the loss and the weights that the configuration gives it."""
    if config.loss is not None:
        task = with_loss(task, config.loss)
    return with_class_weights(task, config.class_weights) if config.class_weights else task


def _custom(config: TaskConfig) -> Task:
    """The task that a function of the user's own returns."""
    where = f"task._target_={config._target_}"
    function = function_at(str(config._target_), "task._target_", "an autoslim.Task")
    try:
        found = function(**config.args)
    except AutoslimError:
        raise
    except (Exception, SystemExit) as error:
        raise AutoslimError(
            f"{where} failed with {type(error).__name__}: {first_line(error, 500)}"
        ) from error
    if not isinstance(found, Task):
        raise AutoslimError(f"{where} returned a {type(found).__name__}: expected an autoslim.Task.")
    return found


def given_task(task: AnyTask | Mapping[str, Any] | None, loss: Any = None, weights: Any = None) -> AnyTask:
    """The task that a function was called with.

    Args:
        task: by name or as a record; None: the one that the loss is for, or classification.
        loss: in place of the task's own, as `losses.loss_at` takes it; for several outputs a dict of them.
        weights: {output: number}, times its loss.

    Raises:
        AutoslimError: for a loss that does not fit.
    """
    if isinstance(task, Objective):
        if loss is None and not weights:
            return task
        raise AutoslimError(
            "An Objective has its losses and weights: give a task, loss and loss_weights apart."
        )
    if isinstance(task, Outputs):
        plan = task
    elif isinstance(loss, dict) and task is None:
        plan = Outputs({output: named(task_for(one)) for output, one in loss.items()})
    elif isinstance(task, Mapping):
        plan = Outputs({output: named(one) for output, one in task.items()})
    else:
        plan = Outputs(named(task or ("classification" if loss is None else task_for(loss))))
    if weights:
        plan = dataclasses.replace(plan, weights=dict(weights))
    return plan if loss is None else _with_losses(plan, loss)


def _with_losses(plan: Outputs, loss: Any) -> Outputs:
    if isinstance(plan.tasks, Task):
        if isinstance(loss, dict):
            tasks = {output: with_loss(plan.tasks, one) for output, one in loss.items()}
            return dataclasses.replace(plan, tasks=tasks)
        return dataclasses.replace(plan, tasks=with_loss(plan.tasks, loss))
    losses = loss if isinstance(loss, dict) else dict.fromkeys(plan.tasks, loss)
    tasks = {
        output: with_loss(task, losses[output]) if output in losses else task
        for output, task in plan.tasks.items()
    }
    return dataclasses.replace(plan, tasks=tasks)
