"""The process that `latency` starts: time files on one thread, in rounds that go through all of them.

    python -m autoslim.exporting.measure job.json

`job.json` holds {"image": path of a .npy file, "files": {name: [format, path]}}. Printed is one JSON object,
{name: milliseconds of its rounds, or {"error": text}}. Nothing else imports this module.

What else runs on the machine disturbs: so each round times all files, one after the other, and takes the
fastest of a few calls; rounds are added until the median of every file's rounds is known well enough.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from autoslim.errors import first_line
from autoslim.exporting.formats import FORMATS
from autoslim.exporting.runtimes import Runtime
from autoslim.rounds import enough

WARM_UP_SECONDS = 0.03  # of calls before the clock starts, and at least `FEWEST_CALLS` of them
FEWEST_CALLS = 3  # of a file in a round
ROUND_SECONDS = 0.008  # a round calls a file for this long
FEWEST_ROUNDS, MOST_ROUNDS = 11, 75
SECONDS = 20.0  # no more rounds after this time, once there are `FEWEST_ROUNDS`


def main(arguments: Sequence[str]) -> None:
    """Measure the files of the job; see the module."""
    job = json.loads(Path(arguments[0]).read_text())
    image = np.load(job["image"])
    print(json.dumps(measured(job["files"], image)))


def measured(files: Mapping[str, Sequence[str]], image: np.ndarray) -> dict[str, object]:
    """Name -> milliseconds of each round, or {"error": text}, of files name -> (format, path)."""
    opened: dict[str, Runtime] = {}
    found: dict[str, object] = {}
    for name, (kind, path) in files.items():
        try:
            opened[name] = FORMATS[kind].open(Path(path))
            _fastest(opened[name], image, WARM_UP_SECONDS)
        except Exception as error:  # another file can still be measured
            opened.pop(name, None)
            found[name] = {"error": f"{type(error).__name__}: {first_line(error)}"}
    return found | dict(_rounds(opened, image))


def _rounds(opened: Mapping[str, Runtime], image: np.ndarray) -> dict[str, list[float]]:
    """Milliseconds of every round of each file."""
    times: dict[str, list[float]] = {name: [] for name in opened}
    begun = time.perf_counter()
    for number in range(MOST_ROUNDS if opened else 0):
        late = time.perf_counter() - begun > SECONDS
        if number >= FEWEST_ROUNDS and (late or enough(list(times.values()))):
            break
        for name, run in opened.items():
            times[name].append(1000 * _fastest(run, image, ROUND_SECONDS))
    return times


def _fastest(run: Runtime, image: np.ndarray, seconds: float) -> float:
    """Seconds of the fastest call among those of a round: whatever else runs only adds."""
    fastest, begun, calls = float("inf"), time.perf_counter(), 0
    while calls < FEWEST_CALLS or time.perf_counter() - begun < seconds:
        start = time.perf_counter()
        run(image)
        fastest = min(fastest, time.perf_counter() - start)
        calls += 1
    return fastest


if __name__ == "__main__":
    main(sys.argv[1:])
