"""AutoSlim and Torch-Pruning on the same trained networks, under the same budgets, over seeds.

    python scripts/benchmark_torch_pruning.py --torch-python /somewhere/bin/python --cifar10 /data/cifar10 \\
        --cells vgg mobile --seeds 0 1 2
    python scripts/benchmark_torch_pruning.py --show --page docs/torch_pruning.md

The interpreter --torch-python has PyTorch and torch-pruning, and nothing of this project; what it runs is
scripts/torch_pruning_side.py, whose first lines say how Torch-Pruning is used. The cells stand in
scripts/torch_pruning_cells.py. For each cell and seed:

1. autoslim's stage `baseline` trains the full network.
2. Its weights and the images go to PyTorch. It is refused there unless its logits are the same, and its FLOPs
   and parameters too.
3. Torch-Pruning's pruners bring it below the budget, and it is fine-tuned by the recipe that autoslim has for
   networks with trained weights: epochs, batch, rates, weight decay, augmentation.
4. autoslim's own methods begin with the same file of the same network. In the cells `a` and `c` their figures
   are those of the evidence suite (--evidence), whose supernet begins with fresh weights.

All are tested on the same images after the last epoch. Stages lie in --output and are reused, and each
network is a record in a JSON file, so what was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import evidence
import torch_pruning_table as tables
from benchmark_common import Records, introduce, run
from benchmark_training_sides import Torch, TorchError, torch_process
from evidence_cells import SOURCES
from torch_pruning_cells import CELLS, COMMON, LONGER, METHODS, TORCH
from torch_pruning_handover import hand_over

from autoslim.config import compose
from autoslim.errors import AutoslimError
from autoslim.kinds import kind_of
from autoslim.stages import run_stages
from autoslim.stages.experiment import Experiment
from autoslim.stages.store import MODEL

SIDE = "torch_pruning_side.py"
SAME_LOGITS = 1e-4  # by which PyTorch's may differ, of the largest one where that is above 1
SAME_TOP1 = 2e-3
FIGURES = ("loss", "flops", "params")

Options = argparse.Namespace


def settings(cell: str, seed: int, options: Options) -> dict[str, Any]:
    """Keys of the configuration under which a cell's baseline is trained."""
    chosen = CELLS[cell]
    if chosen.evidence:
        there = argparse.Namespace(**{**vars(options), "output": options.evidence_output})
        own = evidence.settings(cell, seed, "greedy", there)
    else:
        path = getattr(options, chosen.images)
        if path is None:
            raise AutoslimError(f"Cell {cell} needs images: give --{chosen.images} FOLDER.")
        own = {
            **SOURCES[chosen.images],
            "dataset.path": path,
            **COMMON,
            **chosen.settings,
            "seed": seed,
            "output": options.output / cell,
            **dict(pair.split("=", 1) for pair in options.set),
        }
    return {**own, "stages": "[baseline]"}


def method_settings(cell: str, seed: int, method: str, baseline: Path, options: Options) -> dict[str, Any]:
    """The same for a method of autoslim's that begins with the baseline's file."""
    own = {name: value for name, value in settings(cell, seed, options).items() if "arch" not in name}
    slimming = method.removesuffix(LONGER)
    if slimming != method:
        own["retrain.epochs"] = 2 * int(own["retrain.epochs"])
    return {
        **own,
        "arch": "keras_file",
        "arch.path": baseline,
        "arch.name": cell,
        "slimming": slimming,
        "slim.resource": CELLS[cell].resource,
        "slim.target": list(CELLS[cell].targets),
        "stages": f"[supernet,search,retrain{',uniform' if slimming == 'magnitude' else ''}]",
    }


def recipe_of(experiment: Experiment) -> dict[str, Any]:
    """How autoslim fine-tunes a network whose weights are trained, as `torch_pruning_side.train` takes it."""
    config, how = experiment.config, experiment.retrain
    o, d = config.optimizer, config.dataset
    plain = (o.name, how.schedule, how.label_smoothing, o.clipnorm, o.ema) == (
        "sgd",
        "cosine",
        0.0,
        None,
        None,
    )
    if not (plain and d.crop == "none" and how.teacher == "none"):
        raise AutoslimError(
            "PyTorch's side trains by SGD, a cosine, shifts and flips alone: leave optimizer, "
            "retrain.schedule, retrain.label_smoothing, retrain.teacher and dataset.crop as they are."
        )
    return {
        "epochs": how.epochs,
        "rate": how.learning_rate,
        "warmup_epochs": how.warmup_epochs,
        "batch": config.train.batch_size,
        "momentum": o.momentum,
        "nesterov": o.nesterov,
        "weight_decay": o.weight_decay,
        "pad": d.pad,
        "flip": d.flip,
    }


def train_baseline(cell: str, seed: int, options: Options, records: Records) -> Path:
    """The folder of a cell's trained full network, trained now where it is not there; keeps its figures."""
    outcome = run_stages(compose(settings(cell, seed, options)))
    (row,) = outcome.rows
    folder = Path(row["folder"])
    epochs = len(json.loads((folder / "result.json").read_text())["history"])
    figures = {"top1": row["metric"], **{name: row[name] for name in FIGURES}, "epochs": epochs}
    records.get(tables.key(cell, 1.0, seed, "baseline"), lambda: figures)
    return folder


def run_method(cell: str, seed: int, method: str, baseline: Path, options: Options, records: Records) -> None:
    """Run one of autoslim's methods on a baseline, and keep the figures of its networks."""
    start = time.monotonic()
    outcome = run_stages(compose(method_settings(cell, seed, method, baseline / MODEL, options)))
    rows = [row for row in outcome.rows if row["target"] is not None]
    seconds = (time.monotonic() - start) / len(rows)
    before = _epochs(Path(outcome.folders["supernet"]))
    for row in rows:
        figures = {"top1": row["metric"], **{name: row[name] for name in FIGURES}}
        spent = {"epochs": before + _epochs(Path(row["folder"])), "seconds": seconds}
        network = row["network"] + (LONGER if method.endswith(LONGER) else "")
        records.put(tables.key(cell, row["target"], seed, network), {**figures, **spent})


def network_of(method: str) -> str:
    """Under which name the networks of one of `METHODS` stand.

    >>> network_of("greedy"), network_of("taylor-longer")
    ('autoslim', 'taylor-longer')
    """
    slimming = method.removesuffix(LONGER)
    return kind_of(slimming) + method.removeprefix(slimming)


def _epochs(folder: Path) -> int:
    """Epochs that a stage trained."""
    return len(json.loads((folder / "result.json").read_text())["history"])


def prune_in_torch(
    cell: str,
    seed: int,
    baseline: Path,
    wanted: Sequence[tuple[float, str]],
    options: Options,
    records: Records,
) -> None:
    """Have Torch-Pruning make the networks that are wanted, (target, name) each, and keep their figures.

    Raises:
        AutoslimError: if PyTorch's network is not the baseline.
    """
    import keras

    recipe, experiment = recipe_for(cell, seed, baseline, options)
    model = keras.saving.load_model(baseline / MODEL, compile=False)
    with (
        tempfile.TemporaryDirectory(dir=options.output) as folder,
        torch_process(options.torch_python, options.limit, SIDE) as torch,
    ):
        network = hand_over(Path(folder), model, experiment.images)
        full = records.records[tables.key(cell, 1.0, seed, "baseline")]
        found = torch.ask({"open": folder, "network": network})
        refuse_another(cell, full, found)
        print(f"{cell}, seed {seed}: logits differ by {found['difference']:.1e}", flush=True)
        for target, name in wanted:
            pruner, scope = name.removeprefix("tp-").rsplit("-", 1)
            resource = CELLS[cell].resource
            request = {
                "pruner": pruner,
                "everywhere": scope == "global",
                "resource": resource,
                "limit": int(target * full[resource]),
                "recipe": recipe,
                "seed": seed,
            }
            figures = ask(torch, cell, name, request)
            records.put(tables.key(cell, target, seed, name), {**figures, "torch": torch.version})
            reached = figures.get("failed") or f"top-1 {figures['top1']:.4f}"
            print(f"{cell}, seed {seed}, {target:g}, {name}: {reached}", flush=True)


def ask(torch: Torch, cell: str, name: str, request: dict[str, Any]) -> dict[str, Any]:
    """A pruned network's figures, or {"failed": reason} where the pruner can't meet the budget.

    Raises:
        AutoslimError: if the network is above the budget.
    """
    figures = torch.ask(request)
    if "failed" not in figures and figures[request["resource"]] > request["limit"]:
        raise AutoslimError(
            f"{cell}, {name}: {figures[request['resource']]:,} {request['resource']} are above the budget of "
            f"{request['limit']:,}. This is a fault of {SIDE}."
        )
    return figures


def recipe_for(cell: str, seed: int, baseline: Path, options: Options) -> tuple[dict[str, Any], Experiment]:
    """The recipe of fine-tuning in a cell, and the run that has its images."""
    if CELLS[cell].evidence:  # as its pruning method `taylor` has it
        keys = {**settings(cell, seed, options), "slimming": "taylor", "stages": "[retrain]"}
    else:
        keys = method_settings(cell, seed, "taylor", baseline / MODEL, options)
    experiment = Experiment(compose(keys))
    return recipe_of(experiment), experiment


def refuse_another(cell: str, full: dict[str, Any], found: dict[str, Any]) -> None:
    """Refuse PyTorch's network where it is not the one that Keras trained."""
    if found["difference"] > SAME_LOGITS:
        raise AutoslimError(
            f"Cell {cell}: PyTorch's logits differ from Keras's by {found['difference']:.1e}, allowed is "
            f"{SAME_LOGITS:g}. A layer is translated wrongly in torch_pruning_handover.py."
        )
    for name, slack in (("flops", 0), ("params", 0), ("top1", SAME_TOP1)):
        if abs(found[name] - full[name]) > slack:
            raise AutoslimError(
                f"Cell {cell}: PyTorch counts {name}={found[name]} and autoslim {full[name]} for the same "
                f"network. Remove the records of this cell if its baseline has changed."
            )


def measure(cell: str, seed: int, options: Options, records: Records) -> None:
    """Make the networks of one cell and seed that have no figures yet."""
    chosen = CELLS[cell]
    lacks = lambda target, name: tables.key(cell, target, seed, name) not in records.records  # noqa: E731
    methods = [] if chosen.evidence else [m for m in METHODS if m in options.methods]
    methods = [m for m in methods if any(lacks(target, network_of(m)) for target in chosen.targets)]
    names = [name for name in TORCH if name in options.torch]
    wanted = [(target, name) for name in names for target in chosen.targets if lacks(target, name)]
    if not methods and not wanted:
        return
    baseline = train_baseline(cell, seed, options, records)
    if wanted:
        if options.torch_python is None:
            raise AutoslimError("Torch-Pruning needs an interpreter that has it: give --torch-python PYTHON.")
        try:
            prune_in_torch(cell, seed, baseline, wanted, options, records)
        except TorchError as error:
            raise AutoslimError(f"Cell {cell}, seed {seed}: PyTorch's side says: {error}") from error
    for method in methods:
        run_method(cell, seed, method, baseline, options, records)


def parse(command: Sequence[str] | None = None) -> Options:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--cells", nargs="+", choices=CELLS, default=list(CELLS))
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--methods", nargs="*", choices=METHODS, default=list(METHODS), help="autoslim's, in its own cells")
    add("--torch", nargs="*", choices=TORCH, default=list(TORCH), help="networks of Torch-Pruning")
    add("--torch-python", metavar="PYTHON", help="an interpreter that has PyTorch and torch-pruning")
    add("--limit", type=float, default=86400.0, help="seconds for an answer of PyTorch's")
    for name in SOURCES:
        add(f"--{name}", help=f"folder with the images of {name}")
    add("--output", type=Path, default=Path("outputs/torch_pruning"), help="folder of the stages")
    add("--evidence-output", type=Path, default=Path("outputs/evidence"), help="that of the evidence suite")
    add("--evidence", type=Path, default=Path("docs/evidence.json"), help="figures of the evidence suite")
    add("--results", type=Path, default=Path("docs/torch_pruning.json"), help="JSON file of the figures")
    add("--set", nargs="*", default=[], metavar="KEY=VALUE", help="other keys, to try it out")
    add("--show", action="store_true", help="measure nothing; print what there is")
    add("--page", type=Path, help="Markdown file to write the figures to, such as docs/torch_pruning.md")
    return parser.parse_args(command)


def main(command: Sequence[str] | None = None) -> None:
    options = parse(command)
    introduce()
    records = Records(options.results, {"common": COMMON, "images": SOURCES, "set": sorted(options.set)})
    options.output.mkdir(parents=True, exist_ok=True)
    for seed in () if options.show else options.seeds:
        for cell in options.cells:
            measure(cell, seed, options, records)
    text = tables.page({**tables.of_evidence(options.evidence), **records.records})
    print(f"\n{text}")
    if options.page:
        options.page.write_text(text)


if __name__ == "__main__":
    run(main)
