"""Training: the loop that baseline, supernet and retraining share, and the steps in which they differ."""
