"""How the trained networks of a run are evaluated and written: all in the same way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras

from autoslim.graph import ChannelGraph
from autoslim.metrics import kept_values
from autoslim.schema.training import StageConfig
from autoslim.slimming.calibrate import calibrate
from autoslim.stages.chance import Chance
from autoslim.stages.images import Images
from autoslim.stages.macs import TRAINING, billed, trained_images
from autoslim.stages.store import MODEL, StageFolder, writes
from autoslim.stages.warn import failed
from autoslim.stages.weights import save_weights
from autoslim.tasks import Outputs
from autoslim.training.evaluate import Evaluation, evaluate


@dataclass(frozen=True)
class Judge:
    """Evaluates networks on the test images."""

    images: Images
    task: Outputs
    chance: Chance  # on the test images
    image_shape: tuple[int, ...] | None  # of images that costs are for, see `ChannelGraph`
    convention: str  # how costs are counted, see `ChannelGraph.cost`
    unit: int  # multiply-accumulates of one baseline training

    def curves(self, model: keras.Model) -> dict[str, float]:
        """Metrics of a network as it is in mid-training, for the curves."""
        return measured(evaluate(model, self.images.test(), self.task), "test/")

    def finish(
        self,
        folder: StageFolder,
        model: keras.Model,
        history: Sequence[dict[str, float]],
        section: StageConfig,
        teacher_macs: int = 0,
    ) -> dict[str, Any]:
        """Calibrate, save and evaluate a network that a stage trained, and write the stage's result.

        Args:
            folder: of the stage.
            model: trained.
            history: a dict of mean metrics for each epoch that was trained.
            section: of the configuration by which it was trained, nothing of it null.
            teacher_macs: multiply-accumulates of a teacher's pass for one image.
        """
        graph = self._graph(model)
        calibrate(graph, self.images.calibration())
        images = trained_images(self.images.training(), len(history))
        result = self.evaluated(folder, model, (TRAINING * graph.cost().flops + teacher_macs) * images)
        warning = failed(self.chance, kept_values(result), section)
        return folder.finish({**result, **warning, "history": history})

    def evaluated(self, folder: StageFolder, model: keras.Model, macs: float) -> dict[str, Any]:
        """Save a network and evaluate it: `store.NETWORK_FIELDS`.

        Args:
            folder: of the stage.
            model: as it is to be used.
            macs: multiply-accumulates that its training took.
        """
        if writes():
            model.save(folder.path / MODEL)
        save_weights(model, folder)
        final = evaluate(model, self.images.test(), self.task)
        classes = self.images.data.class_names
        cost = self._graph(model).cost(None, self.convention)
        return {
            "metric": final.measure.name,
            final.measure.name: final.metric,
            "loss": final.loss,
            "test_images": len(final.values),
            **final.measure.kept(final.values),
            **cost.row(),
            **billed(macs, self.unit),
            "normalization": self.images.normalization(),
            **({"classes": list(classes)} if classes else {}),
        }

    def _graph(self, model: keras.Model) -> ChannelGraph:
        return ChannelGraph(model, image_shape=self.image_shape)


def measured(found: Evaluation, prefix: str) -> dict[str, float]:
    """Loss and metric by their names in the curves."""
    return {f"{prefix}loss": found.loss, f"{prefix}{found.measure.name}": found.metric}
