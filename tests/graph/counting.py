"""Costs counted slowly, from a plain Keras model alone: nothing of the package is used here."""

import functools
import math
import re

import keras
import numpy as np

L = keras.layers


class Sized:
    """A tensor that is there, of which the shape counts."""

    def __init__(self, shape):
        self.shape = shape


@functools.lru_cache(maxsize=1)
def calls_of(model):
    """Every call of a layer or operation in a flat functional model, on one image.

    (op, input tensors, output tensors) each, with the batch: positions may be folded into it.
    """
    calls = []

    def record(op, *args, **kwargs):
        outputs = op(*args, **kwargs)
        tensors = [x for x in keras.tree.flatten((args, kwargs)) if isinstance(x, keras.KerasTensor)]
        calls.append((op, tensors, keras.tree.flatten(outputs)))
        return outputs

    inputs = keras.tree.map_structure(
        lambda x: keras.Input(batch_shape=(1, *x.shape[1:]), dtype=x.dtype, name=x.name), model.input
    )
    clone = keras.models.clone_model(
        model, input_tensors=inputs, clone_function=lambda layer: layer, call_function=record
    )
    made = [x for _, _, outputs in calls for x in outputs]
    flat = keras.tree.flatten(inputs)
    zeros = keras.tree.map_structure(lambda x: np.zeros(x.shape, x.dtype), inputs)
    values = keras.Model(inputs, [*flat, *made])(zeros)  # symbolic tensors do not know all sizes
    real = {id(x): Sized(tuple(v.shape)) for x, v in zip([*flat, *made], values, strict=True)}
    known = [(op, [real[id(x)] for x in read], [real[id(x)] for x in own]) for op, read, own in calls]
    return [real[id(x)] for x in flat], known, [real[id(x)] for x in keras.tree.flatten(clone.output)]


GATES = {"SimpleRNNCell": 1, "GRUCell": 3, "LSTMCell": 4, "ConvLSTMCell": 4}


def kind_of(op):
    return type(op.cell).__name__


def window(op):
    return math.prod(getattr(op.cell, "kernel_size", ()))


def steps_of(op, x, y):
    """How often one vector of units is computed: at each position of each step, of all rows."""
    return x.shape[0] * x.shape[1] * math.prod(y.shape[2 if op.return_sequences else 1 : -1])


def recurrent_entries(op, x, y):
    """Biases that are added, and entries that activations make, gate by gate."""
    units, cell = y.shape[-1], op.cell
    made = 0 if cell.bias is None else math.prod(cell.bias.shape)
    squashed = {"SimpleRNNCell": 1, "GRUCell": 1, "LSTMCell": 2, "ConvLSTMCell": 2}[kind_of(op)]
    made += squashed * units * (cell.activation is not keras.activations.linear)
    made += (GATES[kind_of(op)] - 1) * units  # of the gates themselves
    return steps_of(op, x, y) * made


def macs(op, x, y):
    """Multiplications by a weight, for one image: of each output entry, the terms of its sum."""
    entries = math.prod(y.shape)
    if isinstance(op, L.Conv1DTranspose | L.Conv2DTranspose | L.Conv3DTranspose):
        return math.prod(x.shape) * math.prod(op.kernel_size) * y.shape[-1]
    if isinstance(op, L.SeparableConv1D | L.SeparableConv2D):
        between = x.shape[-1] * op.depth_multiplier
        return math.prod(y.shape[:-1]) * between * (math.prod(op.kernel_size) + y.shape[-1])
    if isinstance(op, L.DepthwiseConv1D | L.DepthwiseConv2D):
        return entries * math.prod(op.kernel_size)
    if isinstance(op, L.Conv1D | L.Conv2D | L.Conv3D):
        return entries * math.prod(op.kernel_size) * x.shape[-1] // op.groups
    if isinstance(op, L.Dense):
        return entries * x.shape[-1]
    if isinstance(op, L.RNN):
        columns = GATES[kind_of(op)] * y.shape[-1]
        return steps_of(op, x, y) * columns * (x.shape[-1] + y.shape[-1]) * window(op)
    return 0


def products(op, tensors, y):
    """Multiplications of tensors by each other: each entry of the result, the terms of its sum."""
    kind, entries = type(op).__name__, math.prod(y.shape)
    if kind == "EinsumDense":
        inputs, kernel = op.equation.partition("->")[0].split(",")
        shared = [n for letter, n in zip(kernel, op.kernel.shape, strict=True) if letter in inputs]
        return entries * math.prod(shared)
    if kind == "Matmul" or (kind == "Einsum" and "..." in op.subscripts):
        return entries * tensors[0].shape[-1]
    if kind == "Einsum":
        terms = op.subscripts.partition("->")[0].split(",")
        pairs = [
            pair for term, x in zip(terms, tensors, strict=True) for pair in zip(term, x.shape, strict=True)
        ]
        return math.prod(dict(pairs).values())
    if kind in ("Conv", "DepthwiseConv"):
        return entries * math.prod(tensors[1].shape[: -1 if kind == "Conv" else -2])
    if kind == "DotProductAttention":
        query, key, value = (x.shape for x in tensors[:3])
        return query[0] * query[1] * key[1] * query[2] * (query[3] + value[3])
    return 0


NORMS = (L.BatchNormalization, L.LayerNormalization, L.RMSNormalization, L.GroupNormalization)


def norm_flops(op, y):
    return 4 * math.prod(y.shape) if isinstance(op, NORMS) else 0


ACTIVATIONS = (L.ReLU, L.LeakyReLU, L.ELU, L.PReLU, L.Softmax)
ACTIVATING = {"relu", "relu6", "leaky_relu", "elu", "celu", "selu", "gelu", "silu", "hard_silu", "hard_tanh"}
ACTIVATING |= {"soft_shrink", "tanh_shrink", "hard_shrink", "sparse_plus", "squareplus", "threshold", "glu"}
ACTIVATING |= {"sparse_sigmoid", "log_softmax", "sparsemax"}
ACTIVATING |= {"sigmoid", "hard_sigmoid", "softplus", "log_sigmoid", "softsign", "softmax", "tanh", "re_lu"}


def bias_and_activation_flops(op, x, y):
    """One for each entry of the output that a bias is added to, one for each that an activation makes."""
    if isinstance(op, L.RNN):
        return recurrent_entries(op, x[0], y)
    entries = math.prod(y.shape)
    biased = getattr(op, "bias", None) is not None
    if isinstance(op, L.Layer):
        activation = getattr(op, "activation", None)
        activated = isinstance(op, ACTIVATIONS) or activation not in (None, keras.activations.linear)
    else:
        activated = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(op).__name__).lower() in ACTIVATING
    return (biased + activated) * entries


def count(model, convention):
    """(flops, params) of a plain model."""
    _, calls, _ = calls_of(model)
    flops = sum(macs(op, x[0], y[0]) + products(op, x, y[0]) for op, x, y in calls)
    if convention == "macs":
        return flops, sum(math.prod(w.shape) for w in model.trainable_weights)
    flops += sum(norm_flops(op, outputs[0]) for op, _, outputs in calls)
    if convention == "all":
        flops += sum(bias_and_activation_flops(op, x, outputs[0]) for op, x, outputs in calls)
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
        sum(4 * math.prod(tensors[i].shape) for i in tensors if born[i] <= moment <= dies[i])
        for moment in range(len(calls) + 1)
    )
