"""Inject faults into runs and see whether each ends well: kills, full and failing disks, damage, bad input.

    python scripts/campaign.py --work /tmp/campaign --kills 200 --aimed 100 --full 20 --broken 20 --flips 400

A run on small bundled images is left alone once; then
  kills    the same run is killed at random moments until it is through: its results must have the same bits;
  aimed    it is killed at one write, rename, fsync, unlink or mkdir (of C libraries too), and goes on;
  full     from one such operation on the disk is full: one message, then the same command goes on;
  broken   one such operation fails as a broken disk does (EIO): likewise;
  flips    one bit of a file of a finished stage is flipped: it must be noticed before the file is used;
  inputs   commands that must be refused in one line, without a traceback, in bounded time.
After each no unfinished file may be left. Prints a table tried / held; exits with 1 where something fell.
Needs a C compiler for aimed, full and broken.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import h5py
from campaign_inputs import INPUTS

from autoslim.errors import AutoslimError
from autoslim.reporting.markdown_table import table
from autoslim.stages.store import RESULT, StageFolder

RUN = [
    "arch=resnet20", "arch.depth=8", "arch.width=8", "dataset.train_images=120", "train.batch_size=40",
    "train.checkpoint_seconds=0", "train.calibration_batches=1", "baseline.epochs=1", "supernet.epochs=1",
    "supernet.arms=2", "retrain.epochs=1", "slim.levels=2", "slim.min_width=0.5",
]  # fmt: skip
STOPPED = (-signal.SIGKILL, 137)
LIMIT = 300  # seconds after which a command counts as endless
TIMES = (
    "seconds",
    "files",
    "seal",
    "channels",
)  # of a result: times, and fingerprints of files that hold them


class Verdict(NamedTuple):
    """How one injected fault ended."""

    what: str
    fault: str  # "" where it held


class Campaign:
    """Runs in folders of their own below one folder, and what became of them."""

    def __init__(self, work: Path, seed: int) -> None:
        self.work = work
        self.random = random.Random(seed)
        self.whole = work / "whole"
        self.shim = work / "shim.so"

    def prepare(self, shim: bool) -> None:
        """Run once without a fault, and compile what injects faults."""
        self.work.mkdir(parents=True, exist_ok=True)
        start = time.monotonic()
        done = self.run(self.whole)
        assert done.returncode == 0, done.stderr
        self.seconds = time.monotonic() - start
        if shim:
            source = Path(__file__).with_name("campaign_shim.c")
            subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", self.shim, source, "-ldl"], check=True)
            count = self.work / "count"
            self.run(self.fresh("counted"), CAMPAIGN_COUNT=str(count))
            self.operations = max(map(int, count.read_text().split()))

    def fresh(self, name: str) -> Path:
        """An output folder that holds nothing."""
        folder = self.work / name
        shutil.rmtree(folder, ignore_errors=True)
        return folder

    def run(
        self, output: Path, kill_after: float | None = None, **faults: str
    ) -> subprocess.CompletedProcess[str]:
        """The run, killed after that many seconds, or with a fault that the shim injects."""
        environment = dict(os.environ)
        if faults:
            environment |= {"LD_PRELOAD": str(self.shim), "CAMPAIGN_BELOW": str(output), **faults}
        command = [sys.executable, "-m", "autoslim", f"output={output}", *RUN]
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                out, err = process.communicate(timeout=LIMIT if kill_after is None else kill_after)
            except subprocess.TimeoutExpired:
                process.kill()
                out, err = process.communicate()
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    # -- faults ----------------------------------------------------------------------------------------

    def kill(self, number: int) -> Verdict:
        """Killed at random moments, three times at most, then left alone."""
        output = self.fresh("killed")
        times = [self.random.uniform(0.1, 1.0) * self.seconds for _ in range(3)]
        for after in times:
            done = self.run(output, kill_after=after)
            if done.returncode == 0:
                break
            if done.returncode not in STOPPED:
                return Verdict(f"after {after:.1f} s", _said(done))
        return Verdict(", ".join(f"{after:.1f} s" for after in times), self.goes_on(output))

    def inject(self, fault: str) -> Verdict:
        """At a random operation on files."""
        output = self.fresh(fault)
        at = self.random.randint(1, self.operations)
        done = self.run(output, CAMPAIGN_AT=str(at), CAMPAIGN_FAULT=fault)
        what = f"operation {at} of {self.operations}"
        if fault == "kill":
            good = done.returncode in (0, *STOPPED)
        else:
            good = done.returncode in (0, 2) and "Traceback" not in done.stdout + done.stderr
        return Verdict(what, self.goes_on(output) if good else _said(done))

    def goes_on(self, output: Path) -> str:
        """ "" if the same command ends with the bits of the whole run and leaves nothing unfinished."""
        done = self.run(output)
        if done.returncode != 0:
            return _said(done)
        mine, whole = bits(output), bits(self.whole)
        different = [name for name in whole if mine.get(name) != whole[name]]
        left = [str(path.relative_to(output)) for path in output.rglob(".part-*")]
        return f"different: {different[0]}" if different else f"left over: {left[0]}" if left else ""

    def flip(self, number: int) -> Verdict:
        """One bit of one file of a finished stage."""
        copy = self.work / "flipped"
        results = sorted(self.whole.glob(f"*/*/{RESULT}"))
        result = results[number % len(results)]
        files = [RESULT, *json.loads(result.read_text())["files"]]
        name = self.random.choice(files)
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(result.parent, copy)
        content = bytearray((copy / name).read_bytes())
        bit = self.random.randrange(8 * len(content)) if content else 0
        if content:
            content[bit // 8] ^= 1 << bit % 8
        (copy / name).write_bytes(content or b"x")
        folder = StageFolder(copy.parent, result.parent.name.split("-")[0], {})
        folder.path = copy
        try:
            folder.result()
        except AutoslimError:
            return Verdict(name, "")
        return Verdict(name, f"bit {bit} of {result.parent.name}/{name} was not noticed")


def _said(done: subprocess.CompletedProcess[str]) -> str:
    lines = (done.stderr or done.stdout).strip().splitlines() or ["nothing was said"]
    return f"exit status {done.returncode}: {lines[-1][:160]}"


def bits(output: Path) -> dict[str, str]:
    """Hashes of every result and every weight below an output folder, reports aside."""
    found = {}
    for path in sorted(output.glob(f"*/*/{RESULT}")):
        if not path.parent.name.startswith("report"):
            result = json.loads(path.read_text())
            kept = {name: value for name, value in result.items() if name not in TIMES}
            found[f"{path.parent.name}/{RESULT}"] = _hash(json.dumps(kept, sort_keys=True).encode())
    for path in sorted(output.glob("*/*/full.weights.h5")):
        with h5py.File(path) as file:
            for name, values in _values(file):
                found[f"{path.parent.name}/{name}"] = _hash(values)
    return found


def _values(group: h5py.Group) -> Iterator[tuple[str, bytes]]:
    for item in group.values():
        if isinstance(item, h5py.Group):
            yield from _values(item)
        else:
            yield item.name, item[()].tobytes()


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def refused(arguments: list[str], environment: dict[str, str]) -> str:
    """ "" if a command is refused in one line, without a traceback, before `LIMIT` is over."""
    command = [sys.executable, "-m", "autoslim", *arguments]
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it did not end within {LIMIT} s"
    lines = done.stderr.strip().splitlines()
    if done.returncode == 2 and len(lines) == 1 and "Traceback" not in done.stdout + done.stderr:
        return ""
    return _said(done)


def main() -> None:
    """Print the table of what was tried and what held."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--seed", type=int, default=0)
    kinds = ("kills", "aimed", "full", "broken", "flips", "inputs")
    for kind in kinds:
        parser.add_argument(f"--{kind}", type=int, default=0, help="how many; 0: none")
    asked = parser.parse_args()
    asked.work = asked.work.absolute()
    asked.work.mkdir(parents=True, exist_ok=True)
    campaign = Campaign(asked.work, asked.seed)
    if asked.kills or asked.aimed or asked.full or asked.broken or asked.flips:
        campaign.prepare(shim=bool(asked.aimed or asked.full or asked.broken))
    os.chdir(asked.work)
    (asked.work / "file").write_text("no folder")
    inputs = campaign.random.sample(INPUTS, min(asked.inputs, len(INPUTS)))
    makers: dict[str, tuple[int, Callable[[int], Verdict]]] = {
        "kills": (asked.kills, campaign.kill),
        "aimed": (asked.aimed, lambda _: campaign.inject("kill")),
        "full": (asked.full, lambda _: campaign.inject("full")),
        "broken": (asked.broken, lambda _: campaign.inject("broken")),
        "flips": (asked.flips, campaign.flip),
        "inputs": (len(inputs), lambda n: Verdict(" ".join(inputs[n][0]), refused(*inputs[n]))),
    }
    rows, fell = [], False
    for kind, (count, maker) in makers.items():
        verdicts = [maker(number) for number in range(count)]
        faults = [verdict for verdict in verdicts if verdict.fault]
        for verdict in faults:
            print(f"{kind}: {verdict.what}: {verdict.fault}", flush=True)
        fell |= bool(faults)
        if count:
            rows.append([kind, str(count), str(count - len(faults)), str(len(faults))])
    print(table(["fault", "tried", "held", "fell"], rows))
    sys.exit(1 if fell else 0)


if __name__ == "__main__":
    main()
