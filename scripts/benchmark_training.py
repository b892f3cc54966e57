"""What training costs compared with its alternatives, everything with its rival in one run, as ratios.

    python scripts/benchmark_training.py                                   # all parts but PyTorch
    python scripts/benchmark_training.py --parts fit sandwich --arch resnet56 --rounds 9
    python scripts/benchmark_training.py --parts torch --torch-python /somewhere/bin/python [--compile]

Parts:

- fit: autoslim's loop against Keras's `fit` and `train_on_batch`, same network, batch, optimizer and steps.
- sandwich: the sandwich step against a plain Keras step, and against its floor, the sum of the arms' FLOPs.
- memory: peak memory of these two, each in a process of its own: what is resident above what the process held
  with the network and a batch in place; optimizer slots, gradients and the memory of tracing count.
- input: the input pipeline alone against the training step that it feeds, a batch each: digits and 28x28 grey
  images on resnet20, 224x224 crops of JPEG files on mobilenet_v2.
- scaling: seconds of a plain and a sandwich step with batch, width and depth.
- torch: our plain and sandwich steps against PyTorch's on the same networks and the same arms, NCHW and
  channels-last, eager and, with --compile, compiled. PyTorch runs in a process of its own, with the
  interpreter --torch-python; without it this part is left out.

Sides are timed in turn, in rounds; a ratio is the median over the rounds. Figures go to a JSON file, and what
stands in it is not measured again without --again.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import benchmark_training_sides as sides
from benchmark_common import Bar, Records, introduce, run, show_bars, show_table
from benchmark_training_input import CASES, input_sides
from benchmark_training_sides import NETWORKS, fastest, interleaved, ratio

from autoslim import ChannelGraph, archs
from autoslim.reporting.terminal import where

WIDE = "wresnet40_4"  # the network that the bar of the sandwich step is for
FIT, FLOOR, INPUT, TORCH_PLAIN, TORCH_SANDWICH = 1.0, 1.15, 0.5, 1.0, 0.95

# what varies -> (resnet depth, width, batch) of each row
SCALING = {
    "batch": [(20, 16, batch) for batch in (16, 32, 64, 128)],
    "width": [(20, width, 64) for width in (8, 16, 32, 64)],
    "depth": [(depth, 16, 64) for depth in (8, 20, 32, 56)],
}

Options = argparse.Namespace


def batch_of(name: str, options: Options) -> int:
    return options.batch or NETWORKS[name].batch


def measure_fit(options: Options, records: Records) -> list[Bar]:
    """autoslim's loop against Keras's."""
    rows, bars = [], []
    for name in options.arch:
        batch = batch_of(name, options)

        def measure(name: str = name, batch: int = batch) -> dict[str, Any]:
            every = sides.loop_sides(NETWORKS[name], batch, options.steps)
            return {"seconds": interleaved(every, options.rounds)}

        seconds = records.get(f"fit, {name}, batch {batch}", measure, options.again)["seconds"]
        own = seconds["autoslim"]
        ratios = [ratio(own, seconds[other]) for other in ("fit", "train_on_batch")]
        rows.append((name, str(batch), *_medians(seconds), *(f"{value:.3f}" for value in ratios)))
        bars.append(Bar(f"{name}: training step / Keras fit", ratios[0], FIT))
    titles = ("network", "batch", "autoslim s", "fit s", "train_on_batch s", "/ fit", "/ train_on_batch")
    show_table(titles, rows, "Seconds a step, loop and input included.")
    return bars


def measure_sandwich(options: Options, records: Records) -> list[Bar]:
    """The sandwich step against a plain Keras step and the floor."""
    rows, bars = [], []
    for name in options.arch:
        batch = batch_of(name, options)

        def measure(name: str = name, batch: int = batch) -> dict[str, Any]:
            graph, data = ChannelGraph(NETWORKS[name].build()), sides.one_batch(batch)
            both = {
                "plain": sides.repeated(sides.keras_step(graph.model, *data), options.steps),
                "sandwich": sides.repeated(sides.sandwich_step(graph, *data, options.arms), options.steps),
            }
            return {
                "seconds": interleaved(both, options.rounds),
                "floor": sides.arms_floor(graph, options.arms, options.steps * options.rounds),
            }

        found = records.get(f"sandwich, {name}, batch {batch}", measure, options.again)
        seconds, least = found["seconds"], found["floor"]
        times = ratio(seconds["sandwich"], seconds["plain"])
        figures = (f"{value:.3f}" for value in (times, least, times / least))
        rows.append((name, str(batch), *_medians(seconds), *figures))
        if name == WIDE:
            bars.append(Bar(f"{name}: sandwich step / floor", times / least, FLOOR))
    titles = ("network", "batch", "plain s", "sandwich s", "sandwich / plain", "floor", "/ floor")
    show_table(titles, rows, f"{options.arms} arms; plain: a step of Keras's own.")
    return bars


def measure_memory(options: Options, records: Records) -> list[Bar]:
    """Peak memory of a plain Keras step and of a sandwich step."""
    rows = []
    for name in options.arch:
        batch = batch_of(name, options)

        def measure(name: str = name, batch: int = batch) -> dict[str, Any]:
            return {which: _memory_of(name, which, batch, options) for which in ("plain", "sandwich")}

        found = records.get(f"memory, {name}, batch {batch}", measure, options.again)
        plain, sandwich = found["plain"], found["sandwich"]
        rows.append((name, str(batch), f"{plain:.0f}", f"{sandwich:.0f}", f"{sandwich / plain:.2f}"))
    show_table(("network", "batch", "plain MB", "sandwich MB", "sandwich / plain"), rows)
    return []


def _memory_of(name: str, which: str, batch: int, options: Options) -> float:
    command = [sys.executable, __file__, "--memory-of", which, "--arch", name, "--batch", str(batch)]
    command += ["--steps", str(options.steps), "--arms", str(options.arms)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout.split()[-1])


def print_memory(options: Options) -> None:
    """Print the peak resident MB above the base over some steps; in a process of its own."""
    (name,) = options.arch
    graph, data = ChannelGraph(NETWORKS[name].build()), sides.one_batch(batch_of(name, options))
    base = _resident("VmRSS")
    if options.memory_of == "plain":
        step = sides.keras_step(graph.model, *data)
    else:
        step = sides.sandwich_step(graph, *data, options.arms)
    for number in range(options.steps):
        step(number)
    print(_resident("VmHWM") - base)


def _resident(field: str) -> float:
    """This process's resident memory in MB: VmRSS now, VmHWM at its peak (Linux)."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(field))


def measure_input(options: Options, records: Records) -> list[Bar]:
    """The input pipeline alone against the training step."""
    rows, bars = [], []
    for name in options.cases:

        def measure(name: str = name) -> dict[str, Any]:
            with tempfile.TemporaryDirectory() as folder:
                both, batch = input_sides(name, Path(folder), options.steps)
                return {"batch": batch, "seconds": interleaved(both, options.rounds)}

        found = records.get(f"input, {name}", measure, options.again)
        seconds, batch = found["seconds"], found["batch"]
        share = ratio(seconds["input"], seconds["step"])
        rates = (f"{batch / statistics.median(seconds[side]):,.0f}" for side in ("input", "step"))
        rows.append((name, str(batch), *_medians(seconds), *rates, f"{share:.3f}"))
        bars.append(Bar(f"{name}: input pipeline / training step", share, INPUT))
    titles = ("images", "batch", "input s", "step s", "input images/s", "step images/s", "input / step")
    show_table(titles, rows, "Seconds a batch, each with the whole machine to itself.")
    return bars


def measure_scaling(options: Options, records: Records) -> list[Bar]:
    """Seconds of a step with batch, width and depth."""
    rows = []
    for what in options.scaling:
        for depth, width, batch in SCALING[what]:

            def measure(depth: int = depth, width: int = width, batch: int = batch) -> dict[str, Any]:
                return _scaling(depth, width, batch, options)

            name = f"resnet{depth}, width {width}, batch {batch}"
            found = records.get(f"scaling, {name}", measure, options.again)
            plain, sandwich = (statistics.median(found["seconds"][side]) for side in ("plain", "sandwich"))
            macs = 3 * found["macs"] * batch  # a backward pass costs twice a forward one
            rows.append(
                (
                    what,
                    str(depth),
                    str(width),
                    str(batch),
                    f"{found['macs'] / 1e6:.1f}",
                    f"{plain:.4f}",
                    f"{macs / plain / 1e9:.1f}",
                    f"{sandwich:.4f}",
                    f"{macs * found['floor'] / sandwich / 1e9:.1f}",
                )
            )
    titles = ("resnet with", "depth", "width", "batch", "MMACs", "plain s", "GMAC/s", "sandwich s", "GMAC/s")
    show_table(titles, rows, "autoslim's steps; GMAC/s: multiply-accumulates forward and backward.")
    return []


def _scaling(depth: int, width: int, batch: int, options: Options) -> dict[str, Any]:
    graph = ChannelGraph(archs.resnet(sides.SHAPE, sides.CLASSES, depth=depth, width=width))
    data = sides.one_batch(batch)
    both = {
        "plain": sides.repeated(sides.plain_step(graph, *data), options.steps),
        "sandwich": sides.repeated(sides.sandwich_step(graph, *data, options.arms), options.steps),
    }
    return {
        "macs": graph.cost().flops,
        "floor": sides.arms_floor(graph, options.arms, options.steps * options.rounds),
        "seconds": interleaved(both, options.rounds),
    }


def measure_torch(options: Options, records: Records) -> list[Bar]:
    """Our steps against PyTorch's."""
    if options.torch_python is None:
        print("\ntorch: left out; name an interpreter that has PyTorch with --torch-python.")
        return []
    rows, bars = [], []
    for name in options.arch:
        batch = batch_of(name, options)

        def measure(name: str = name, batch: int = batch) -> dict[str, Any]:
            return _beside_torch(name, batch, options)

        how = ", compiled too" if options.compile else ""
        found = records.get(f"torch, {name}, batch {batch}{how}", measure, options.again)
        seconds = found["seconds"]
        for kind, limit in (("plain", TORCH_PLAIN), ("sandwich", TORCH_SANDWICH)):
            own = f"autoslim {kind}"
            rivals = [side for side in seconds if side.endswith(kind) and side != own]
            best = fastest(seconds, rivals)
            figure = None if best is None else ratio(seconds[own], seconds[best])
            bars.append(Bar(f"{name}: {kind} step / {best or 'PyTorch'}", figure, limit))
            for side in (own, *rivals):
                value = f"{ratio(seconds[own], seconds[side]):.3f}"
                rows.append((name, str(batch), side, f"{statistics.median(seconds[side]):.4f}", value))
        for side, reason in found["failed"].items():
            rows.append((name, str(batch), side, reason, "-"))
        caption = f"PyTorch {found['version']}, seconds a step."
    show_table(("network", "batch", "side", "s", "autoslim / it"), rows, caption)
    return bars


def _beside_torch(name: str, batch: int, options: Options) -> dict[str, Any]:
    network = NETWORKS[name]
    graph, data = ChannelGraph(network.build()), sides.one_batch(batch)
    every = {
        "autoslim plain": sides.repeated(sides.plain_step(graph, *data), options.steps),
        "autoslim sandwich": sides.repeated(sides.sandwich_step(graph, *data, options.arms), options.steps),
    }
    failed = {}
    with sides.torch_process(options.torch_python, options.limit) as torch:
        for form in (*sides.FORMS, *(sides.COMPILED if options.compile else ())):
            for kind, arms in (("plain", 0), ("sandwich", options.arms)):
                side = f"PyTorch {form} {kind}"
                try:
                    every[side] = sides.torch_side(torch, network, graph, batch, form, arms, options.steps)
                except sides.TorchError as error:
                    failed[side] = str(error)
        seconds = interleaved(every, options.rounds)
        return {"version": torch.version, "failed": failed, "seconds": seconds}


def _medians(seconds: dict[str, Sequence[float]]) -> list[str]:
    return [f"{statistics.median(values):.4f}" for values in seconds.values()]


PARTS: dict[str, Callable[[Options, Records], list[Bar]]] = {
    "fit": measure_fit,
    "sandwich": measure_sandwich,
    "memory": measure_memory,
    "input": measure_input,
    "scaling": measure_scaling,
    "torch": measure_torch,
}


def parse(command: Sequence[str] | None = None) -> Options:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    add("--arch", nargs="+", choices=NETWORKS, default=list(sides.USUAL), metavar="NETWORK")
    add("--batch", type=int, help="images a step; default: 64, 16 and 32")
    add("--rounds", type=int, default=7, help="times that every side is timed")
    add("--steps", type=int, default=5, help="steps of a side in a round")
    add("--arms", type=int, default=4, help="arms of the sandwich step")
    add("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE", help="of part input")
    add("--scaling", nargs="+", choices=SCALING, default=list(SCALING), metavar="WHAT")
    add("--torch-python", metavar="PYTHON", help="an interpreter that has PyTorch")
    add("--compile", action="store_true", help="torch: compiled too, where it works")
    add("--limit", type=float, default=300.0, help="torch: seconds for an answer, compiling included")
    add("--results", type=Path, default=Path("outputs/benchmarks/training.json"), help="JSON file")
    add("--again", action="store_true", help="measure again what the file holds")
    add("--memory-of", choices=("plain", "sandwich"), help=argparse.SUPPRESS)
    return parser.parse_args(command)


def main(command: Sequence[str] | None = None) -> None:
    options = parse(command)
    if options.memory_of:
        print_memory(options)
        return
    introduce()
    records = Records(options.results, {"arms": options.arms})
    bars = [bar for part in options.parts for bar in PARTS[part](options, records)]
    show_bars(bars)
    where({"figures": options.results})


if __name__ == "__main__":
    run(main)
