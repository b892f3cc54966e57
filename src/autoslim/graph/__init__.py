"""The channel graph of a Keras model: traced once, read by run, cost, search and materialize."""

from autoslim.graph.channel_graph import ChannelGraph
from autoslim.graph.cost import LayerCost, layer_costs_csv
from autoslim.graph.groups import ChannelGroup
from autoslim.graph.options import RunOptions
from autoslim.graph.rules import LayerRule, Unsupported, keep_whole, register_rule
from autoslim.graph.segments import Segments
from autoslim.resources import Cost

__all__ = [
    "ChannelGraph",
    "ChannelGroup",
    "Cost",
    "LayerCost",
    "LayerRule",
    "RunOptions",
    "Segments",
    "Unsupported",
    "keep_whole",
    "layer_costs_csv",
    "register_rule",
]
