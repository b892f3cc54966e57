"""What is learnt."""

from dataclasses import dataclass
from typing import Any, ClassVar

from autoslim.schema.checks import Options, key, need, one_of

TASKS = ("classification", "multilabel", "regression", "segmentation")


@dataclass
class TaskConfig(Options):
    """What the network learns, and by what its answers are judged."""

    section: ClassVar[str] = "task"

    name: str = key("classification", f"{', '.join(TASKS)}; with task._target_ any, for people")
    _target_: str | None = key(None, "of custom: dotted path of a function that returns an autoslim.Task")
    args: dict[str, Any] = key({}, "of custom: keyword arguments of the function")
    loss: str | None = key(
        None,
        "a loss in place of the task's: Keras's name of it, such as huber, or a dotted path; null: its own",
    )
    class_weights: list[float] | None = key(
        None, "times the loss of each class's images or pixels, one number a class; null: all 1", above=0
    )
    ignore: int | None = key(None, "of segmentation: the label of pixels that count for nothing, such as 255")
    outputs: dict[str, Any] = key(
        {}, "of several outputs: +task.outputs.NAME=TASK, the others are not learnt; empty: task.name for all"
    )
    weights: dict[str, Any] = key(
        {}, "of several outputs: +task.weights.NAME=NUMBER, times its loss; those left out: 1"
    )
    main: str | None = key(None, "the output whose metric counts; null: the last of task.outputs, or of all")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self._target_ is None:
            one_of("task.name", self.name, TASKS)
        for output, name in self.outputs.items():
            one_of(f"task.outputs.{output}", str(name), TASKS)
        for output, weight in self.weights.items():
            number = isinstance(weight, int | float) and not isinstance(weight, bool)
            need(number and weight >= 0, f"task.weights.{output}", weight, "a number of 0 or more")
        masks = self.name == "segmentation" or "segmentation" in self.outputs.values()
        need(self.ignore is None or masks, "task.ignore", self.ignore, "null: only segmentation has it")
