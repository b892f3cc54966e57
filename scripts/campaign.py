"""Inject faults into runs and see whether each ends well: kills, full and failing disks, damage, bad input.

    nice python scripts/campaign.py --work /tmp/campaign --kills 200 --aimed 100 --full 20 --flips 400

A small run is left alone once. Then other runs of the same command meet fault after fault, each life going on
where the one before ended, until the last one is left alone: it must end with the same bits and leave no
unfinished file.
  kills     SIGKILL at random moments, ten in a run;
  aimed     SIGKILL before or in the middle of a write, rename, fsync, unlink, ... of C libraries too; five;
  full      from one such operation on the disk is full: one message, or no harm; three;
  readonly  from one such operation on nothing may be written: likewise;
  broken    one such operation fails as a broken disk does (EIO): likewise;
  signals   one to three of SIGINT and SIGTERM: one message; four;
  pairs     two processes run the command at once: one of them may be refused.
Besides:
  flips     one bit of a file of a finished stage is flipped: it must be noticed before the file is used;
  inputs    commands that must end by themselves, with one line where they are refused.
Every case is a function of the seed, its kind and its number, and its verdict is kept in cases.jsonl of the
work folder: the same command goes on where it stopped (--minutes), also with more cases, and with --fallen it
tries those again that fell. Prints a table of all that is kept there, and writes it with --out FILE.json;
exits with 1 where one fell. One process runs at a time. Needs a C compiler.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from campaign_files import make_files
from campaign_inputs import INPUTS, Input
from campaign_runs import RUN, Command, Ended, bits, unlike

from autoslim.cli import versions
from autoslim.errors import AutoslimError
from autoslim.reporting.markdown_table import table
from autoslim.stages.store import RESULT, StageFolder

TOGETHER = {"kills": 10, "aimed": 5, "full": 3, "readonly": 3, "broken": 3, "signals": 4, "pairs": 2}
"""Faults that one run meets."""
SHARE = 0.5  # of a whole run's seconds or operations, within which a fault meets it


class Verdict(NamedTuple):
    """How one run ended, or one input."""

    what: str  # was injected
    faults: int  # how many
    fell: str  # "" where it held


class Case(NamedTuple):
    """What is to be tried."""

    kind: str
    number: int  # among those of its kind; an input's place in the list
    faults: int  # how many are injected


class Kept:
    """Verdicts of earlier calls, in a file with a line for each."""

    def __init__(self, path: Path, seed: int) -> None:
        self.path, self.seed = path, seed
        self.verdicts: dict[tuple[int, str, int], Verdict] = {}  # (seed, kind, number) -> the last one
        self.seconds: dict[str, list[float]] = {}  # kind -> seconds of its cases
        kept = path.read_text() if path.exists() else ""
        if kept and not kept.endswith("\n"):  # its last line was cut off
            path.write_text(kept[: kept.rfind("\n") + 1])
        for line in kept.splitlines()[: kept.count("\n")]:
            self._take(json.loads(line))

    def _take(self, item: dict[str, Any]) -> None:
        key = (item["seed"], item["kind"], item["number"])
        self.verdicts[key] = Verdict(item["what"], item["faults"], item["fell"])
        self.seconds.setdefault(item["kind"], []).append(item["seconds"])

    def lacks(self, case: Case, again: bool) -> bool:
        """Whether a case is still to be tried, or, where asked for, fell before."""
        found = self.verdicts.get((self.seed, case.kind, case.number))
        return found is None or found.faults < case.faults and not found.fell or (again and bool(found.fell))

    def add(self, case: Case, verdict: Verdict, seconds: float) -> None:
        """Keep one more verdict."""
        item = {"seed": self.seed, "kind": case.kind, "number": case.number, "seconds": round(seconds, 2)}
        item |= verdict._asdict()
        with self.path.open("a") as file:
            file.write(json.dumps(item) + "\n")
        self._take(item)

    def by_kind(self) -> dict[str, list[Verdict]]:
        """Kind -> all its verdicts for this seed."""
        found: dict[str, list[Verdict]] = {}
        for (seed, kind, _), verdict in sorted(self.verdicts.items(), key=lambda pair: pair[0]):
            if seed == self.seed:
                found.setdefault(kind, []).append(verdict)
        return found


class Campaign:
    """Runs in folders of their own below one folder."""

    def __init__(self, work: Path, seed: int) -> None:
        self.work, self.seed = work, seed
        self.random = random.Random(seed)
        self.whole = work / "whole"
        self.shim = compiled_shim(work)

    def prepare(self) -> None:
        """Run once without a fault, counting what is done to files."""
        counted = self.work / "count"
        output, start = self.fresh("whole"), time.monotonic()
        count = {"CAMPAIGN_COUNT": str(counted)}
        command = self._command([f"output={output}", *RUN], fault=("", -1, output), environment=count)
        while not any(output.glob("*-*/*")) and not command.wait(0.05):  # of its first stage
            pass
        self.begins = time.monotonic() - start
        done = command.ended()
        assert done.status == 0, done
        self.seconds, self.operations = time.monotonic() - start, int(counted.read_text())
        self.bits = bits(self.whole)

    def fresh(self, name: str) -> Path:
        """An output folder that holds nothing."""
        folder = self.work / name
        shutil.rmtree(folder, ignore_errors=True)
        return folder

    def _command(self, arguments: Sequence[str], **how: Any) -> Command:
        return Command(arguments, how.pop("place", self.work), self.shim, **how)

    def start(self, output: Path, fault: tuple[str, int, Path] | None = None) -> Command:
        """The run, from where it stopped."""
        return self._command([f"output={output}", *RUN], fault=fault)

    def _moment(self) -> float:
        """Seconds after the start of a run at which a fault meets it: never before it writes anything."""
        return self.random.uniform(self.begins, self.begins + SHARE * (self.seconds - self.begins))

    def try_one(self, case: Case) -> Verdict:
        """One case, the same whatever was tried before it."""
        self.random = random.Random(f"{self.seed} {case.kind} {case.number}")
        if case.kind == "flips":
            return self.flip(case.number)
        if case.kind == "inputs":
            return self.input(INPUTS[case.number])
        return self.run(case.kind, case.faults)

    def life(self, output: Path, fault: tuple[str, int, Path] | None = None) -> Ended:
        """The run from where it stopped to its end."""
        return self.start(output, fault).ended()

    # -- runs that meet faults -------------------------------------------------------------------------

    def run(self, kind: str, faults: int) -> Verdict:
        """One run that meets faults of a kind, and is then left alone."""
        output = self.fresh(kind)
        met: list[str] = []
        for _ in range(faults):
            what, fell = getattr(self, kind)(output)
            met.append(what)
            if fell:
                return Verdict("; ".join(met), len(met), fell)
        done = self.life(output)
        fell = unlike(output, self.bits) if done.status == 0 else f"then {done.said}"
        return Verdict("; ".join(met), len(met), fell)

    def kills(self, output: Path) -> tuple[str, str]:
        """At a random moment."""
        after = self._moment()
        command = self.start(output)
        if not command.wait(after):
            command.send(signal.SIGKILL)
        done = command.ended()
        return f"{after:.1f} s", "" if done.status in (0, -signal.SIGKILL) else done.said

    def signals(self, output: Path) -> tuple[str, str]:
        """One or more, shortly after each other."""
        after = self._moment()
        sent = [self.random.choice((signal.SIGINT, signal.SIGTERM)) for _ in range(self.random.randint(1, 3))]
        command = self.start(output)
        for number in sent:
            if not command.wait(after):
                command.send(number)
            after = self.random.uniform(0, 0.5)
        done = command.ended()
        good = done.status == 0 or (done.status == 130 and not done.traceback)
        return f"{[one.name for one in sent]} after {after:.1f} s", "" if good else done.said

    def aimed(self, output: Path) -> tuple[str, str]:
        """SIGKILL at an operation on files."""
        at, fault = self._operation(), self.random.choice(("kill", "torn"))
        done = self.life(output, (fault, at, output))
        return f"{fault} at {at}", "" if done.status in (0, -signal.SIGKILL) else done.said

    def full(self, output: Path) -> tuple[str, str]:
        """No room from an operation on."""
        return self._refused("full", output)

    def readonly(self, output: Path) -> tuple[str, str]:
        """No leave to write from an operation on."""
        return self._refused("readonly", output)

    def broken(self, output: Path) -> tuple[str, str]:
        """EIO at an operation."""
        return self._refused("broken", output)

    def _refused(self, fault: str, output: Path) -> tuple[str, str]:
        at = self._operation()
        done = self.life(output, (fault, at, output))
        last = "".join(done.err.strip().splitlines()[-1:])
        message = done.status == 2 and last.startswith("autoslim: error: ")
        good = (done.status == 0 or message) and not done.traceback
        return f"at operation {at}", "" if good else done.said

    def _operation(self) -> int:
        return self.random.randint(1, int(SHARE * self.operations))

    def pairs(self, output: Path) -> tuple[str, str]:
        """Two processes."""
        after = self._moment() - self.begins
        first = self.start(output)
        first.wait(after)
        second = self.start(output)
        ended = [second.ended(), first.ended()]
        held = [one for one in ended if one.status == 2 and "is being written by" in one.err]
        good = all(one.status == 0 or one in held for one in ended) and len(held) < len(ended)
        fell = "" if good else "; ".join(one.said for one in ended)
        return f"the second after {after:.1f} s", fell

    # -- others ----------------------------------------------------------------------------------------

    def flip(self, number: int) -> Verdict:
        """One bit of one file of a finished stage."""
        copy = self.work / "flipped"
        results = sorted(self.whole.glob(f"*/*/{RESULT}"))
        result = results[number % len(results)]
        name = self.random.choice([RESULT, *json.loads(result.read_text())["files"]])
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
            return Verdict(name, 1, "")
        return Verdict(name, 1, f"bit {bit} of {result.parent.name}/{name} was not noticed")

    def input(self, given: Input) -> Verdict:
        """A command that must end by itself: with one line where it is refused."""
        how = {"unprivileged": given.unprivileged, "environment": given.environment}
        done = self._command(given.arguments, place=self.work / "inputs", **how).ended()
        lines = done.err.strip().splitlines()
        if lines and lines[0].startswith("usage: "):  # argparse's, before its message
            lines = lines[-1:]
        many = 1 + ("--multirun" in given.arguments)  # a sweep has a line of its own
        good = done.status == 2 and 1 <= len(lines) <= many
        good &= all(line.startswith("autoslim: error: ") for line in lines)
        if given.taken:
            good |= done.status == 0
        good &= not done.traceback
        what = " ".join([*(f"{k}={v}" for k, v in given.environment.items()), *given.arguments])
        return Verdict(what[:200], 1, "" if good else done.said)


def cases(asked: argparse.Namespace) -> list[Case]:
    """All that was asked for, in an order in which all kinds are tried however far it comes."""
    found = [
        Case(kind, number, min(most, getattr(asked, kind) - most * number))
        for kind, most in TOGETHER.items()
        for number in range(-(-getattr(asked, kind) // most))
    ]
    found += [Case("flips", number, 1) for number in range(asked.flips)]
    chosen = random.Random(asked.seed).sample(range(len(INPUTS)), min(asked.inputs, len(INPUTS)))
    found += [Case("inputs", number, 1) for number in chosen]
    random.Random(asked.seed).shuffle(found)
    return found


def summary(kept: Kept) -> str:
    """The table as Markdown."""
    rows = []
    for kind, some in kept.by_kind().items():
        fell = sum(bool(one.fell) for one in some)
        counts = (sum(one.faults for one in some), len(some), len(some) - fell, fell)
        seconds = sum(kept.seconds[kind]) / len(kept.seconds[kind])
        rows.append([kind, *(f"{count:,}" for count in counts), f"{seconds:.1f}"])
    return table(["fault", "injected", "runs or inputs", "held", "fell", "seconds each"], rows)


def compiled_shim(work: Path) -> Path:
    """Compile what injects faults."""
    library = work / "shim.so"
    source = Path(__file__).with_name("campaign_shim.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


def main() -> None:
    """Print the table of what was tried and what held."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a .json file for the results; the table beside it as .md")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no case after so long")
    parser.add_argument("--fallen", action="store_true", help="try again what fell before")
    for kind in (*TOGETHER, "flips", "inputs"):
        parser.add_argument(f"--{kind}", type=int, default=0, help="how many; 0: none")
    asked = parser.parse_args()
    asked.work = asked.work.absolute()
    asked.work.mkdir(parents=True, exist_ok=True)
    kept = Kept(asked.work / "cases.jsonl", asked.seed)
    try:
        _try_all(asked, kept)
    except KeyboardInterrupt:
        print("stopped: the same command goes on", flush=True)
    print(summary(kept))
    if asked.out:
        write(asked.out, asked.seed, kept)
    sys.exit(1 if any(one.fell for one in kept.verdicts.values()) else 0)


def _try_all(asked: argparse.Namespace, kept: Kept) -> None:
    """Try what is lacking, as long as there is time."""
    until = time.monotonic() + 60 * asked.minutes
    campaign = Campaign(asked.work, asked.seed)
    lacking = [case for case in cases(asked) if kept.lacks(case, asked.fallen)]
    if any(case.kind != "inputs" for case in lacking):
        campaign.prepare()
    if any(case.kind == "inputs" for case in lacking):
        make_files(asked.work / "inputs")
    for place, case in enumerate(lacking):
        if time.monotonic() > until:
            print(f"the time is over: {len(lacking) - place} cases are left", flush=True)
            break
        begun = time.monotonic()
        verdict = campaign.try_one(case)
        kept.add(case, verdict, time.monotonic() - begun)
        if verdict.fell:
            print(f"{case.kind} {case.number}: {verdict.what}: {verdict.fell}", flush=True)
        if asked.out:
            write(asked.out, asked.seed, kept)


def write(path: Path, seed: int, kept: Kept) -> None:
    """The results so far as JSON, and the table as Markdown."""
    verdicts = kept.by_kind()
    counts = " ".join(f"--{kind} {sum(one.faults for one in some)}" for kind, some in verdicts.items())
    command = f"python scripts/campaign.py --work FOLDER --seed {seed} {counts}"
    hardware = f"{platform.machine()}, {os.cpu_count()} CPU cores"
    fell = {kind: [one._asdict() for one in some if one.fell] for kind, some in verdicts.items()}
    counted = {
        kind: {"injected": sum(one.faults for one in some), "runs": len(some), "fell": fell[kind]}
        for kind, some in verdicts.items()
    }
    content = {"command": command, "hardware": hardware, "versions": versions(), "faults": counted}
    path.write_text(json.dumps(content, indent=1) + "\n")
    text = f"# Faults injected\n\n`{command}`\n\n{hardware}; {versions()}.\n\n{summary(kept)}\n"
    path.with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
