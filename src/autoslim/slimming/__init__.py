"""Slimming: levels of widths, the sandwich rule, the greedy search, batch-norm calibration."""
