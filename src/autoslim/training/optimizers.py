"""Keras optimizers and learning-rate schedules from the configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import tensorflow as tf

from autoslim.errors import AutoslimError, first_line
from autoslim.graph.replicas import strategy_of
from autoslim.importing import function_at
from autoslim.schema.checks import gather
from autoslim.schema.starts import filled, rate_of
from autoslim.schema.training import OptimizerConfig, StageConfig

STEP_BOUNDARIES = (0.3, 0.6, 0.8)  # shares of the training after which "step" lowers the rate
STEP_FACTOR = 0.2

Schedule = Any  # a float, or a keras.optimizers.schedules.LearningRateSchedule

SPARED = ("gamma", "beta", "bias")  # names of weights that do not decay, also where they have more dimensions


def make_schedule(name: str, rate: float, steps: int, warmup: int = 0) -> Schedule:
    """A learning-rate schedule over a training of `steps` steps.

    Args:
        name: "constant", "cosine" (to 0), "linear" (to 0) or "step" (times 0.2 at 30, 60 and 80 % of the
            steps).
        rate: peak learning rate.
        steps: of the whole training, warm-up included.
        warmup: steps of linear rise from 0 at the start.
    """
    schedules = keras.optimizers.schedules
    after = max(1, steps - warmup)
    if name == "cosine":
        if warmup:
            return schedules.CosineDecay(0.0, after, warmup_target=rate, warmup_steps=warmup)
        return schedules.CosineDecay(rate, after)
    if name == "constant":
        main: Schedule = rate
    elif name == "linear":
        main = schedules.PolynomialDecay(rate, after, end_learning_rate=0.0)
    elif name == "step":
        boundaries = sorted({max(1, round(share * after)) for share in STEP_BOUNDARIES})
        main = schedules.PiecewiseConstantDecay(  # whose boundary is the last step at the rate before it
            [b - 1 for b in boundaries], [rate * STEP_FACTOR**i for i in range(len(boundaries) + 1)]
        )
    else:
        raise AutoslimError(f"schedule={name!r}: expected constant, cosine, linear or step.")
    return WarmUp(main, rate, warmup) if warmup else main


@keras.saving.register_keras_serializable("autoslim")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """A linear rise to `rate` over `steps` steps, then another schedule from its beginning."""

    def __init__(self, main: Schedule, rate: float, steps: int) -> None:
        self.main, self.rate, self.steps = main, rate, steps

    def __call__(self, step):
        step = keras.ops.cast(step, "float32")
        rising = self.rate * step / self.steps
        later = self.main(step - self.steps) if callable(self.main) else self.main
        return keras.ops.where(step < self.steps, rising, later)

    def get_config(self):
        main = keras.saving.serialize_keras_object(self.main)
        return {"main": main, "rate": self.rate, "steps": self.steps}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "main": keras.saving.deserialize_keras_object(config["main"])})


def make_optimizer(
    model: keras.Model,
    *options: OptimizerConfig,
    schedule: Schedule = None,
    precision: str = "float32",
    **keys: Any,
) -> keras.optimizers.Optimizer:
    """A Keras optimizer whose weight decay (decoupled) spares norms, biases and all of one dimension.

    It is made in the scope of the strategy that the model was made in.

    Args:
        model: whose weights it will move.
        options: an `OptimizerConfig`; its keys may also be given as keywords.
        schedule: learning rate, a number or a Keras schedule; None: that of the options, constant.
        precision: of the steps; "mixed_float16" scales the loss, so that small gradients don't vanish.
        keys: of the options.
    """
    (how,) = gather("make_optimizer", [OptimizerConfig], options, keys)
    common = {
        "learning_rate": rate_of(how) if schedule is None else schedule,
        "weight_decay": how.weight_decay or None,
        "global_clipnorm": how.clipnorm,
    }
    if how.ema is not None:
        common |= {"use_ema": True, "ema_momentum": how.ema}
    with strategy_of(model).scope():
        if how._target_ is not None:
            optimizer = _named(how, common)
        elif how.name == "adamw":
            optimizer = keras.optimizers.AdamW(**{**common, "weight_decay": how.weight_decay})
        else:
            optimizer = keras.optimizers.SGD(momentum=how.momentum, nesterov=how.nesterov, **common)
        spared = [v for v in model.trainable_variables if len(v.shape) <= 1 or v.name in SPARED]
        if how.weight_decay and spared:
            optimizer.exclude_from_weight_decay(var_list=spared)
        return keras.optimizers.LossScaleOptimizer(optimizer) if precision == "mixed_float16" else optimizer


def _named(how: OptimizerConfig, common: Mapping[str, Any]) -> keras.optimizers.Optimizer:
    """The Keras optimizer of `optimizer._target_`, with what all optimizers take.

    Raises:
        AutoslimError: if there is none, or it refuses its arguments.
    """
    assert how._target_ is not None
    make = function_at(how._target_, "optimizer._target_", "a Keras optimizer")
    given = {name: value for name, value in common.items() if value is not None} | how.args
    try:
        optimizer = make(**given)
    except (TypeError, ValueError) as error:
        raise AutoslimError(
            f"optimizer._target_={how._target_} was called with {', '.join(given)} and refused: "
            f"{first_line(error)}. Give its arguments as +optimizer.args.NAME=VALUE."
        ) from error
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise AutoslimError(
            f"optimizer._target_={how._target_} returned a {type(optimizer).__name__}: expected a Keras "
            "optimizer."
        )
    return optimizer


def stage_optimizer(
    model: keras.Model,
    stage: StageConfig,
    how: OptimizerConfig,
    steps_per_epoch: int,
    precision: str = "float32",
) -> keras.optimizers.Optimizer:
    """The optimizer of a training, with its learning rate over time.

    Args:
        model: whose weights it will move.
        stage: epochs, schedule and warm-up of the training, and its learning rate, if it has one of its own.
        how: the optimizer and its learning rate.
        steps_per_epoch: of the training.
        precision: as in `make_optimizer`.
    """
    stage = filled(stage, "fresh", how)
    assert stage.warmup_epochs is not None and stage.learning_rate is not None
    steps, rate = stage.length * steps_per_epoch, stage.learning_rate
    warmup = round(stage.warmup_epochs * steps_per_epoch)
    schedule = make_schedule(stage.schedule, rate, steps, warmup)
    return make_optimizer(model, how, schedule=schedule, precision=precision)


def refuse_two_optimizers(given: keras.optimizers.Optimizer | None, keys: Iterable[str]) -> None:
    """Refuse keywords that describe an optimizer where one is given.

    Raises:
        AutoslimError: naming them.
    """
    described = {item.name for item in dataclasses.fields(OptimizerConfig)} | {"schedule", "warmup_epochs"}
    if given is not None and (both := sorted(described & set(keys))):
        raise AutoslimError(
            f"An optimizer was given and also {', '.join(both)}, which would describe another one: give the "
            "optimizer alone, with its own learning rate, or these keys alone."
        )


def learning_rate(optimizer: keras.optimizers.Optimizer) -> float:
    """The learning rate of the optimizer's next step."""
    return float(tf.convert_to_tensor(optimizer.learning_rate))
