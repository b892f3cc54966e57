"""How weights are trained."""

import math
from dataclasses import dataclass
from typing import ClassVar

from autoslim.schema.checks import key, need, one_of

STRATEGIES = ("auto", "single", "mirrored", "multi_worker")
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
SCHEDULES = ("constant", "cosine", "step", "linear")


@dataclass
class OptimizerConfig:
    """How weights follow gradients, in every stage that trains."""

    name: str = key("sgd", "sgd or adamw")
    learning_rate: float = key(0.1, "peak learning rate, per batch of train.batch_size images")
    momentum: float = key(0.9, "momentum of sgd")
    nesterov: bool = key(True, "Nesterov's form of the momentum (sgd)")
    weight_decay: float = key(
        5e-3, "decoupled decay per step, times the learning rate; not on norms and biases"
    )
    clipnorm: float | None = key(None, "largest global norm of a gradient; null: no limit")
    ema: float | None = key(
        None, "momentum of a moving average of the weights, used in place of the last ones; null: none"
    )

    def __post_init__(self) -> None:
        one_of("optimizer.name", self.name, ("sgd", "adamw"))
        average = self.ema
        rate, decay, clip = self.learning_rate, self.weight_decay, self.clipnorm
        need(0 < rate < math.inf, "optimizer.learning_rate", rate, "a number above 0")
        need(0 <= self.momentum < 1, "optimizer.momentum", self.momentum, "a number in [0, 1)")
        need(0 <= decay < math.inf, "optimizer.weight_decay", decay, "a number of 0 or more")
        need(clip is None or 0 < clip < math.inf, "optimizer.clipnorm", clip, "a number above 0, or null")
        need(average is None or 0 < average < 1, "optimizer.ema", average, "a number in (0, 1), or null")


@dataclass
class TrainConfig:
    """What all stages that train have in common."""

    batch_size: int = key(128, "training images per step, on all devices together")
    eval_batch_size: int = key(500, "images per step where no gradient is needed")
    checkpoint_seconds: float = key(60.0, "seconds between checkpoints; 0: after every step")
    checkpoint_steps: int | None = key(
        None, "steps between checkpoints, beside the seconds; null: seconds only"
    )
    keep_checkpoints: int = key(2, "checkpoints of a training that are kept, the last ones")
    keep_best: bool = key(False, "end with the weights of the epoch of lowest mean training loss")
    evaluate_epochs: int | None = key(
        None,
        "epochs between evaluations, held-out images (supernet) or test images, for the curves alone",
    )
    log_steps: int = key(20, "steps between points of the TensorBoard curves")
    profile: list[int] | None = key(None, "[first, last] step of a TensorBoard profile in each training")
    steps_per_call: int = key(
        1, "steps of a single network that are taken in one call; more help small steps on fast devices"
    )
    jit: str = key("auto", "XLA for steps at full width: on, off, or auto: measured on a GPU, off on a CPU")
    calibration_batches: int = key(20, "training batches over which batch-norm statistics are averaged anew")
    deterministic: bool = key(True, "the same bits from the same seed on the same machine")
    strategy: str = key(
        "auto", "devices: single, mirrored (all GPUs), multi_worker (TF_CONFIG), or auto: what there is"
    )
    sync_batch_norm: bool = key(
        False, "batch statistics over the images of all devices; else over each device's own"
    )
    precision: str = key("float32", f"type in which layers compute: {', '.join(PRECISIONS)}")
    accumulate: int = key(
        1, "parts of a batch that are computed one after another, to save memory; batch norm sees a part"
    )

    def __post_init__(self) -> None:
        one_of("train.strategy", self.strategy, STRATEGIES)
        one_of("train.precision", self.precision, PRECISIONS)
        one_of("train.jit", self.jit, ("auto", "on", "off"))
        counts = ("batch_size", "eval_batch_size", "log_steps", "calibration_batches", "accumulate")
        for name in (*counts, "keep_checkpoints", "steps_per_call"):
            need(
                getattr(self, name) >= 1, f"train.{name}", getattr(self, name), "a whole number of 1 or more"
            )
        for name in ("checkpoint_steps", "evaluate_epochs"):
            value = getattr(self, name)
            need(value is None or value >= 1, f"train.{name}", value, "a whole number of 1 or more, or null")
        steps = self.profile
        need(
            steps is None or (len(steps) == 2 and 1 <= steps[0] <= steps[1]),
            "train.profile",
            steps,
            "[first, last], two steps counted from 1, or null",
        )
        need(
            not (self.steps_per_call > 1 and self.accumulate > 1),
            "train.steps_per_call",
            self.steps_per_call,
            "1 where train.accumulate cuts the batches into parts",
        )
        need(
            not (self.jit == "on" and self.sync_batch_norm),
            "train.jit",
            self.jit,
            "off or auto with train.sync_batch_norm: devices can't exchange values within an XLA step",
        )
        seconds = self.checkpoint_seconds
        need(0 <= seconds < math.inf, "train.checkpoint_seconds", seconds, "seconds, 0 or more")


@dataclass
class StageConfig:
    """What the stages that train share; ``section`` is the key under which the stage stands."""

    section: ClassVar[str] = "stage"

    epochs: int = key(30, "passes over the training images")
    schedule: str = key("cosine", f"learning rate over time: {', '.join(SCHEDULES)}")
    warmup_epochs: float = key(0.0, "epochs of linear rise of the learning rate at the start")
    learning_rate: float | None = key(None, "peak learning rate; null: optimizer.learning_rate")
    label_smoothing: float = key(0.0, "share of the label spread over all classes, in [0, 1)")
    patience: int | None = key(
        None, "end after so many epochs without a lower mean training loss; null: never early"
    )

    def __post_init__(self) -> None:
        at, rate, smoothing = self.section, self.learning_rate, self.label_smoothing
        one_of(f"{at}.schedule", self.schedule, SCHEDULES)
        need(self.epochs >= 1, f"{at}.epochs", self.epochs, "at least 1")
        need(
            0 <= self.warmup_epochs <= self.epochs,
            f"{at}.warmup_epochs",
            self.warmup_epochs,
            "0 to the epochs",
        )
        need(rate is None or 0 < rate < math.inf, f"{at}.learning_rate", rate, "a number above 0, or null")
        need(0 <= smoothing < 1, f"{at}.label_smoothing", smoothing, "a share in [0, 1)")
        patience = self.patience
        need(patience is None or patience >= 1, f"{at}.patience", patience, "at least 1 epoch, or null")


@dataclass
class BaselineConfig(StageConfig):
    """Training of the full network, to compare with."""

    section: ClassVar[str] = "baseline"


@dataclass
class SupernetConfig(StageConfig):
    """Training of one network that works at every width (`slimming.sandwich`)."""

    section: ClassVar[str] = "supernet"

    init: str = key(
        "weights", "first weights: weights (the network's own, pretrained ones too), scratch or baseline"
    )
    arms: int = key(4, "widths trained per step: the largest, the smallest, the rest random")
    distill: bool = key(True, "smaller arms learn from the largest arm's outputs")

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("supernet.init", self.init, ("weights", "scratch", "baseline"))
        need(self.arms >= 2, "supernet.arms", self.arms, "at least 2, the largest and the smallest width")


@dataclass
class RetrainConfig(StageConfig):
    """Training of the small network that the search found (and of the uniform one)."""

    section: ClassVar[str] = "retrain"

    init: str = key("supernet", "first weights: supernet or scratch")
    teacher: str = key("none", "whose outputs it also learns from: none, baseline or supernet")
    distill_weight: float = key(0.5, "share of the loss that comes from the teacher, in [0, 1]")
    temperature: float = key(1.0, "softening of the teacher's outputs")
    joint: bool = key(False, "train the networks of all targets as one, with batch norms of each one's own")
    distill: bool = key(True, "joint: smaller networks learn from the largest one's outputs, not from labels")

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("retrain.init", self.init, ("supernet", "scratch"))
        one_of("retrain.teacher", self.teacher, ("none", "baseline", "supernet"))
        need(
            0 <= self.distill_weight <= 1, "retrain.distill_weight", self.distill_weight, "a share in [0, 1]"
        )
        need(0 < self.temperature < math.inf, "retrain.temperature", self.temperature, "a number above 0")
        alone = not self.joint or self.teacher == "none"
        need(alone, "retrain.teacher", self.teacher, "none with retrain.joint: the largest network teaches")
