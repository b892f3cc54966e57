"""The channel graph of a Keras model: traced once, read by run, cost, search and materialize."""

from autoslim.graph.channel_graph import ChannelGraph
from autoslim.graph.cost import Cost, LayerCost
from autoslim.graph.groups import ChannelGroup

__all__ = ["ChannelGraph", "ChannelGroup", "Cost", "LayerCost"]
