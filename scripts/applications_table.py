"""Write docs/applications.md: what of each classifier of keras.applications can be slimmed.

    python scripts/applications_table.py                    # all, a few minutes
    python scripts/applications_table.py VGG16 Xception     # prints the rows of these

Networks are made without weights, at their usual image size and 1,000 classes, and traced. Nothing is
trained or run.
"""

from __future__ import annotations

import argparse
import collections
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autoslim import ChannelGraph

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# name -> height and width of the images
NETWORKS = {
    **dict.fromkeys(("VGG16", "VGG19"), 224),
    **dict.fromkeys(("ResNet50", "ResNet101", "ResNet152"), 224),
    **dict.fromkeys(("ResNet50V2", "ResNet101V2", "ResNet152V2"), 224),
    **dict.fromkeys(("MobileNet", "MobileNetV2", "MobileNetV3Small", "MobileNetV3Large"), 224),
    "EfficientNetB0": 224,
    "EfficientNetB1": 240,
    "EfficientNetB2": 260,
    "EfficientNetB3": 300,
    "EfficientNetB4": 380,
    "EfficientNetB5": 456,
    "EfficientNetB6": 528,
    "EfficientNetB7": 600,
    "EfficientNetV2B0": 224,
    "EfficientNetV2B1": 240,
    "EfficientNetV2B2": 260,
    "EfficientNetV2B3": 300,
    "EfficientNetV2S": 384,
    "EfficientNetV2M": 480,
    "EfficientNetV2L": 480,
    **dict.fromkeys(("DenseNet121", "DenseNet169", "DenseNet201"), 224),
    **dict.fromkeys(("InceptionV3", "InceptionResNetV2", "Xception"), 299),
    "NASNetMobile": 224,
    "NASNetLarge": 331,
    **dict.fromkeys(
        ("ConvNeXtTiny", "ConvNeXtSmall", "ConvNeXtBase", "ConvNeXtLarge", "ConvNeXtXLarge"), 224
    ),
}
TARGET = Path(__file__).parent.parent / "docs" / "applications.md"

HEAD = """# keras.applications, slimmed

Written by `scripts/applications_table.py`{versions}. Each network as
`keras.applications` makes it: 1,000 classes, images of the size given.

- **groups**: channel groups that can be slimmed, and all.
- **frozen**: why the others keep their full width, and how many groups that is, without the image and the
  classes, which every network has.
- **MACs**: multiply-accumulates of convolutions and dense layers at full width, for one image.
- **can be slimmed**: 1 - (MACs with one unit in every group that can be slimmed) / (MACs at full width).
- **trace**: seconds from the Keras model to its channel graph, on one CPU.

| network | image | groups | frozen | MACs (million) | can be slimmed | trace |
| --- | --- | --- | --- | --- | --- | --- |
"""
TAIL = """
No layer of these networks is without a rule. Where a convolution is added to a concatenation
(InceptionResNetV2, NASNet), its channels are cut into groups of their own, one for each tensor that was
concatenated.
"""


def frozen_reasons(graph: ChannelGraph) -> str:
    """The reasons for which groups are frozen, as 'n: reason', equal kinds of reason together."""
    counts: collections.Counter[str] = collections.Counter()
    for group in graph.groups:
        reasons = set((group.frozen or "").split("; "))
        if not group.frozen or reasons & {"model input", "model output"}:
            continue
        kinds = sorted({re.sub(r"^\S+ joins", "joins", reason) for reason in reasons})
        counts["; ".join(kinds)] += 1
    return ", ".join(f"{count}: {reason}" for reason, count in counts.most_common()) or "none"


def row(name: str, size: int) -> str:
    """The line of the table for one network."""
    import keras

    from autoslim import ChannelGraph

    keras.backend.clear_session()
    model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3))
    start = time.perf_counter()
    graph = ChannelGraph(model)
    seconds = time.perf_counter() - start
    assert not graph.uncovered, graph.uncovered
    smallest = graph.uniform(0.0)
    full = graph.cost().flops
    share = 1 - graph.cost(smallest).flops / full
    return (
        f"| {name} | {size} | {len(graph.slimmable)} of {len(graph.groups)} | {frozen_reasons(graph)} "
        f"| {full / 1e6:,.0f} | {100 * share:.2f} % | {seconds:.1f} s |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    # argparse holds the default of nargs="*", an empty list, against the choices too.
    parser.add_argument("names", nargs="*", choices=[*NETWORKS, []], metavar="NAME", help="default: all")
    names = parser.parse_args().names
    rows = []
    for name in names or NETWORKS:
        rows.append(row(name, NETWORKS[name]))
        print(rows[-1], flush=True)
    if not names:
        import keras
        import tensorflow as tf

        versions = f" with Keras {keras.__version__} and TensorFlow {tf.__version__}"
        TARGET.parent.mkdir(exist_ok=True)
        TARGET.write_text(HEAD.format(versions=versions) + "\n".join(rows) + "\n" + TAIL)


if __name__ == "__main__":
    main()
