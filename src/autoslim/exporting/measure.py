"""The process that `latency` starts: time exported files on one thread.

    python -m autoslim.exporting.measure image.npy keras=model.keras onnx=model.onnx

It prints one JSON object, {format: milliseconds, or {"error": text}}. Nothing else imports this module.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from autoslim.errors import first_line
from autoslim.exporting.formats import FORMATS
from autoslim.exporting.runtimes import Runtime

WARM_UP = 10  # calls before the clock starts
FEWEST, MOST = 20, 300  # calls that are timed
SECONDS = 1.0  # no more calls after so long, once there are `FEWEST`


def median_milliseconds(run: Runtime, image: np.ndarray) -> float:
    """Median time of a call on one image after `WARM_UP` calls, in milliseconds."""
    for _ in range(WARM_UP):
        run(image)
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < FEWEST or (len(times) < MOST and time.perf_counter() - begun < SECONDS):
        start = time.perf_counter()
        run(image)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def main(arguments: Sequence[str]) -> None:
    """Measure the files named on the command line; see the module."""
    image = np.load(arguments[0])
    found: dict[str, object] = {}
    for name, _, path in (argument.partition("=") for argument in arguments[1:]):
        try:
            found[name] = median_milliseconds(FORMATS[name].open(Path(path)), image)
        except Exception as error:  # another file can still be measured
            found[name] = {"error": f"{type(error).__name__}: {first_line(error)}"}
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
