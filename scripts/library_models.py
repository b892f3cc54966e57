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
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from library_models_examine import MEMORY, TOLERANCE, Process
from library_models_list import MODELS

RESULTS = Path(__file__).parent.parent / "docs" / "library_models.json"
SECONDS = 900.0  # that one model may take

HEAD = """# Models of other libraries, slimmed

Written by `python scripts/library_models.py`{versions}. Models
are built without trained weights, for images of 64x64 where the library lets one choose; scales, biases,
statistics and whatever begins as a constant are drawn.

- **true MACs**: multiply-accumulates of convolutions and matrix products, weights or not, for one image,
  counted in the TensorFlow graph of the model itself, by code that is not autoslim's.
- **can be slimmed**: 1 - (true MACs of the network with every group at its smallest) / (true MACs).
- **cost right**: `graph.cost().flops` is the true count, of the model and of a network at random widths.
  Keras takes patches by a convolution with an identity, which is not counted here: autoslim's networks take
  them by reshapes.
- **exact**: at random widths, sliced, masked and materialised networks compute the same, to {tolerance:g} of
  the largest output; and so do the graph at full width and the model. The full network's outputs are not
  near those: they differ by ten times as much at least. Rows of earlier commits were run before that was
  asked, and before constants were drawn; the summary tells their number.
- **loads**: saved as `.keras` and loaded in a fresh process without autoslim and the library: "alone". A
  layer that stays whole is of its library's class: "with its library". Where the library's own model, saved
  and loaded, fails likewise: "not even the whole model".
- **commit**: of autoslim, when the model was run. A process that takes over {seconds:.0f} s or {memory} GiB
  is ended, and its row says so.

{summary}

| model | true MACs (million) | can be slimmed | cost right | exact | loads | kept whole, no rule | commit |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""


def is_exact(found: dict[str, Any]) -> bool:
    """Whether nothing differs that should not, and the smaller network from the full one by far more."""
    if "differences" not in found:
        return False
    return max(found["differences"].values()) <= TOLERANCE and found.get("moved", 1.0) > 10 * TOLERANCE


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
        "exact, and told from the full network": sum(
            is_exact(found) and "moved" in found for found in results.values()
        ),
        "costs right": sum(cost_is(found) == "yes" for found in results.values() if "costs" in found),
        "costs wrong": sum(cost_is(found) == "NO" for found in results.values() if "costs" in found),
        "stopped by their library's own error": sum("unbuilt" in found for found in results.values()),
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
        unbuilt = f"its library can't build or call it: {found.get('unbuilt')}"
        said = found.get("raised") or found.get("refused") or unbuilt
        return f"| {name} | - | - | - | - | - | {said.replace('|', '/')} | {found['commit']} |"
    kinds = sorted({reason.replace("|", "/") for reason in found["uncovered"].values()})
    more = f"; and {len(kinds) - 3} more kinds" if len(kinds) > 3 else ""
    return (
        f"| {name} | {found['macs'] / 1e6:,.1f} | {100 * found['share']:.2f} % "
        f"| {cost_is(found)} | {'yes' if is_exact(found) else 'NO'} | {found['loads']} "
        f"| {'; '.join(kinds[:3]) or 'none'}{more} | {found['commit']} |"
    )


def write(results: dict[str, dict[str, Any]], path: Path) -> None:
    """The results and, beside them, the table."""
    ordered = {name: results[name] for name in MODELS if name in results}
    path.write_text(json.dumps(ordered, indent=1) + "\n")
    versions = f" with Keras {version('keras')} and TensorFlow {version('tensorflow')}"
    head = HEAD.format(
        versions=versions, tolerance=TOLERANCE, summary=summary(ordered), seconds=SECONDS, memory=MEMORY
    )
    rows = [row(name, found) for name, found in ordered.items()]
    path.with_suffix(".md").write_text(head + "\n".join(rows) + "\n")


def commit() -> str:
    """The commit of autoslim's checkout, short."""
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("begins", nargs="*", help="beginnings of names; default: all")
    parser.add_argument("--again", action="store_true", help="also those that have a result")
    parser.add_argument("--results", type=Path, default=RESULTS, help=f"default: {RESULTS}")
    given = parser.parse_args()
    path = given.results
    results = json.loads(path.read_text()) if path.exists() else {}
    examiner, state = Process("examine"), commit()
    for name in MODELS:
        if given.begins and not name.startswith(tuple(given.begins)):
            continue
        if given.again or name not in results:
            start = time.perf_counter()
            answer = examiner.ask(name, SECONDS)
            seconds = round(time.perf_counter() - start)
            died = {"raised": f"its process died after {seconds} s (limits: {SECONDS:.0f} s, {MEMORY} GiB)"}
            results[name] = {**(json.loads(answer) if answer else died), "seconds": seconds, "commit": state}
            print(row(name, results[name]), flush=True)
            write(results, path)
    print(summary(results))


if __name__ == "__main__":
    main()
