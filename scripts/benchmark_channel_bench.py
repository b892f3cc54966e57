"""How good the networks are that each method finds, on a table of networks that were all trained.

    python scripts/benchmark_channel_bench.py --table channel_bench_macro.npz
    python scripts/benchmark_channel_bench.py --table channel_bench_macro.npz --supernet --path cifar10

Channel-Bench-Macro holds the CIFAR-10 top-1 of all 16,384 networks of a MobileNet-like and of a ResNet-like
kind (seven channel groups, four widths each). The table is a NumPy file with, for `mobilenet` and `resnet`,
KIND_quarters [16384, 7], KIND_top1 [16384, 3] in percent, KIND_flops and KIND_params [16384].

Every method is replayed by the library's own search with scores looked up in the table: as they are, with an
error of each network's own, or with layers that are judged too good or too bad. What it finds is looked up
too: its true top-1 less that of the uniform network of the same cost.

With --supernet, a supernet of the MobileNet-like network is trained on CIFAR-10, and the same methods search
by its scores; how well these rank the table's networks is printed too.

Figures go to a JSON file, one by one: what was stopped goes on. --page writes them as a page.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import channel_bench_figures as figures
from benchmark_common import Records, introduce, run, show_bars
from channel_bench_networks import NETWORKS
from channel_bench_replay import METHODS, TARGETS, Condition, possible, replay
from channel_bench_supernet import Recipe, Supernet
from channel_bench_table import RESOURCES, TRUTHS, Judge, Table, left_over, truth_of

from autoslim.errors import AutoslimError

# options of the supernet's training
RECIPE = {"side": "of its images, pixels", "images": "training images", "epochs": "passes over them"}
CONDITIONS = ("perfect", "error:0.1", "error:0.3", "error:0.5", "error:1", "bias:0.2")


def replay_all(options: argparse.Namespace, records: Records) -> None:
    """Replay what has no record yet."""
    for network in options.networks:
        table = Table.read(options.table, network)
        records.get(f"fit/{network}", partial(left_over, table))
        for truth in options.truths:
            judge = Judge(table, truth_of(table, truth))
            for resource in RESOURCES:
                cell = f"{truth}/{network}/{resource}"
                records.get(f"{cell}/possible", partial(possible, judge, resource))
                for condition, method in itertools.product(options.conditions, options.methods):
                    how = judge, resource, Condition.named(condition), method, options.draws
                    key = f"{cell}/{condition}/{method}"
                    print(key, figures.line(records.get(key, partial(replay, *how))), flush=True)


def supernet_all(options: argparse.Namespace, records: Records) -> None:
    """Train, rank and search with every seed, what has no record yet."""
    if options.path is None:
        raise AutoslimError("--supernet needs CIFAR-10's binary files: --path FOLDER.")
    table, recipe = Table.read(options.table, "mobilenet"), recipe_of(options)
    truths = {truth: truth_of(table, truth) for truth in TRUTHS}
    judges = {truth: Judge(table, top1) for truth, top1 in truths.items()}
    for seed in options.seeds:
        net = Supernet(options.output / recipe.folder(seed), recipe, options.path, seed, table)
        key = f"supernet/{seed}/ranks"
        print(key, records.get(key, partial(net.correlations, truths)), flush=True)
        for method, resource in itertools.product(options.methods, RESOURCES):
            key = f"supernet/{seed}/{resource}/{method}"
            found = records.get(key, partial(net.gains, judges, resource, METHODS[method]))
            print(key, found, flush=True)


def recipe_of(options: argparse.Namespace) -> Recipe:
    """The supernet's training, as the options say."""
    return Recipe(**{name: getattr(options, name) for name in RECIPE})


def parse(command: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--table", type=Path, required=True, help="NumPy file with the table")
    add("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    add("--truths", nargs="+", choices=TRUTHS, default=["additive", "pairs"])
    add("--conditions", nargs="+", default=list(CONDITIONS), help="perfect, error:POINTS, bias:POINTS")
    add("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD")
    add("--draws", type=int, default=60, help="of errors; a tenth for random and evolution, 3 if perfect")
    add("--supernet", action="store_true", help="train supernets and search by them, in place of replaying")
    add("--path", help="folder with CIFAR-10's binary files")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the supernets")
    for name, doc in RECIPE.items():
        add(f"--{name}", type=int, default=getattr(Recipe, name), help=f"supernet: {doc}; %(default)s")
    add("--output", type=Path, default=Path("outputs/channel_bench"), help="folder of the supernets")
    add("--results", type=Path, default=Path("docs/channel_bench.json"), help="JSON file of the replay")
    add("--ranks", type=Path, default=Path("docs/channel_bench_supernet.json"), help="that of supernets")
    add("--page", type=Path, help="Markdown file to write the figures to, such as docs/channel_bench.md")
    return parser.parse_args(command)


def main(command: Sequence[str] | None = None) -> None:
    options = parse(command)
    introduce()
    replays = Records(options.results, {"targets": list(TARGETS)})
    supernets = Records(options.ranks, {"targets": list(TARGETS), **dataclasses.asdict(recipe_of(options))})
    if options.supernet:
        supernet_all(options, supernets)
    else:
        replay_all(options, replays)
    records = {**replays.records, **supernets.records}
    show_bars(figures.bars(records))
    if options.page:
        options.page.write_text(figures.page(records, supernets.settings))


if __name__ == "__main__":
    run(main)
