"""Other ways to choose the channels: same images, scores and budgets as the greedy search."""
