"""The typed schema: every key, its type, default, unit and range.

A plain dataclass per config group, checked when it is made, from YAML files or in Python alike. Nothing here
imports TensorFlow, so that a mistake on the command line is answered at once.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from omegaconf import MISSING, ListConfig

from autoslim.errors import AutoslimError
from autoslim.messages import near

STAGES = ("describe", "baseline", "supernet", "search", "retrain", "uniform", "report", "export")
"""The stages in the order in which they run."""
UNASKED = tuple(stage for stage in STAGES if stage not in ("describe", "export"))
"""The stages that run when none is named."""
EXPORT_FORMATS = ("keras", "saved_model", "litert", "litert_float16", "litert_int8", "onnx")
DATASETS = ("digits", "fashion_mnist", "cifar10", "cifar100")
NORMALIZATIONS = ("dataset", "unit", "symmetric", "pixels", "imagenet")
RESOURCES = ("flops", "params", "memory", "latency")
SCHEDULES = ("constant", "cosine", "step", "linear")


def _key(default: Any, doc: str) -> Any:
    """A field with its one line of documentation (``metadata["doc"]``); mutable defaults are copied."""
    if isinstance(default, list | dict):
        kind = type(default)
        return field(default_factory=lambda: kind(default), metadata={"doc": doc})
    return field(default=default, metadata={"doc": doc})


def _group(kind: Any, doc: str) -> Any:
    """A field that holds another config dataclass."""
    return field(default_factory=kind, metadata={"doc": doc})


def _need(holds: bool, key: str, value: object, expected: str) -> None:
    """Refuse a value outside its range, naming the key."""
    if not holds:
        raise AutoslimError(f"{key}={value} is out of range: {expected}.")


def _one_of(key: str, value: str, options: Sequence[str]) -> None:
    """Refuse a word that is not among the options, naming those that are."""
    if value not in options:
        raise AutoslimError(
            f"unknown {key} {value!r}.{near(value, options)} There are: {', '.join(options)}."
        )


@dataclass
class ArchConfig:
    """A network: a function ``(input_shape, classes, **arguments) -> keras.Model`` and what it is called."""

    _target_: str = _key(MISSING, "dotted path of a function (input_shape, classes, **args) -> keras.Model")
    name: str = _key(MISSING, "name of the network in folder names and tables")

    def __post_init__(self) -> None:
        bad = not self.name or any(mark in self.name for mark in "/\\ \n\0") or self.name.startswith(".")
        _need(not bad, "arch.name", repr(self.name), "it names folders, so no slash, blank or leading dot")

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of the function: every field of the subclass."""
        own = {f.name for f in fields(ArchConfig)}
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in own}


@dataclass
class ResNet(ArchConfig):
    """Residual network for small images (He et al. 2015, section 4.2)."""

    depth: int = _key(20, "layers: 6n + 2 for n basic blocks a stage")
    width: int = _key(16, "channels of the first stage; 2 and 4 times that in the others")

    def __post_init__(self) -> None:
        super().__post_init__()
        fits = self.depth >= 8 and (self.depth - 2) % 6 == 0
        _need(fits, "arch.depth", self.depth, "a residual network has 6n + 2 layers: 8, 14, 20, ... 56")
        _need(self.width >= 1, "arch.width", self.width, "channels of the first stage, at least 1")


@dataclass
class WideResNet(ArchConfig):
    """Wide residual network, pre-activation (Zagoruyko & Komodakis 2016)."""

    depth: int = _key(40, "layers: 6n + 4 for n basic blocks a stage")
    widen: int = _key(4, "widening factor: 16, 32 and 64 channels times this")

    def __post_init__(self) -> None:
        super().__post_init__()
        fits = self.depth >= 10 and (self.depth - 4) % 6 == 0
        _need(fits, "arch.depth", self.depth, "a wide residual network has 6n + 4 layers: 10, 16, 22, ... 40")
        _need(self.widen >= 1, "arch.widen", self.widen, "the widening factor is at least 1")


@dataclass
class MobileNetV2(ArchConfig):
    """Inverted residuals for small images (Sandler et al. 2018)."""

    width: float = _key(1.0, "multiplier of every layer's channels")

    def __post_init__(self) -> None:
        super().__post_init__()
        _need(
            0 < self.width < math.inf, "arch.width", self.width, "the multiplier of the channels is above 0"
        )


@dataclass
class ImageNetArch(ArchConfig):
    """A network for large images: MobileNet, MobileNetV2, MNasNet, ResNet-50."""

    width: float = _key(1.0, "multiplier of every layer's channels")
    channels: list[int] | None = _key(
        None, "outputs of every convolution in the order of the network, in place of width; null: by width"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _need(
            0 < self.width < math.inf, "arch.width", self.width, "the multiplier of the channels is above 0"
        )


@dataclass
class KerasApplication(ArchConfig):
    """A classifier of keras.applications; arch.name is its name there."""

    weights: str | None = _key(
        None, "first weights: imagenet (Keras downloads them), or a weights file; null: fresh"
    )

    def arguments(self) -> dict[str, Any]:
        return {"name": self.name, "weights": self.weights}


@dataclass
class KerasFile(ArchConfig):
    """A model of the user's in a .keras file, with its weights."""

    path: str = _key(MISSING, "path of a .keras file")


@dataclass
class CustomArch(ArchConfig):
    """Any other function, with any arguments."""

    args: dict[str, Any] = _key({}, "keyword arguments of the function")

    def arguments(self) -> dict[str, Any]:
        return dict(self.args)


@dataclass
class DatasetConfig:
    """Images and their labels, and how training images are varied."""

    name: str = _key("digits", f"one of {', '.join(DATASETS)}")
    path: str | None = _key(None, "folder with the data set's files; null: bundled or downloaded")
    shape: list[int] = _key([8, 8, 1], "height, width, channels of an image, pixels")
    classes: int = _key(10, "number of classes")
    normalization: str = _key(
        "dataset", "pixels to input: dataset (own mean and std), unit, symmetric, pixels or imagenet"
    )
    holdout: float = _key(0.2, "share of the training images held out for the search, per class")
    pad: int = _key(0, "random shift of training images by up to so many pixels")
    flip: bool = _key(False, "mirror half of the training images, left to right")
    train_images: int | None = _key(
        None, "use only so many training images, balanced over classes; null: all"
    )

    def __post_init__(self) -> None:
        _one_of("dataset.name", self.name, DATASETS)
        _one_of("dataset.normalization", self.normalization, NORMALIZATIONS)
        fits = len(self.shape) == 3 and all(n >= 1 for n in self.shape)
        _need(fits, "dataset.shape", self.shape, "expected [height, width, channels], each at least 1")
        _need(self.classes >= 2, "dataset.classes", self.classes, "a classifier needs at least 2 classes")
        _need(0 < self.holdout <= 0.5, "dataset.holdout", self.holdout, "a share in (0, 0.5]")
        _need(self.pad >= 0, "dataset.pad", self.pad, "pixels, 0 or more")
        count = self.train_images
        _need(count is None or count >= self.classes, "dataset.train_images", count, "at least one per class")


@dataclass
class OptimizerConfig:
    """How weights follow gradients, in every stage that trains."""

    name: str = _key("sgd", "sgd or adamw")
    learning_rate: float = _key(0.1, "peak learning rate, per batch of train.batch_size images")
    momentum: float = _key(0.9, "momentum of sgd")
    nesterov: bool = _key(True, "Nesterov's form of the momentum (sgd)")
    weight_decay: float = _key(
        5e-3, "decoupled decay per step, times the learning rate; not on norms and biases"
    )
    clipnorm: float | None = _key(None, "largest global norm of a gradient; null: no limit")

    def __post_init__(self) -> None:
        _one_of("optimizer.name", self.name, ("sgd", "adamw"))
        rate, decay, clip = self.learning_rate, self.weight_decay, self.clipnorm
        _need(0 < rate < math.inf, "optimizer.learning_rate", rate, "a number above 0")
        _need(0 <= self.momentum < 1, "optimizer.momentum", self.momentum, "a number in [0, 1)")
        _need(0 <= decay < math.inf, "optimizer.weight_decay", decay, "a number of 0 or more")
        _need(clip is None or 0 < clip < math.inf, "optimizer.clipnorm", clip, "a number above 0, or null")


@dataclass
class LimitsConfig:
    """Largest amounts of resources, beside the target: a budget is met when all are."""

    flops: float | None = _key(None, "largest number of multiply-accumulates an image; null: no limit")
    params: float | None = _key(None, "largest number of parameters; null: no limit")
    memory: float | None = _key(None, "largest peak of live activations, bytes; null: no limit")
    latency: float | None = _key(None, "longest predicted latency of an image, milliseconds; null: no limit")

    def __post_init__(self) -> None:
        for name, amount in self.given.items():
            _need(0 < amount < math.inf, f"slim.limits.{name}", amount, "an amount above 0, or null")

    @property
    def given(self) -> dict[str, float]:
        """The limits that are set."""
        amounts = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: amount for name, amount in amounts.items() if amount is not None}


@dataclass
class SlimConfig:
    """What to keep, what may be narrowed, and how the search looks for it."""

    target: Any = _key(0.5, "share of the full network's resource to keep, in (0, 1]; or a list of shares")
    resource: str = _key("flops", "what the target limits: flops, params, memory or latency")
    limits: LimitsConfig = _group(LimitsConfig, "largest amounts beside the target")
    convention: str = _key(
        "macs", "what counts as flops: macs (conv and dense), with_norm (and 4 per normalised value), all"
    )
    levels: int = _key(8, "number of widths that a channel group may take")
    min_width: float = _key(0.25, "smallest width of a group, share of its full width, in (0, 1]")
    divisor: int = _key(4, "widths are multiples of this")
    freeze: list[str] = _key([], "layers that keep their full width: names or patterns such as stem*")
    channels: str | None = _key(
        None, "a channels.yaml to retrain in place of a search's result; null: search"
    )
    search: str = _key("naive", "search mode: naive")
    score: str = _key("loss", "what candidates are compared by on held-out images: loss or top1")
    images: int | None = _key(None, "use at most so many held-out images in the search; null: all")
    batch_size: int = _key(256, "held-out images per batch; each batch is normalised by its own statistics")

    def __post_init__(self) -> None:
        if isinstance(self.target, ListConfig):
            self.target = list(self.target)
        _ = self.targets
        _one_of("slim.resource", self.resource, RESOURCES)
        _one_of("slim.convention", self.convention, ("macs", "with_norm", "all"))
        _one_of("slim.search", self.search, ("naive",))
        _one_of("slim.score", self.score, ("loss", "top1"))
        _need(self.levels >= 2, "slim.levels", self.levels, "a group needs at least 2 widths to choose from")
        _need(0 < self.min_width <= 1, "slim.min_width", self.min_width, "a share in (0, 1]")
        _need(self.divisor >= 1, "slim.divisor", self.divisor, "a whole number of 1 or more")
        _need(
            self.images is None or self.images >= 1, "slim.images", self.images, "at least 1, or null for all"
        )
        _need(
            self.batch_size >= 2,
            "slim.batch_size",
            self.batch_size,
            "batch statistics need at least 2 images",
        )

    @property
    def targets(self) -> tuple[float, ...]:
        """The targets, distinct and descending.

        >>> SlimConfig(target=[0.3, 0.5, 0.5]).targets
        (0.5, 0.3)
        """
        given = list(self.target) if isinstance(self.target, list | tuple) else [self.target]
        expected = f"it is the share of the full network's {self.resource} to keep"
        for value in given:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise AutoslimError(
                    f"slim.target={self.target!r} is not a number or a list of numbers: {expected}. "
                    "For example slim.target=0.5 or 'slim.target=[0.7,0.5,0.3]'."
                )
            if not 0 < value <= 1:
                raise AutoslimError(f"slim.target={value} is outside (0, 1]: {expected}.")
        if not given:
            raise AutoslimError(f"slim.target=[] names no target: {expected}. For example slim.target=0.5.")
        return tuple(sorted({float(value) for value in given}, reverse=True))


@dataclass
class TrainConfig:
    """What all stages that train have in common."""

    batch_size: int = _key(128, "training images per step")
    eval_batch_size: int = _key(500, "images per step where no gradient is needed")
    checkpoint_seconds: float = _key(60.0, "seconds between checkpoints; 0: after every step")
    log_steps: int = _key(20, "steps between points of the TensorBoard curves")
    calibration_batches: int = _key(20, "training batches over which batch-norm statistics are averaged anew")
    deterministic: bool = _key(True, "the same bits from the same seed on the same machine")

    def __post_init__(self) -> None:
        for name in ("batch_size", "eval_batch_size", "log_steps", "calibration_batches"):
            _need(
                getattr(self, name) >= 1, f"train.{name}", getattr(self, name), "a whole number of 1 or more"
            )
        seconds = self.checkpoint_seconds
        _need(0 <= seconds < math.inf, "train.checkpoint_seconds", seconds, "seconds, 0 or more")


@dataclass
class StageConfig:
    """What the stages that train share; ``section`` is the key under which the stage stands."""

    section: ClassVar[str] = "stage"

    epochs: int = _key(30, "passes over the training images")
    schedule: str = _key("cosine", f"learning rate over time: {', '.join(SCHEDULES)}")
    warmup_epochs: float = _key(0.0, "epochs of linear rise of the learning rate at the start")
    learning_rate: float | None = _key(None, "peak learning rate; null: optimizer.learning_rate")
    label_smoothing: float = _key(0.0, "share of the label spread over all classes, in [0, 1)")

    def __post_init__(self) -> None:
        at, rate, smoothing = self.section, self.learning_rate, self.label_smoothing
        _one_of(f"{at}.schedule", self.schedule, SCHEDULES)
        _need(self.epochs >= 1, f"{at}.epochs", self.epochs, "at least 1")
        _need(
            0 <= self.warmup_epochs <= self.epochs,
            f"{at}.warmup_epochs",
            self.warmup_epochs,
            "0 to the epochs",
        )
        _need(rate is None or 0 < rate < math.inf, f"{at}.learning_rate", rate, "a number above 0, or null")
        _need(0 <= smoothing < 1, f"{at}.label_smoothing", smoothing, "a share in [0, 1)")


@dataclass
class BaselineConfig(StageConfig):
    """Training of the full network, to compare with."""

    section: ClassVar[str] = "baseline"


@dataclass
class SupernetConfig(StageConfig):
    """Training of one network that works at every width (sandwich rule, Yu & Huang 2019)."""

    section: ClassVar[str] = "supernet"

    init: str = _key(
        "weights", "first weights: weights (the network's own, pretrained ones too), scratch or baseline"
    )
    arms: int = _key(4, "widths trained per step: the largest, the smallest, the rest random")
    distill: bool = _key(True, "smaller arms learn from the largest arm's outputs")

    def __post_init__(self) -> None:
        super().__post_init__()
        _one_of("supernet.init", self.init, ("weights", "scratch", "baseline"))
        _need(self.arms >= 2, "supernet.arms", self.arms, "at least 2, the largest and the smallest width")


@dataclass
class RetrainConfig(StageConfig):
    """Training of the small network that the search found (and of the uniform one)."""

    section: ClassVar[str] = "retrain"

    init: str = _key("supernet", "first weights: supernet or scratch")
    teacher: str = _key("none", "whose outputs it also learns from: none, baseline or supernet")
    distill_weight: float = _key(0.5, "share of the loss that comes from the teacher, in [0, 1]")
    temperature: float = _key(1.0, "softening of the teacher's outputs")

    def __post_init__(self) -> None:
        super().__post_init__()
        _one_of("retrain.init", self.init, ("supernet", "scratch"))
        _one_of("retrain.teacher", self.teacher, ("none", "baseline", "supernet"))
        _need(
            0 <= self.distill_weight <= 1, "retrain.distill_weight", self.distill_weight, "a share in [0, 1]"
        )
        _need(0 < self.temperature < math.inf, "retrain.temperature", self.temperature, "a number above 0")


@dataclass
class ExportConfig:
    """Files for deployment, each checked by its own runtime."""

    formats: list[str] = _key(["keras", "litert"], f"formats to write, of: {', '.join(EXPORT_FORMATS)}")
    images: int = _key(500, "test images on which each file is run and compared")
    calibration_images: int = _key(200, "training images from which int8 takes its ranges")

    def __post_init__(self) -> None:
        _need(bool(self.formats), "export.formats", self.formats, f"some of: {', '.join(EXPORT_FORMATS)}")
        for name in self.formats:
            _one_of("export format", name, EXPORT_FORMATS)
        self.formats = list(dict.fromkeys(self.formats))
        _need(self.images >= 1, "export.images", self.images, "at least 1")
        count = self.calibration_images
        _need(count >= 1, "export.calibration_images", count, "at least 1")


@dataclass
class Config:
    """The whole configuration of a run."""

    seed: int = _key(0, "random seed of everything: weights, order, augmentation, widths, held-out images")
    stages: list[str] = _key(list(UNASKED), f"stages to run, of: {', '.join(STAGES)}")
    output: str = _key("outputs", "folder for all that is written")
    lock_wait: float | None = _key(
        None,
        "seconds to wait for another process in a stage folder; null: 0 in a single run, no limit in a sweep",
    )
    arch: ArchConfig = _group(ArchConfig, "the network")
    dataset: DatasetConfig = _group(DatasetConfig, "the images")
    optimizer: OptimizerConfig = _group(OptimizerConfig, "the optimizer")
    slim: SlimConfig = _group(SlimConfig, "what to keep and how to search")
    train: TrainConfig = _group(TrainConfig, "common to all training")
    baseline: BaselineConfig = _group(BaselineConfig, "the full network's training")
    supernet: SupernetConfig = _group(SupernetConfig, "the supernet's training")
    retrain: RetrainConfig = _group(RetrainConfig, "the small network's training")
    export: ExportConfig = _group(ExportConfig, "files for deployment (stage export)")

    def __post_init__(self) -> None:
        _need(0 <= self.seed < 2**31, "seed", self.seed, "a whole number in [0, 2147483647]")
        _need(bool(self.stages), "stages", self.stages, f"expected some of: {', '.join(STAGES)}")
        for stage in self.stages:
            _one_of("stage", stage, STAGES)
        self.stages = [stage for stage in STAGES if stage in self.stages]
        _need(bool(self.output.strip()), "output", repr(self.output), "expected the name of a folder")
        wait = self.lock_wait
        _need(wait is None or 0 <= wait < math.inf, "lock_wait", wait, "seconds, 0 or more, or null")
