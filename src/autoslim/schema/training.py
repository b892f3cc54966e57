"""How weights are trained."""

from dataclasses import dataclass
from typing import Any, ClassVar

from autoslim.schema.checks import Options, key, need

STRATEGIES = ("auto", "single", "mirrored", "multi_worker")
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
EXECUTIONS = ("slice", "mask")
SCHEDULES = ("constant", "cosine", "step", "linear")
LOGGERS = ("csv", "wandb", "mlflow")
TEACHERS = ("none", "given", "baseline", "supernet")


@dataclass
class OptimizerConfig(Options):
    """How weights follow gradients, in every stage that trains."""

    section: ClassVar[str] = "optimizer"

    name: str = key("sgd", "sgd or adamw", words=("sgd", "adamw"))
    _target_: str | None = key(
        None,
        "dotted path of any Keras optimizer, in place of name, such as keras.optimizers.Lion; null: name",
    )
    args: dict[str, Any] = key({}, "keyword arguments of the optimizer of optimizer._target_")
    learning_rate: float | None = key(
        None,
        "peak learning rate, per batch of train.batch_size images; null: by the weights to start from",
        above=0,
    )
    momentum: float = key(0.9, "momentum of sgd", least=0, below=1)
    nesterov: bool = key(True, "Nesterov's form of the momentum (sgd)")
    weight_decay: float = key(
        5e-3,  # with momentum 0.9 this corresponds to an L2 penalty of 5e-4
        "decoupled decay per step, times the learning rate; not on norms and biases",
        least=0,
    )
    clipnorm: float | None = key(None, "largest global norm of a gradient; null: no limit", above=0)
    ema: float | None = key(
        None,
        "momentum of a moving average of the weights, used in place of the last ones; null: none",
        above=0,
        below=1,
    )


@dataclass
class LoopOptions(Options):
    """How the steps of a training are computed, saved and shown."""

    section: ClassVar[str] = "train"

    precision: str = key(
        "float32", f"type in which layers compute: {', '.join(PRECISIONS)}", words=PRECISIONS
    )
    execution: str = key(
        "slice",
        "narrower networks: slice computes active channels only, mask all of them, with static shapes",
        words=EXECUTIONS,
    )
    accumulate: int = key(
        1,
        "parts of a batch that are computed one after another, to save memory; batch norm sees a part",
        least=1,
    )
    sync_batch_norm: bool = key(
        False, "batch statistics over the images of all devices; else over each device's own"
    )
    jit: str = key(
        "auto",
        "XLA for steps of static shapes (full width; all with train.execution=mask): on, off, or auto: "
        "measured on a GPU, off on a CPU",
        words=("auto", "on", "off"),
    )
    steps_per_execution: int = key(
        1,
        "steps of a single network that are taken in one call; more help small steps on fast devices",
        affects_result=False,
        least=1,
    )
    checkpoint_seconds: float = key(
        60.0,
        "seconds between checkpoints; 0: after every step",
        affects_result=False,
        least=0,
        unit="seconds",
    )
    evaluate_epochs: int | None = key(
        None,
        "epochs between evaluations, held-out images (supernet) or test images, for the curves alone; 0: "
        "none; null: a tenth of the epochs, none in trainings of fewer than 10",
        affects_result=False,
        least=0,
    )
    logger: list[str] = key(
        [],
        "where curves go besides TensorBoard: csv (metrics.csv in the stage's folder), wandb, mlflow",
        affects_result=False,
        words=LOGGERS,
    )
    callbacks: dict[str, Any] = key(
        {},
        "Keras callbacks that watch trainings, by names of your own: {NAME: {_target_: my.module.Callback, "
        "argument: value}}; called at the begin, at the ends of epochs, and at the end",
    )
    log_steps: int = key(20, "steps between points of the TensorBoard curves", affects_result=False, least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        need(
            not (self.steps_per_execution > 1 and self.accumulate > 1),
            self.key_of("steps_per_execution"),
            self.steps_per_execution,
            "1 where train.accumulate cuts the batches into parts",
        )
        need(
            not (self.jit == "on" and self.sync_batch_norm),
            self.key_of("jit"),
            self.jit,
            "off or auto with train.sync_batch_norm: devices can't exchange values within an XLA step",
        )


@dataclass
class TrainConfig(LoopOptions):
    """What all stages that train have in common."""

    batch_size: int = key(128, "training images per step, on all devices together", least=1)
    eval_batch_size: int = key(
        500, "images per step where no gradient is needed", affects_result=False, least=1
    )
    calibration_batches: int = key(
        20,
        "batches of training images, augmented as in training, to recompute batch-norm statistics",
        least=1,
    )
    deterministic: bool = key(True, "the same bits from the same seed on the same machine")
    strategy: str = key(
        "auto",
        "devices: single, mirrored (all GPUs), multi_worker (TF_CONFIG), or auto: what there is",
        affects_result=False,  # a run may go on, and its results be used, on other machines
        words=STRATEGIES,
    )


@dataclass
class StageConfig(Options):
    """What the stages that train share."""

    epochs: int | None = key(
        None,
        "passes over the training images; null: by the weights to start from, 30 for fresh ones",
        least=1,
    )
    schedule: str = key("cosine", f"learning rate over time: {', '.join(SCHEDULES)}", words=SCHEDULES)
    warmup_epochs: float | None = key(
        None, "epochs of linear rise of the learning rate at the start; null: a tenth of the epochs", least=0
    )
    learning_rate: float | None = key(None, "peak learning rate; null: optimizer.learning_rate", above=0)
    label_smoothing: float = key(
        0.0, "share of the label spread over all classes, in [0, 1)", least=0, below=1, unit="a share"
    )

    @property
    def length(self) -> int:
        """The epochs, where they are not null."""
        assert self.epochs is not None
        return self.epochs

    def __post_init__(self) -> None:
        super().__post_init__()
        need(
            self.warmup_epochs is None or self.epochs is None or self.warmup_epochs <= self.epochs,
            self.key_of("warmup_epochs"),
            self.warmup_epochs,
            f"epochs, at most {self.key_of('epochs')}={self.epochs}",
        )


@dataclass
class FitOptions(StageConfig):
    """Training of one network, with or without a teacher."""

    distill_weight: float = key(
        0.5, "share of the loss that comes from the teacher, in [0, 1]", least=0, most=1, unit="a share"
    )
    temperature: float = key(1.0, "softening of the teacher's outputs", above=0)


MOST_ARMS = 1000  # of a step, which is then as long as an epoch of a thousand steps


@dataclass
class SandwichOptions(StageConfig):
    """Training of one network at many widths (`slimming.sandwich`)."""

    arms: int = key(
        4,
        "widths trained per step: the largest, the smallest, the rest random",
        least=2,
        most=MOST_ARMS,
        expected=f"2, the largest and the smallest width, to {MOST_ARMS}: each is a training step of its own",
    )
    distill: bool = key(True, "smaller arms learn from the largest arm's outputs")
    distill_ramp: float = key(
        0.5,
        "share of the training over which smaller arms turn from the labels to the largest arm's outputs, "
        "evenly; 0: they learn from its outputs from the first step",
        least=0,
        most=1,
        unit="a share",
    )


@dataclass
class JointOptions(StageConfig):
    """Training of several networks as one, with batch norms of each one's own."""

    distill: bool = key(True, "joint: smaller networks learn from the largest one's outputs, not from labels")


@dataclass
class BaselineConfig(StageConfig):
    """Training of the full network, to compare with."""

    section: ClassVar[str] = "baseline"

    epochs: int = key(30, "passes over the training images", least=1)
    train: bool | None = key(
        None, "train the full network; null: unless its own weights are trained, which then are compared with"
    )


@dataclass
class SupernetConfig(SandwichOptions):
    """Training of one network that works at every width."""

    section: ClassVar[str] = "supernet"

    init: str = key(
        "weights",
        "first weights: weights (the network's own, pretrained ones too), scratch, or baseline: the "
        "network's own, trained first by the baseline's recipe on the images that are not held out",
        words=("weights", "scratch", "baseline"),
    )
    sort: bool = key(
        True,
        "put the most important channels of trained first weights first, by the norms of what reads them; "
        "the network computes the same",
    )


@dataclass
class RetrainConfig(FitOptions, JointOptions):
    """Training of the small network that the search found (and of the uniform one)."""

    section: ClassVar[str] = "retrain"

    init: str | None = key(
        None,
        "first weights: baseline (those of the trained full network, of each layer its most important "
        "channels), supernet, or scratch; null: baseline, or supernet where no full network is trained",
        words=("baseline", "supernet", "scratch"),
    )
    teacher: str | None = key(
        None,
        f"whose outputs it also learns from: {', '.join(TEACHERS)}; null: given where the network's own "
        "weights are trained, else none",
        words=TEACHERS,
    )
    joint: bool = key(False, "train the networks of all targets as one, with batch norms of each one's own")

    @property
    def first(self) -> str:
        """`init`, where it is not null."""
        assert self.init is not None
        return self.init

    def __post_init__(self) -> None:
        super().__post_init__()
        alone = not self.joint or self.teacher in (None, "none")
        need(
            alone,
            self.key_of("teacher"),
            self.teacher,
            "none with retrain.joint: the largest network teaches",
        )
