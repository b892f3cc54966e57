"""AutoSlim against uniform slimming and other methods on photographs, cell by cell, over seeds.

    python scripts/evidence.py --cells a b --seeds 0 1 --tiny50 /data/tiny50 --cifar10 /data/cifar10
    python scripts/evidence.py --show --add other.json --page docs/evidence.md

The cells, and the recipe that all of them share, stand in scripts/evidence_cells.py. For each seed a baseline
and a supernet are trained, every method chooses channels from the same supernet under the same budget, and
what it finds is retrained by the same recipe, as is the uniform network; top-1 is of the last epoch, on all
test images. Stages lie in --output and are reused, so what was stopped goes on; figures go to a JSON file,
one network a record.

The primary outcome is the top-1 of `slimming=predictor` less that of uniform slimming, seed by seed.
Over all cells a seed counts once, by its mean over the cells (a t-test on seeds); cells are judged by Holm.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import evidence_table as tables
import keras
import yaml
from benchmark_common import Records, introduce, run
from evidence_cells import CELLS, COMMON, METHODS, SOURCES
from evidence_figures import agreement, write_figures

from autoslim.config import compose
from autoslim.errors import AutoslimError
from autoslim.exporting import NetworkClock
from autoslim.graph import ChannelGraph
from autoslim.kinds import KINDS, kind_of
from autoslim.rounds import median
from autoslim.stages import Outcome, run_stages
from autoslim.stages.experiment import Experiment

PIPELINE = "[baseline,supernet,search,retrain,uniform,report]"
ROUNDS = 5  # of timing, at least
RIVAL = "[baseline,supernet,search,retrain]"
FIGURES = ("loss", "flops", "params", "memory", "target")


def settings(cell: str, seed: int, method: str, options: argparse.Namespace) -> dict[str, Any]:
    """Keys of the configuration for one run of a cell."""
    chosen = CELLS[cell]
    path = getattr(options, chosen.images)
    if path is None:
        raise AutoslimError(f"Cell {cell} needs images: give --{chosen.images} FOLDER.")
    return {
        **SOURCES[chosen.images],
        "dataset.path": path,
        **COMMON,
        **chosen.settings,
        "slimming": method,
        "seed": seed,
        "stages": PIPELINE if method == chosen.methods[0] else RIVAL,  # what was done before is reused
        "output": options.output,  # cells of one network and images share baselines, and supernets
        **dict(pair.split("=", 1) for pair in options.set),
    }


def measure(cell: str, seed: int, method: str, options: argparse.Namespace, records: Records) -> None:
    """Run one method with one seed, and keep the figures of the networks that it gives."""
    config = compose(settings(cell, seed, method, options))
    outcome, init = run_stages(config), Experiment(config).retrain.first
    paths = [Path(row["folder"]) / "model.keras" for row in outcome.rows]
    models = [keras.saving.load_model(path, compile=False) for path in paths]
    for row, model, latency in zip(outcome.rows, models, _latencies(outcome.rows, models), strict=True):
        figures = {"top1": row["metric"], **{name: row[name] for name in FIGURES}}
        figures |= {
            "bill": bill(outcome, row, init),
            "latency": latency,
            "channels": _channels(row, model),
        }
        key = tables.key(cell, seed, row["network"])
        if key not in records.records:
            records.put(key, figures)


def _channels(row: dict[str, Any], model: keras.Model) -> dict[str, int]:
    """{group name: channels} of a network that was found, or of the baseline."""
    if row["network"] == "baseline":
        graph = ChannelGraph(model)
        return graph.channels(graph.full)
    return yaml.safe_load((Path(row["folder"]) / "channels.yaml").read_text())


def _latencies(rows: Sequence[dict[str, Any]], models: Sequence[keras.Model]) -> list[float]:
    """Measured latency of each network as a share of the baseline's, all timed in the same rounds."""
    times = [median(rounds) for rounds in NetworkClock()(models, rounds=ROUNDS)]
    whole = next(time for time, row in zip(times, rows, strict=True) if row["network"] == "baseline")
    return [time / whole for time in times]


def bill(outcome: Outcome, row: dict[str, Any], init: str) -> float:
    """What finding and training a network took, in baseline trainings; init: `retrain.init`."""
    spent = {row["folder"]}
    if row["network"] != "baseline":
        method = KINDS[row["network"]].method
        stages = {init} - {"scratch"}
        if row["network"] != "uniform":
            stages |= {"supernet", "search"} | ({"baseline"} if method and method.importance else set())
        spent |= {outcome.folders[stage] for stage in stages}
    return sum(json.loads((Path(one) / "result.json").read_text()).get("bill", 0.0) for one in spent)


def parse(command: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--cells", nargs="+", choices=CELLS, default=list(CELLS))
    add("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    add("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    for name in SOURCES:
        add(f"--{name}", help=f"folder with the images of {name}")
    add("--output", type=Path, default=Path("outputs/evidence"), help="folder of the stages")
    add("--results", type=Path, default=Path("docs/evidence.json"), help="JSON file of the figures")
    add("--add", type=Path, nargs="*", default=[], help="other such files, whose figures are taken over")
    add("--set", nargs="*", default=[], metavar="KEY=VALUE", help="other keys, to try the suite out")
    add("--show", action="store_true", help="measure nothing; print what there is")
    add("--page", type=Path, help="Markdown file to write the figures to, such as docs/evidence.md")
    return parser.parse_args(command)


def main(command: Sequence[str] | None = None) -> None:
    options = parse(command)
    introduce()
    records = Records(options.results, {"common": COMMON, "images": SOURCES, "set": sorted(options.set)})
    for path in options.add:
        records.add(path)
    for cell in () if options.show else options.cells:
        for seed in options.seeds:
            for method in (m for m in CELLS[cell].methods if m in options.methods):
                if tables.key(cell, seed, kind_of(method)) not in records.records:
                    measure(cell, seed, method, options, records)
    hardware = "; ".join(sorted({record["environment"] for record in records.records.values()}))
    text = tables.page(records.records, list(KINDS), hardware, agreement)
    print(f"\n{text}")
    if options.page:
        files = write_figures(records.records, options.page.parent / "images")
        shown = [f"![{name}]({path.relative_to(options.page.parent)})" for name, path in files]
        options.page.write_text("\n\n".join([text.rstrip(), *shown]) + "\n")


if __name__ == "__main__":
    run(main)
