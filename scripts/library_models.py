"""Write docs/library_models.md: what of models from other libraries can be slimmed, counted independently.

    python -m venv models && models/bin/pip install -e . keras-hub kimm k3im zeromodels medicai kyolo \
        keras-vision keras-unet-collection
    models/bin/python scripts/library_models.py                # all; goes on where it stopped
    models/bin/python scripts/library_models.py kimm medicai   # those whose names begin so

The libraries are installed into an environment of their own; autoslim needs none of them. Models are built
without trained weights, from small images; their scales, biases and statistics are drawn, so that no layer is
trivial. Results: docs/library_models.json, and the table beside it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from library_models_list import MODELS

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

RESULTS = Path(__file__).parent.parent / "docs" / "library_models.json"
SAYS = "loads: "  # before what the loader's process answers
TOLERANCE = 1e-4  # of the largest output
COUNTED = (
    *("Conv2D", "Conv3D", "DepthwiseConv2dNative", "Conv2DBackpropInput", "Conv3DBackpropInputV2"),
    *("MatMul", "BatchMatMulV2", "BatchMatMul", "Einsum"),
)

HEAD = """# Models of other libraries, slimmed

Written by `python scripts/library_models.py`{versions}. Models
are built without trained weights, for images of 64x64 where the library lets one choose; scales, biases and
statistics are drawn.

- **true MACs**: multiply-accumulates of convolutions and matrix products, weights or not, for one image,
  counted in the TensorFlow graph of the model itself, by code that is not autoslim's.
- **can be slimmed**: 1 - (true MACs of the network with every group at its smallest) / (true MACs).
- **cost right**: `graph.cost().flops` is the true count, of the model and of a network at random widths.
- **exact**: at random widths, sliced, masked and materialised networks compute the same, to {tolerance:g} of
  the largest output; and so do the graph at full width and the model.
- **loads**: saved as `.keras` and loaded in a fresh process without autoslim and the library: "alone". A
  layer that stays whole is of its library's class: "with its library".

{summary}

| model | true MACs (million) | can be slimmed | cost right | exact | loads | kept whole, or without a rule |
| --- | --- | --- | --- | --- | --- | --- |
"""


def true_macs(model: Any) -> int:
    """Multiply-accumulates for one image, of the operations in the model's TensorFlow graph."""
    import tensorflow as tf

    specs = [tf.TensorSpec((1, *x.shape[1:]), x.dtype) for x in model.inputs]
    function = tf.function(lambda *x: model(list(x) if len(x) > 1 else x[0], training=False))
    return _of_graph(function.get_concrete_function(*specs).graph)


def _of_graph(graph: Any) -> int:
    """Those that its outputs depend on; functions that it calls are entered."""
    total, waiting, seen = 0, [tensor.op for tensor in graph.outputs], set()
    while waiting:
        operation = waiting.pop()
        if operation.name in seen:
            continue
        seen.add(operation.name)
        waiting += [tensor.op for tensor in operation.inputs]
        if operation.type in ("PartitionedCall", "StatefulPartitionedCall"):
            total += _of_graph(graph._get_function(operation.get_attr("f").name).graph)
        elif operation.type in COUNTED:
            shapes = [x.shape.as_list() for x in operation.inputs]
            total += _macs(operation, shapes, operation.outputs[0].shape.as_list())
    return total


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
    """Scales, biases and statistics as a trained network might have them."""
    import numpy as np

    rng = np.random.default_rng(0)
    for variable in model.weights:
        kind = variable.path.rsplit("/", 1)[-1]
        if kind in ("gamma", "moving_variance", "variance"):
            variable.assign(rng.uniform(0.7, 1.3, variable.shape))
        elif kind in ("beta", "moving_mean", "mean", "bias"):
            variable.assign(rng.normal(0.0, 0.1, variable.shape))


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


def examine(name: str, loader: Loader) -> dict[str, Any]:
    """Everything that the table says of one model."""
    import keras
    import numpy as np

    from autoslim import ChannelGraph
    from autoslim.errors import AutoslimError

    keras.utils.set_random_seed(0)
    model = MODELS[name]()
    draw(model)
    found: dict[str, Any] = {"parameters": model.count_params()}
    try:
        start = time.perf_counter()
        graph = ChannelGraph(model)
        found["trace_seconds"] = round(time.perf_counter() - start, 2)
        found["uncovered"] = dict(graph.uncovered)
        found["macs"], full = true_macs(model), graph.cost().flops
        rng = np.random.default_rng(0)
        images = [rng.normal(size=(2, *x.shape[1:])).astype("float32") for x in model.inputs]
        inputs = images[0] if len(images) == 1 else images
        widths = graph.full
        for group in graph.slimmable:
            widths[group.index] = rng.integers(1, group.size // group.unit + 1) * group.unit
        small, smallest = graph.materialize(widths), graph.materialize(graph.uniform(0.0), weights=False)
        sliced = graph.run(inputs, widths)
        found["differences"] = {
            "full": difference(graph.run(inputs), model(inputs, training=False)),
            "mask": difference(graph.run(inputs, widths, execution="mask"), sliced),
            "materialised": difference(small(inputs, training=False), sliced),
        }
        true_small, counted = true_macs(small), graph.cost(widths).flops
        found["costs"] = [[full, found["macs"]], [counted, true_small]]
        found["uncounted"] = dict(graph.uncounted)
        found["share"] = 1 - true_macs(smallest) / found["macs"]
        found["loads"] = loader.loads(name, small, inputs)
    except AutoslimError as error:
        found["refused"] = str(error)
    return found


class Loader:
    """A process that has neither autoslim nor a library, and loads the models that it is told of."""

    def __init__(self) -> None:
        command = [sys.executable, __file__, "--loader"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def loads(self, name: str, model: Any, inputs: Any) -> str:
        """Where the saved model loads and computes the same: alone, or with its library."""
        import keras
        import numpy as np

        with tempfile.TemporaryDirectory() as folder:
            try:
                model.save(f"{folder}/model.keras")
            except Exception as error:  # of a layer of the library's that stays whole
                return f"can't be saved: {type(error).__name__}: {str(error).strip()[:80]}".replace("\n", " ")
            np.savez(f"{folder}/inputs.npz", *keras.tree.flatten(inputs))
            np.savez(f"{folder}/outputs.npz", *keras.tree.flatten(model(inputs, training=False)))
            assert self._process.stdin and self._process.stdout
            print(folder, file=self._process.stdin, flush=True)
            for line in self._process.stdout:
                if line.startswith(SAYS):
                    break
            if line == f"{SAYS}yes\n":
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


def serve() -> None:
    """What the loader's process does: for each folder that comes in, whether its model loads."""
    for line in sys.stdin:
        assert "autoslim" not in sys.modules
        print(f"{SAYS}{load(line.strip())}", flush=True)


def tried(name: str, loader: Loader) -> dict[str, Any]:
    """`examine`; what it raised, where it did."""
    import keras

    keras.backend.clear_session()
    try:
        return examine(name, loader)
    except Exception as error:
        text = str(error).strip() or type(error).__name__
        where = traceback.format_exc().splitlines()[-12:]
        return {"raised": f"{type(error).__name__}: {text.splitlines()[0][:300]}", "where": where}


def is_exact(found: dict[str, Any]) -> bool:
    return "differences" in found and max(found["differences"].values()) <= TOLERANCE


def cost_is(found: dict[str, Any]) -> str:
    """Whether the costs are right: "yes", "NO", or "not known" where autoslim says so itself."""
    if any(counted is None for counted, _ in found["costs"]):
        return "not known"
    return "yes" if found["uncounted"] or all(a == b for a, b in found["costs"]) else "NO"


def summary(results: dict[str, dict[str, Any]]) -> str:
    """The figures over all models."""
    shares = sorted(found["share"] for found in results.values() if "share" in found)
    lines: dict[str, int | str] = {
        "models": f"{len(results)} run so far, of {len(MODELS)} in the list",
        "exact": sum(map(is_exact, results.values())),
        "costs right": sum(cost_is(found) == "yes" for found in results.values() if "costs" in found),
        "costs wrong": sum(cost_is(found) == "NO" for found in results.values() if "costs" in found),
        "refused with a message": sum("refused" in found for found in results.values()),
        "stopped with another exception": sum("raised" in found for found in results.values()),
        "load alone": sum(found.get("loads") == "alone" for found in results.values()),
        "median share that can be slimmed": f"{shares[len(shares) // 2]:.4f}" if shares else "-",
        "share below 0.5": sum(share < 0.5 for share in shares),
    }
    return "\n".join(f"- {name}: {value}" for name, value in lines.items())


def row(name: str, found: dict[str, Any]) -> str:
    """The line of the table for one model."""
    if "share" not in found:
        said = found.get("raised") or found.get("refused") or "-"
        return f"| {name} | - | - | - | - | - | {said.replace('|', '/')} |"
    kinds = sorted({reason.replace("|", "/") for reason in found["uncovered"].values()})
    more = f"; and {len(kinds) - 3} more kinds" if len(kinds) > 3 else ""
    return (
        f"| {name} | {found['macs'] / 1e6:,.1f} | {100 * found['share']:.2f} % "
        f"| {cost_is(found)} | {'yes' if is_exact(found) else 'NO'} | {found['loads']} "
        f"| {'; '.join(kinds[:3]) or 'none'}{more} |"
    )


def write(results: dict[str, dict[str, Any]], path: Path) -> None:
    """The results and, beside them, the table."""
    import keras
    import tensorflow as tf

    ordered = {name: results[name] for name in MODELS if name in results}
    path.write_text(json.dumps(ordered, indent=1) + "\n")
    versions = f" with Keras {keras.__version__} and TensorFlow {tf.__version__}"
    head = HEAD.format(versions=versions, tolerance=TOLERANCE, summary=summary(ordered))
    rows = [row(name, found) for name, found in ordered.items()]
    path.with_suffix(".md").write_text(head + "\n".join(rows) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("begins", nargs="*", help="beginnings of names; default: all")
    parser.add_argument("--again", action="store_true", help="also those that have a result")
    parser.add_argument("--results", type=Path, default=RESULTS, help=f"default: {RESULTS}")
    parser.add_argument("--loader", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.loader:
        return serve()
    path = given.results
    results = json.loads(path.read_text()) if path.exists() else {}
    loader = Loader()
    for name in MODELS:
        if given.begins and not name.startswith(tuple(given.begins)):
            continue
        if given.again or name not in results:
            results[name] = {"raised": "the process died"}  # what stands if it does: it goes on after it
            write(results, path)
            results[name] = tried(name, loader)
            print(row(name, results[name]), flush=True)
            write(results, path)
    print(summary(results))


if __name__ == "__main__":
    main()
