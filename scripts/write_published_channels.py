"""Write the channel lists that the authors of AutoSlim published, as named files in conf/channels/.

    python scripts/write_published_channels.py tests/golden/published_channels.yaml

Each becomes `autoslim_<network>_<millions of FLOPs>m.yaml`, {group name: width} of our network's supernet,
for `slim.channels=autoslim_mobilenet_v2_305m arch=mobilenet_v2_imagenet`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import yaml

from autoslim import ChannelGraph, archs

SUPERNETS = {  # network -> (function, width of the supernet, name in conf/arch)
    "mobilenet_v1": (archs.mobilenet_v1, 1.1, "mobilenet_v1"),
    "mobilenet_v2": (archs.mobilenet_v2_imagenet, 1.5, "mobilenet_v2_imagenet"),
    "mnasnet": (archs.mnasnet, 1.5, "mnasnet"),
    "resnet50": (archs.resnet50, 1.0, "resnet50"),
}


def main(source: str) -> None:
    folder = Path(__file__).parent.parent / "conf" / "channels"
    folder.mkdir(exist_ok=True)
    for entry in yaml.safe_load(Path(source).read_text())["networks"]:
        build, width, arch = SUPERNETS[entry["arch"]]
        direct = build((224, 224, 3), 1000, channels=entry["channels"][:-1])
        supernet = ChannelGraph(build((224, 224, 3), 1000, width=width))
        channels = {group.name: direct.get_layer(group.name).filters for group in supernet.slimmable}
        cost = supernet.cost(supernet.widths_from(channels))
        name = f"autoslim_{entry['arch']}_{entry['name'].removeprefix('autoslim_')}"
        head = (
            f"# arch={arch}: {cost.flops:,} multiply-accumulates at 224x224, {cost.params:,} parameters with "
            f"1000 classes.\n# Published by the authors of AutoSlim with {100 * entry['published_top1']:.1f} "
            "% top-1 on ImageNet.\n"
        )
        (folder / f"{name}.yaml").write_text(head + yaml.safe_dump(channels, sort_keys=False))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", metavar="FILE", help="YAML file with the lists")
    main(parser.parse_args().source)
