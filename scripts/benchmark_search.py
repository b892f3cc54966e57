"""What a cheaper search costs and what it loses, compared with the naive one, over seeds.

    python scripts/benchmark_search.py --dataset fashion_mnist --path /usr/share/datasets/fashion-mnist
    python scripts/benchmark_search.py --dataset digits --modes naive exact halving+lazy
    python scripts/benchmark_search.py --arch resnet56 --seeds 0 --epochs 2 --modes naive exact

For each seed a supernet is trained, or taken from the folder that an earlier run of the stage left. Then
every search runs on the same held-out images; what it finds is judged in the supernet, with batch statistics,
on FRESH images: training images that neither the supernet nor any search saw. Of fashion_mnist these lie
beyond the subset that is trained on; of digits they are half of the hold-out.

A mode is naive, exact or halving, then any of +lazy, +per_cost, +top1, +exchange, some with a value:
halving:FIRST, lazy:REFRESH, exchange:MOVES. A rival method is uniform, sensitivity, random, evolution or
predictor; the last three, as in random:SHARE, spend that share of naive's arithmetic, 0.15 unless given.

Arithmetic is in full-network passes over the held-out images; time is the search's own, tracing included, in
the same process as naive's (else none is given). Differences to naive's network are paired image by image; ±
is the standard error from the images (root of the sum of the seeds' squared errors, over the seeds), and
"seeds' error" the one from seed to seed. The figures go to a JSON file: the same command with more modes adds
to them, and with nothing left to measure prints the table and draws the plot again.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import benchmark_search_figures as figures
import numpy as np
from benchmark_common import Records, introduce, run, show_bars, show_table

from autoslim import datasets
from autoslim.config import compose
from autoslim.errors import AutoslimError
from autoslim.reporting.terminal import where
from autoslim.schema import Config
from autoslim.slimming.scorer import Scorer
from autoslim.slimming.search import search
from autoslim.slimming.trajectory import Trajectory
from autoslim.stages.experiment import Experiment
from autoslim.stages.pipeline import run_stages
from autoslim.stages.record import record
from autoslim.stages.weights import load_weights

DEFAULT_MODES = (
    "naive",
    "exact",
    "exact+per_cost",
    "halving",
    "halving+lazy",
    "halving+lazy+per_cost",
    "halving+lazy+exchange",
    *figures.RIVALS,
)
# what is done with a data set where no option says else
USUAL: dict[str, dict[str, Any]] = {
    "fashion_mnist": {"train_images": 12_000, "epochs": 16, "holdout": 0.2, "fresh": 5000, "batch": 128},
    "digits": {"train_images": None, "epochs": 30, "holdout": 0.5, "fresh": None, "batch": 32},
}


@dataclasses.dataclass
class Bench:
    """One seed's supernet, ready to be searched."""

    experiment: Experiment
    graph: Any
    seen: np.ndarray  # indices of the held-out training images that searches see
    fresh: Scorer  # of the images that no search sees

    @classmethod
    def of(cls, config: Config, images: int | None, fresh: int | None) -> Bench:
        """Train the supernet, or take it from its folder."""
        run_stages(config)
        experiment = Experiment(config)
        model = load_weights(experiment.builder.network(), record("supernet").folder(experiment))
        graph = experiment.builder.graph(model)
        seen, batches = divide(experiment, images, fresh)
        return cls(experiment, graph, seen, Scorer(graph, batches))

    def holdout(self) -> Any:
        """The images that searches see, in batches."""
        return self.experiment.data.heldout(self.seen, self.experiment.config.slim.batch_size)

    def search(self, name: str, target: float, naive: float) -> tuple[Trajectory, dict[str, Any]]:
        """Search in one of the ways: the path, and what it cost.

        Args:
            name: of a mode or a rival method.
            target: share of the FLOPs to keep.
            naive: passes of naive search, of which rivals get a share.
        """
        method, options = figures.arguments(name)
        if "passes" in options:
            options |= {"passes": options["passes"] * naive, "seed": self.experiment.config.seed}
        marks: list[tuple[float, float]] = []
        start = time.perf_counter()

        def mark(path: Trajectory) -> None:
            marks.append((time.perf_counter() - start, path.passes))

        path = search(
            self.graph,
            self.experiment.levels,
            self.holdout(),
            method=method,
            target=target,
            on_point=mark,
            **options,
        )
        seconds = time.perf_counter() - start
        return path, {
            "passes": path.passes,
            "seconds": seconds,
            "steady_seconds": figures.steady_seconds(marks),
            "steps": len(path.points) - 1,
            "images": path.images,
        }

    def judge(self, widths: np.ndarray | Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Cross-entropy and correctness of a network on the fresh images, float32 [images] each."""
        losses, correct = self.fresh(np.array([widths], np.int32))
        return losses[0], correct[0]


def divide(experiment: Experiment, images: int | None, fresh: int | None) -> tuple[np.ndarray, Any]:
    """Indices of the held-out images that searches see, and batches of fresh ones.

    Args:
        experiment: whose data.
        images: that searches see; None: all that are held out, or half where fresh ones must be among them.
        fresh: number of fresh ones; None: all others that are held out.
    """
    data, config = experiment.data, experiment.config
    holdout = experiment.images.split[1]
    if config.dataset.train_images is not None:
        seen = _balanced(data.train_labels, holdout, images or len(holdout))
        return seen, _beyond(experiment, fresh or len(seen))
    seen = _balanced(data.train_labels, holdout, images or len(holdout) // 2)
    others = np.setdiff1d(holdout, seen)
    others = _balanced(data.train_labels, others, fresh or len(others))
    return seen, data.heldout(others, config.slim.batch_size)


def _balanced(labels: np.ndarray, index: np.ndarray, count: int) -> np.ndarray:
    return index[datasets.balanced_subset(labels[index], min(count, len(index)), 0)]


def _beyond(experiment: Experiment, count: int) -> Any:
    """Batches of training images outside the subset that `dataset.train_images` leaves."""
    used, c = experiment.data, experiment.config.dataset
    assert c.train_images is not None
    every = datasets.load(c.name, c.path)
    subset = datasets.balanced_subset(every.train_labels, c.train_images, 0, every.train.keys)
    assert isinstance(used, datasets.ArrayDataset)
    if not np.array_equal(every.train_images[subset], used.train_images):
        raise AutoslimError(
            f"The {c.train_images} training images of {c.name} are not the subset expected, so that no image "
            "can be said to be fresh. Leave out --train-images."
        )
    larger = datasets.balanced_subset(every.train_labels, c.train_images + count, 0, every.train.keys)
    index = np.setdiff1d(larger, subset)
    size = -(-len(index) // -(-len(index) // experiment.config.slim.batch_size))
    return datasets.evaluation_batches(
        every.train, every.train_labels, size, used.mean, used.std, index=index
    )


def measure_seed(seed: int, options: argparse.Namespace, records: Records) -> None:
    """Run with one seed what has no record yet."""
    missing = [n for n in options.modes if options.again or figures.key(n, seed) not in records.records]
    if not missing:
        return
    bench = Bench.of(configuration(options, seed), options.images, options.fresh)
    losses, correct = bench.judge(bench.experiment.levels.largest)  # also the process's warm-up
    print(f"seed {seed}: full network's fresh loss {losses.mean():.4f}, top-1 {correct.mean():.4f}")
    naive = records.records.get(figures.key("naive", seed))
    if naive is None and "naive" not in options.modes:
        raise AutoslimError(f"{options.results} holds no naive search of seed {seed}. Add naive to --modes.")
    for name in sorted(missing, key=lambda name: name != "naive"):
        path, cost = bench.search(name, options.target, naive["passes"] if naive else 0.0)
        point = path.at(options.target)
        scores = bench.judge(point.widths)
        reference = scores if naive is None else bench.judge(naive["widths"])
        found = {
            **cost,
            "share": point.share,
            "widths": list(point.widths),
            "fresh_loss": float(scores[0].mean()),
            "fresh_top1": float(scores[1].mean()),
            "loss": dataclasses.astuple(figures.paired(scores[0], reference[0])),
            "top1": dataclasses.astuple(figures.paired(scores[1], reference[1])),
        }
        records.put(figures.key(name, seed), found)
        naive = naive or records.records[figures.key("naive", seed)]
        print(
            f"seed {seed}, {name}: {cost['passes']:.1f} passes, {cost['seconds']:.1f} s, fresh loss "
            f"{found['loss'][0]:+.5f} ± {found['loss'][1]:.5f}",
            flush=True,
        )


def configuration(options: argparse.Namespace, seed: int) -> Config:
    """The supernet's configuration, as the command line would make it."""
    overrides = [
        f"arch={options.arch}",
        f"dataset={options.dataset}",
        f"dataset.path={options.path or 'null'}",
        f"dataset.train_images={options.train_images or 'null'}",
        f"dataset.holdout={options.holdout}",
        f"supernet.epochs={options.epochs}",
        f"slim.batch_size={options.batch}",
        f"seed={seed}",
        f"output={options.output}",
        "stages=[supernet]",
    ]
    return compose([*overrides, *options.override])


def parse(command: Sequence[str] | None = None) -> argparse.Namespace:
    """The options, with the data set's usual values where none are given."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--dataset", choices=USUAL, default="digits")
    add("--path", help="folder with the data set's files")
    add("--arch", default="resnet20")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--target", type=float, default=0.5, help="share of the FLOPs to keep")
    add("--modes", nargs="+", default=list(DEFAULT_MODES), metavar="MODE", help="default: all below")
    add("--train-images", type=int, help="training images; default: 12,000 of fashion_mnist, all digits")
    add("--holdout", type=float, help="share of them held out; default: 0.2, digits 0.5")
    add("--epochs", type=int, help="of the supernet; default: 16, digits 30")
    add("--images", type=int, help="held-out images that searches see; default: all, digits half")
    add("--batch", type=int, help="held-out images a batch; default: 128, digits 32")
    add("--fresh", type=int, help="fresh images; default: 5,000, digits the other half")
    add("--override", nargs="+", default=[], metavar="KEY=VALUE", help="such as slim.levels=12")
    add("--output", default="outputs", help="folder of the stages and of the figures")
    add("--results", type=Path, help="JSON file; default: OUTPUT/benchmarks/search-ARCH-DATASET.json")
    add("--again", action="store_true", help="measure again what the file holds")
    parser.epilog = "modes: " + " ".join(DEFAULT_MODES)
    options = parser.parse_args(command)
    for name in options.modes:
        figures.arguments(name)
    for name, value in USUAL[options.dataset].items():
        setattr(options, name, getattr(options, name) or value)
    default = Path(options.output) / "benchmarks" / f"search-{options.arch}-{options.dataset}.json"
    options.results = options.results or default
    return options


# options that figures in one file have in common
SETTINGS = ("dataset", "arch", "target", *USUAL["digits"], "images", "override")


def main(command: Sequence[str] | None = None) -> None:
    options = parse(command)
    introduce()
    records = Records(options.results, {name: getattr(options, name) for name in SETTINGS})
    for seed in options.seeds:
        measure_seed(seed, options, records)
    found = figures.summaries(records.records, options.modes, options.seeds)
    title = f"{options.arch} on {options.dataset}, {options.target:g} of the FLOPs"
    show_table(figures.TITLES, map(figures.row, found), title)
    show_bars(figures.bars(found, options.arch, options.target))
    picture = options.results.with_suffix(".png")
    figures.plot(found, picture, title)
    where({"figures": options.results, "plot": picture})


if __name__ == "__main__":
    run(main)
