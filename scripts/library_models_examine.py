"""What `library_models.py` finds out about one model: a process that is asked for one after another."""

from __future__ import annotations

import json
import math
import os
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

SAYS = "answer: "  # before what a process answers
LOADING = 300.0  # seconds that loading a saved model may take
MEMORY = 10  # GiB that one process may take for itself
TOLERANCE = 1e-4  # of the largest output
DECIDED = 1e-3  # a probability is 0 or 1 within this
ATTEMPTS = 20
COUNTED = (
    *("Conv2D", "Conv3D", "DepthwiseConv2dNative", "Conv2DBackpropInput", "Conv3DBackpropInputV2"),
    *("MatMul", "BatchMatMulV2", "BatchMatMul", "Einsum"),
)


class Process:
    """A Python process that answers one line to each line: started when asked, and again after it ended."""

    def __init__(self, role: str) -> None:
        self._role = role
        self._running: subprocess.Popen[str] | None = None

    def ask(self, line: str, seconds: float) -> str | None:
        """The answer; None if the process ended, or took longer and was ended."""
        if self._running is None:
            command = [sys.executable, __file__, self._role]
            self._running = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
        process = self._running
        assert process.stdin and process.stdout
        timer = threading.Timer(seconds, process.kill)
        timer.start()
        try:
            print(line, file=process.stdin, flush=True)
            for said in process.stdout:
                if said.startswith(SAYS):
                    return said.removeprefix(SAYS).rstrip("\n")
        finally:
            timer.cancel()
        process.wait()
        self._running = None
        return None


def true_macs(model: Any, moving: bool = True) -> int:
    """Multiply-accumulates for one image, of the operations in the model's TensorFlow graph.

    Args:
        model: whose.
        moving: whether with convolutions by an identity, by which Keras takes patches: they move entries.
    """
    import tensorflow as tf

    specs = [tf.TensorSpec((1, *x.shape[1:]), x.dtype) for x in model.inputs]
    function = tf.function(lambda *x: model(list(x) if len(x) > 1 else x[0], training=False))
    return _of_graph(function.get_concrete_function(*specs).graph, moving)


def _of_graph(graph: Any, moving: bool) -> int:
    """Those that its outputs depend on; functions that it calls are entered."""
    total, waiting, seen = 0, [tensor.op for tensor in graph.outputs], set()
    while waiting:
        operation = waiting.pop()
        if operation.name in seen:
            continue
        seen.add(operation.name)
        waiting += [tensor.op for tensor in operation.inputs]
        if operation.type in ("PartitionedCall", "StatefulPartitionedCall"):
            total += _of_graph(graph._get_function(operation.get_attr("f").name).graph, moving)
        elif operation.type in COUNTED and (moving or not _moves(operation)):
            shapes = [x.shape.as_list() for x in operation.inputs]
            total += _macs(operation, shapes, _result(operation).shape.as_list())
    return total


def _result(operation: Any) -> Any:
    """The output; of a dilated convolution, which TensorFlow computes in padded parts, what they make."""
    result = operation.outputs[0]
    for kind in ("Squeeze", "BatchToSpaceND"):
        result = next((after.outputs[0] for after in result.consumers() if after.type == kind), result)
    return result if result.op.type == "BatchToSpaceND" else operation.outputs[0]


def _moves(operation: Any) -> bool:
    """Whether an operation is a convolution whose kernel is an identity, made in the graph."""
    kernel = operation.inputs[1].op if operation.type in ("Conv2D", "Conv3D") else operation
    while kernel.type in ("Reshape", "Cast", "Identity"):
        kernel = kernel.inputs[0].op
    return kernel.type.startswith("MatrixDiag")


def _macs(operation: Any, inputs: list[list[int]], output: list[int]) -> int:
    kind = operation.type
    if kind in ("Conv2D", "Conv3D"):
        return math.prod(output) * math.prod(inputs[1][:-1])
    if kind == "DepthwiseConv2dNative":
        return math.prod(output) * math.prod(inputs[1][:2])
    if kind in ("Conv2DBackpropInput", "Conv3DBackpropInputV2"):
        return math.prod(inputs[2]) * math.prod(inputs[1][:-1])
    if kind == "Einsum":
        terms = operation.get_attr("equation").decode().split("->")[0].split(",")
        sizes: dict[str, int] = {}
        for term, shape in zip(terms, inputs, strict=True):
            sizes.update(zip(term, shape, strict=True))
        return math.prod(sizes.values()) if len(inputs) > 1 else 0
    turned = operation.get_attr("transpose_a" if kind == "MatMul" else "adj_x")
    return math.prod(output) * inputs[0][-2 if turned else -1]


def draw(model: Any) -> None:
    """Scales, biases, statistics and all that begins as a constant, as a trained network might have them."""
    import numpy as np

    rng = np.random.default_rng(0)
    for variable in model.weights:
        kind = variable.path.rsplit("/", 1)[-1]
        value = np.asarray(variable)
        alike = "float" in variable.dtype and value.size and (value == value.flat[0]).all()
        if kind in ("gamma", "moving_variance", "variance") or (alike and value.flat[0] != 0):
            variable.assign(rng.uniform(0.7, 1.3, variable.shape))
        elif kind in ("beta", "moving_mean", "mean", "bias") or alike:
            variable.assign(rng.normal(0.0, 0.1, variable.shape))


def soften(model: Any, inputs: Any) -> None:
    """Divide the last kernel until a softmax or sigmoid at the end gives other numbers than 0 and 1.

    Else networks that compute different things could not be told apart.
    """
    import keras
    import numpy as np

    def decided() -> bool:
        outputs = [np.asarray(y, np.float64) for y in keras.tree.flatten(model(inputs, training=False))]
        return all(np.all(np.minimum(np.abs(y), np.abs(1 - y)) < DECIDED) for y in outputs)

    kernels = [variable for variable in model.weights if variable.path.endswith("/kernel")]
    for _ in range(ATTEMPTS):
        if not kernels or not decided():
            break
        kernels[-1].assign(kernels[-1] / 10)


def difference(got: Any, expected: Any) -> float:
    """The largest difference, as a share of the largest entry expected."""
    import keras
    import numpy as np

    worst = 0.0
    for a, b in zip(keras.tree.flatten(got), keras.tree.flatten(expected), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert np.isfinite(b).all(), "outputs that are no numbers"
        worst = max(worst, float(np.max(np.abs(a - b)) / max(np.max(np.abs(b)), 1e-30)))
    return worst


def said_by(error: Exception) -> str:
    """An exception's class and the first words of it, on one line and without colours."""
    words = re.sub(r"\x1b\[\d*m", "", str(error).rpartition("Error: ")[2]).split()
    return f"{type(error).__name__}: {' '.join(words)[:150]}"


def examine(name: str, loader: Process) -> dict[str, Any]:
    """Everything that the table says of one model."""
    import keras
    from library_models_list import MODELS

    from autoslim import ChannelGraph
    from autoslim.errors import AutoslimError

    keras.utils.set_random_seed(0)
    try:
        model = MODELS[name]()
    except Exception as error:  # the library's own, as where it is older than Keras
        return {"unbuilt": said_by(error)}
    draw(model)
    found: dict[str, Any] = {"parameters": model.count_params()}
    try:
        start = time.perf_counter()
        graph = ChannelGraph(model)
        found["trace_seconds"] = round(time.perf_counter() - start, 2)
        found["uncovered"] = dict(graph.uncovered)
        try:
            found["macs"] = true_macs(model)
        except Exception as error:  # the library's own: it can't be trained either
            return {"unbuilt": f"not in a TensorFlow graph: {said_by(error)}"}
        return found | compare(graph, model, found["macs"], loader)
    except AutoslimError as error:
        return found | {"refused": str(error)}


def compare(graph: Any, model: Any, macs: int, loader: Process) -> dict[str, Any]:
    """How networks of the graph compute, what they cost, and whether they load.

    Raises:
        AutoslimError: if a network can't be made.
    """
    import numpy as np

    rng = np.random.default_rng(0)
    images = [rng.normal(size=(2, *x.shape[1:])).astype("float32") for x in model.inputs]
    inputs = images[0] if len(images) == 1 else images
    soften(model, inputs)
    widths = graph.full
    for group in graph.slimmable:
        widths[group.index] = rng.integers(1, group.size // group.unit + 1) * group.unit
    small, smallest = graph.materialize(widths), graph.materialize(graph.uniform(0.0), weights=False)
    full, sliced = graph.run(inputs), graph.run(inputs, widths)
    differences = {
        "full": difference(full, model(inputs, training=False)),
        "mask": difference(graph.run(inputs, widths, execution="mask"), sliced),
        "materialised": difference(small(inputs, training=False), sliced),
    }
    loaded = loads(loader, small, inputs)
    if loaded not in LOADED and loads(loader, model, inputs) not in LOADED:
        loaded = f"not even the whole model; {loaded}"
    return {
        "moved": difference(sliced, full),
        "differences": differences,
        "costs": [
            [graph.cost().flops, true_macs(model, moving=False)],
            [graph.cost(widths).flops, true_macs(small)],
        ],
        "uncounted": dict(graph.uncounted),
        "share": 1 - true_macs(smallest) / macs,
        "loads": loaded,
    }


LOADED = ("alone", "with its library")


def loads(loader: Process, model: Any, inputs: Any) -> str:
    """Where the saved model loads and computes the same: one of `LOADED`; else why it does not."""
    import keras
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        try:
            model.save(f"{folder}/model.keras")
        except Exception as error:  # of a layer of the library's that stays whole
            return f"can't be saved: {type(error).__name__}: {str(error).strip()[:80]}".replace("\n", " ")
        np.savez(f"{folder}/inputs.npz", *keras.tree.flatten(inputs))
        np.savez(f"{folder}/outputs.npz", *keras.tree.flatten(model(inputs, training=False)))
        if loader.ask(folder, LOADING) == "yes":
            return "alone"
        why = load(folder)
        return "with its library" if why == "yes" else f"no: {why}"


def load(folder: str) -> str:
    """Load a saved model in this process, and compare: "yes", or why it does not."""
    import keras
    import numpy as np

    try:
        model = keras.saving.load_model(f"{folder}/model.keras", compile=False)
        with np.load(f"{folder}/inputs.npz") as file:
            inputs = [file[key] for key in file.files]
        with np.load(f"{folder}/outputs.npz") as file:
            outputs = [file[key] for key in file.files]
        got = model(inputs[0] if len(inputs) == 1 else inputs, training=False)
        different = difference(got, outputs)
        return "yes" if different < TOLERANCE else f"its outputs differ by {different:.2g}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error).strip()[:150]}".replace("\n", " ")


def tried(name: str, loader: Process) -> dict[str, Any]:
    """`examine`; what it raised, where it did."""
    import keras

    keras.backend.clear_session()
    try:
        return examine(name, loader)
    except Exception as error:
        text = str(error).strip() or type(error).__name__
        where = traceback.format_exc().splitlines()[-12:]
        return {"raised": f"{type(error).__name__}: {text.splitlines()[0][:300]}", "where": where}


def serve(role: str) -> None:
    """Answer each line: "examine" a model of this name, or "load" a model from this folder."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY << 30, MEMORY << 30))
    loader = Process("load")
    for line in sys.stdin:
        if role == "load":
            assert "autoslim" not in sys.modules
            answer = load(line.strip())
        else:
            answer = json.dumps(tried(line.strip(), loader))
        print(f"\n{SAYS}{answer}", flush=True)


if __name__ == "__main__":
    serve(sys.argv[1])
