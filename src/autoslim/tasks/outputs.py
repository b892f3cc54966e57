"""Which task each output of a network learns, and the objective that follows from its ends."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from autoslim.errors import AutoslimError
from autoslim.graph.structure import Structure, trace_of
from autoslim.graph.trace import Trace
from autoslim.metrics import Metric
from autoslim.tasks.base import Task
from autoslim.tasks.ends import LINEAR, end_of
from autoslim.tasks.kinds import TASKS
from autoslim.tasks.objective import Head, Objective

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outputs:
    """Tasks of a network with several outputs.

    Attributes:
        tasks: output -> its task; or one task for all of them. Outputs are named by their key in a dict, or
            by Keras (`model.output_names`).
        weights: output -> times its loss; those left out have 1.
        main: the output whose metric counts; None: the last of `tasks`, or of the network.
    """

    tasks: Mapping[str, Task] | Task
    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    main: str | None = None

    def of(self, output: str) -> Task:
        """The task of an output."""
        return self.tasks if isinstance(self.tasks, Task) else self.tasks[output]

    @property
    def first(self) -> Task:
        """The task of the main output."""
        if isinstance(self.tasks, Task):
            return self.tasks
        return self.tasks[self.main or list(self.tasks)[-1]]

    @property
    def metric(self) -> Metric:
        """Of the main output."""
        return self.first.metric

    @property
    def classifies(self) -> bool:
        """Whether a network answers with one class for each image: accuracies are compared with chance."""
        return self.tasks == TASKS["classification"]


AnyTask = Task | Outputs | Objective | str


def objective_of(task: AnyTask, network: Any) -> Objective:
    """A task on a network.

    Args:
        task: of all its outputs, by name or as a record; or `Outputs`; or an objective, returned as it is.
        network: a `ChannelGraph`, a Keras model, or anything that returns what the task takes (logits).

    Raises:
        AutoslimError: for an unknown task, an output that there is not, or an end that it can't be learnt at.
    """
    if isinstance(task, Objective):
        return task
    plan = task if isinstance(task, Outputs) else Outputs(named(task))
    traced, model = _traced(network)
    if traced is None:
        if isinstance(plan.tasks, Task):
            return Objective([Head("output", 0, plan.tasks)])
        return Objective([Head(name, i, one) for i, (name, one) in enumerate(sorted(plan.tasks.items()))])
    names = output_names(traced, model)
    return _objective(plan, traced, names, getattr(model, "name", ""))


def named(task: Task | str) -> Task:
    """The task of a name.

    Raises:
        AutoslimError: for a name that there is not.
    """
    if isinstance(task, Task):
        return task
    if task not in TASKS:
        raise AutoslimError(f"There is no task {task!r}. There are: {', '.join(TASKS)}.")
    return TASKS[task]


def _traced(network: Any) -> tuple[Trace | None, Any]:
    if isinstance(network, Structure):
        return network.trace, network.model
    if isinstance(network, keras.Model):
        try:
            return trace_of(network), network
        except AutoslimError:  # subclassed: what it ends in is not known
            return None, network
    return None, network


def output_names(traced: Trace, model: Any) -> list[str]:
    """Names of the flat outputs: the keys of a dict, else as Keras calls them."""
    structure = traced.output_structure
    if isinstance(structure, Mapping) and len(structure) == len(traced.outputs):
        return sorted(structure)
    names = list(getattr(model, "output_names", None) or [])
    if len(names) == len(traced.outputs) == len(set(names)):
        return names
    return [f"output{i}" for i in range(len(traced.outputs))]


def _objective(plan: Outputs, traced: Trace, names: Sequence[str], model: str) -> Objective:
    tasks = dict.fromkeys(names, plan.tasks) if isinstance(plan.tasks, Task) else dict(plan.tasks)
    for name in (*tasks, *plan.weights, *([plan.main] if plan.main else [])):
        if name not in names:
            raise AutoslimError(
                f"Model {model!r} has no output {name!r}: its outputs are {', '.join(names)}."
            )
    shapes = dict(zip(traced.inputs, traced.input_shapes, strict=True))
    for node in traced.nodes:
        shapes.update(zip(node.outputs, node.output_shapes, strict=True))
    heads = []
    for place, name in enumerate(names):
        if name in tasks:
            value = traced.outputs[place]
            weight = float(plan.weights.get(name, 1.0))
            end = end_of(traced, value)
            heads.append(_head(Head(name, place, tasks[name], weight, end, shapes[value]), model))
    main = plan.main or (heads[-1].name if isinstance(plan.tasks, Task) else list(plan.tasks)[-1])
    return Objective(heads, [head.name for head in heads].index(main), model)


def _head(head: Head, model: str) -> Head:
    """The head with the task that its end asks for.

    Raises:
        AutoslimError: for an end that the task can't be learnt at.
    """
    task, end, shape = head.task, head.end, head.shape
    assert shape is not None
    if not task.logits:
        return head
    if task.logits == "sigmoid" and end in ("softmax", "log_softmax"):
        raise AutoslimError(
            f"Output {head.name!r} of model {model!r} ends in a softmax, whose values sum to one: labels of "
            f"{task.name} do not exclude each other. Let it end in a sigmoid or in logits, or learn classes."
        )
    if end in ("softmax", "log_softmax") and shape[-1] == 1:
        raise AutoslimError(
            f"Output {head.name!r} of model {model!r} ends in a softmax of one value, which is always 1. Let "
            "it end in a sigmoid, or in as many values as there are classes."
        )
    if task.logits == "softmax" and end == "sigmoid" and shape[-1] != 1 and task.several is not None:
        return dataclasses.replace(head, task=task.several)
    if end not in (LINEAR, "softmax", "log_softmax", "sigmoid"):
        log.warning(
            "Output %r of model %r ends in %s, which limits what it can answer: expected logits, a softmax "
            "or a sigmoid for %s.",
            head.name,
            model,
            end,
            task.name,
        )
    return head
