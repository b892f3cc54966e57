"""Keras optimizers and learning-rate schedules from the configuration."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from autoslim.errors import AutoslimError
from autoslim.graph.replicas import strategy_of

STEP_BOUNDARIES = (0.3, 0.6, 0.8)  # shares of the training after which "step" lowers the rate
STEP_FACTOR = 0.2

Schedule = Any  # a float, or a keras.optimizers.schedules.LearningRateSchedule


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
    schedule: Schedule,
    *,
    name: str = "sgd",
    momentum: float = 0.9,
    nesterov: bool = True,
    weight_decay: float = 0.0,
    clipnorm: float | None = None,
    ema: float | None = None,
    precision: str = "float32",
) -> keras.optimizers.Optimizer:
    """A Keras optimizer whose weight decay (decoupled) leaves batch norms and biases alone.

    It is made in the scope of the strategy that the model was made in.

    Args:
        model: whose weights it will move.
        schedule: learning rate, a number or a Keras schedule.
        name: "sgd" or "adamw".
        momentum, nesterov: of sgd.
        weight_decay: share of a weight taken off per step, times the learning rate.
        clipnorm: largest global norm of the gradients; None: no limit.
        ema: momentum of the moving average of the weights that a training ends with; None: the last weights.
        precision: of the steps; "mixed_float16" scales the loss, so that small gradients don't vanish.
    """
    with strategy_of(model).scope():
        optimizer = _make(model, schedule, name, momentum, nesterov, weight_decay, clipnorm, ema)
        return keras.optimizers.LossScaleOptimizer(optimizer) if precision == "mixed_float16" else optimizer


def _make(
    model: keras.Model,
    schedule: Schedule,
    name: str,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
    clipnorm: float | None,
    ema: float | None,
) -> keras.optimizers.Optimizer:
    common = {"learning_rate": schedule, "weight_decay": weight_decay or None, "global_clipnorm": clipnorm}
    if ema is not None:
        common |= {"use_ema": True, "ema_momentum": ema}
    if name == "sgd":
        optimizer = keras.optimizers.SGD(momentum=momentum, nesterov=nesterov, **common)
    elif name == "adamw":
        optimizer = keras.optimizers.AdamW(**{**common, "weight_decay": weight_decay})
    else:
        raise AutoslimError(f"optimizer.name={name!r}: expected sgd or adamw.")
    spared = [v for v in model.trainable_variables if len(v.shape) <= 1]  # gamma, beta, biases
    if weight_decay and spared:
        optimizer.exclude_from_weight_decay(var_list=spared)
    return optimizer


def learning_rate(optimizer: keras.optimizers.Optimizer) -> float:
    """The learning rate of the optimizer's next step."""
    return float(tf.convert_to_tensor(optimizer.learning_rate))
