"""The networks that the authors of AutoSlim published: built from their lists, and slimmed to them."""

from pathlib import Path

import pytest
import yaml

from autoslim import ChannelGraph, archs

GOLDEN = yaml.safe_load((Path(__file__).parent / "golden" / "published_channels.yaml").read_text())
NETWORKS = {
    "mobilenet_v1": archs.mobilenet_v1,
    "mobilenet_v2": archs.mobilenet_v2_imagenet,
    "mnasnet": archs.mnasnet,
    "resnet50": archs.resnet50,
}
SUPERNET_WIDTHS = {"mobilenet_v1": 1.1, "mobilenet_v2": 1.5, "mnasnet": 1.5, "resnet50": 1.0}
SHAPE, CLASSES = (224, 224, 3), 1000

# What the three lists without published figures cost: multiply-accumulates as their names say, in millions.
PREDICTED = {"autoslim_217m": 217, "autoslim_315m": 315, "autoslim_532m": 532}


@pytest.fixture(scope="module")
def supernets():
    return {
        arch: ChannelGraph(NETWORKS[arch](SHAPE, CLASSES, width=width))
        for arch, width in SUPERNET_WIDTHS.items()
    }


def by_hand(model):
    """MACs and parameters of a Keras model, counted layer by layer from its own shapes."""
    macs = params = 0
    for layer in model.layers:
        kind, weights = type(layer).__name__, layer.get_weights()
        positions = layer.output.shape[1:-1]
        if kind in ("Conv2D", "DepthwiseConv2D"):
            macs += weights[0].size * positions[0] * positions[1]
        elif kind == "Dense":
            macs += weights[0].size
        params += sum(w.size for w in layer.get_weights()[: 2 if kind == "BatchNormalization" else None])
    return macs, params


PUBLISHED = [  # of ResNet-50, which is slow to build, one is enough where time is short
    pytest.param(
        entry, id=name, marks=pytest.mark.long if name[:8] == "resnet50" and "570m" not in name else ()
    )
    for entry in GOLDEN["networks"]
    for name in [f"{entry['arch']}-{entry['name']}"]
]


@pytest.mark.parametrize("entry", PUBLISHED)
def test_published_channels(entry, supernets):
    """Directly from the list and by materialising the supernet: the same MACs and parameters."""
    direct = NETWORKS[entry["arch"]](SHAPE, CLASSES, channels=entry["channels"][:-1])
    supernet = supernets[entry["arch"]]
    channels = {group.name: direct.get_layer(group.name).filters for group in supernet.slimmable}
    widths = supernet.widths_from(channels)
    small = supernet.materialize(widths)
    assert by_hand(direct) == by_hand(small)
    cost = supernet.cost(widths)
    assert (cost.flops, cost.params) == by_hand(direct)
    if "macs" in entry:
        assert (cost.flops, cost.params) == (entry["macs"], entry["params"])
    else:
        assert round(cost.flops / 1e6) == PREDICTED[entry["name"]]


@pytest.mark.parametrize("entry", GOLDEN["uniform"], ids=lambda e: f"{e['arch']}-{e['width']}")
def test_width_multipliers(entry):
    model = NETWORKS[entry["arch"]](SHAPE, CLASSES, width=entry["width"])
    assert by_hand(model) == (entry["macs"], entry["params"])


@pytest.mark.parametrize(
    ("build", "channels", "message"),
    [
        (
            archs.mobilenet_v1,
            [8] * 13,
            "channels has 13 entries: expected 14 whole numbers of at least 1, one for each convolution of "
            "the network in its order.",
        ),
        (
            archs.resnet50,
            [8, 16, 8, 8, 24, *[8] * 48],
            "channels: stage 1 of resnet50 joins 16 and 24 channels by addition; expected one number of "
            "outputs in a stage.",
        ),
        (
            archs.mnasnet,
            [8, 8, 24, 16, 24, 24, *[8] * 29],
            "channels: stage2_block2_add joins 16 and 24 channels; expected one number of outputs for the "
            "blocks of a stage.",
        ),
    ],
)
def test_impossible_lists(build, channels, message):
    with pytest.raises(ValueError) as caught:
        build(SHAPE, CLASSES, channels=channels)
    assert str(caught.value) == message
