"""The stages of an experiment: each resumable, each in a folder named by what it depends on."""

from autoslim.stages.pipeline import Outcome, run_stages

__all__ = ["Outcome", "run_stages"]
