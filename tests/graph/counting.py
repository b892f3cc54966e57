"""Costs counted slowly, from a plain Keras model alone: nothing of the package is used here."""

import functools
import math
import re

import keras

L = keras.layers


@functools.lru_cache(maxsize=1)
def calls_of(model):
    """Every call of a layer or operation in a flat functional model: (op, input tensors, output tensors)."""
    calls = []

    def record(op, *args, **kwargs):
        outputs = op(*args, **kwargs)
        tensors = [x for x in keras.tree.flatten((args, kwargs)) if isinstance(x, keras.KerasTensor)]
        calls.append((op, tensors, keras.tree.flatten(outputs)))
        return outputs

    inputs = keras.tree.map_structure(
        lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x.name), model.input
    )
    clone = keras.models.clone_model(
        model, input_tensors=inputs, clone_function=lambda layer: layer, call_function=record
    )
    return keras.tree.flatten(inputs), calls, keras.tree.flatten(clone.output)


def macs(op, x, y):
    """Multiplications by a weight, for one image: of each output entry, the terms of its sum."""
    entries = math.prod(y.shape[1:])
    if isinstance(op, L.Conv1DTranspose | L.Conv2DTranspose | L.Conv3DTranspose):
        return math.prod(x.shape[1:]) * math.prod(op.kernel_size) * y.shape[-1]
    if isinstance(op, L.SeparableConv1D | L.SeparableConv2D):
        between = x.shape[-1] * op.depth_multiplier
        return math.prod(y.shape[1:-1]) * between * (math.prod(op.kernel_size) + y.shape[-1])
    if isinstance(op, L.DepthwiseConv1D | L.DepthwiseConv2D):
        return entries * math.prod(op.kernel_size)
    if isinstance(op, L.Conv1D | L.Conv2D | L.Conv3D):
        return entries * math.prod(op.kernel_size) * x.shape[-1] // op.groups
    if isinstance(op, L.Dense):
        return entries * x.shape[-1]
    return 0


NORMS = (L.BatchNormalization, L.LayerNormalization, L.RMSNormalization, L.GroupNormalization)


def norm_flops(op, y):
    return 4 * math.prod(y.shape[1:]) if isinstance(op, NORMS) else 0


ACTIVATIONS = (L.ReLU, L.LeakyReLU, L.ELU, L.PReLU, L.Softmax)
ACTIVATING = {"relu", "relu6", "leaky_relu", "elu", "celu", "selu", "gelu", "silu", "hard_silu", "hard_tanh"}
ACTIVATING |= {"sigmoid", "hard_sigmoid", "softplus", "log_sigmoid", "softsign", "softmax", "tanh", "re_lu"}


def bias_and_activation_flops(op, y):
    """One for each entry of the output that a bias is added to, one for each that an activation makes."""
    entries = math.prod(y.shape[1:])
    biased = bool(getattr(op, "use_bias", False))
    if isinstance(op, L.Layer):
        activation = getattr(op, "activation", None)
        activated = isinstance(op, ACTIVATIONS) or activation not in (None, keras.activations.linear)
    else:
        activated = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(op).__name__).lower() in ACTIVATING
    return (biased + activated) * entries


def count(model, convention):
    """(flops, params) of a plain model."""
    _, calls, _ = calls_of(model)
    flops = sum(macs(op, inputs[0], outputs[0]) for op, inputs, outputs in calls)
    if convention == "macs":
        return flops, sum(math.prod(w.shape) for w in model.trainable_weights)
    flops += sum(norm_flops(op, outputs[0]) for op, _, outputs in calls)
    if convention == "all":
        flops += sum(bias_and_activation_flops(op, outputs[0]) for op, _, outputs in calls)
    return flops, model.count_params()


def peak_memory(model):
    """Peak bytes of float32 activations for one image, looked up moment by moment.

    Moment 0 is before the first call, moment i its i-th call. A tensor is there from the moment that makes it
    to the last that reads it; outputs stay, and so do inputs that nobody reads.
    """
    inputs, calls, outputs = calls_of(model)
    tensors = {id(x): x for x in inputs}
    born = {id(x): 0 for x in inputs}
    dies = {id(x): len(calls) for x in inputs}
    for moment, (_, read, made) in enumerate(calls, start=1):
        for x in made:
            tensors[id(x)] = x
            born[id(x)] = dies[id(x)] = moment
        for x in read:
            dies[id(x)] = moment
    for x in outputs:
        dies[id(x)] = len(calls)
    return max(
        sum(4 * math.prod(tensors[i].shape[1:]) for i in tensors if born[i] <= moment <= dies[i])
        for moment in range(len(calls) + 1)
    )
