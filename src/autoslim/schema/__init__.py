"""The typed schema: every key, its type, default, unit and range.

A plain dataclass per config group, checked when it is made, from YAML files or in Python alike. Nothing here
imports TensorFlow, so that a mistake on the command line is answered at once.
"""

from autoslim.kinds import METHODS
from autoslim.schema.arch import (
    ArchConfig,
    CustomArch,
    ImageNetArch,
    KerasApplication,
    KerasFile,
    MobileNetV2,
    ResNet,
    WideResNet,
)
from autoslim.schema.config import STAGES, UNASKED, Config
from autoslim.schema.dataset import CROPS, DATASETS, NORMALIZATIONS, SOURCES, DatasetConfig
from autoslim.schema.export import EXPORT_FORMATS, ExportConfig
from autoslim.schema.slimming import (
    LimitsConfig,
    SearchOptions,
    SlimConfig,
)
from autoslim.schema.task import TASKS, TaskConfig
from autoslim.schema.training import (
    SCHEDULES,
    BaselineConfig,
    OptimizerConfig,
    RetrainConfig,
    StageConfig,
    SupernetConfig,
    TrainConfig,
)

__all__ = [
    "ArchConfig",
    "BaselineConfig",
    "CROPS",
    "Config",
    "CustomArch",
    "DATASETS",
    "DatasetConfig",
    "EXPORT_FORMATS",
    "ExportConfig",
    "ImageNetArch",
    "KerasApplication",
    "KerasFile",
    "LimitsConfig",
    "MobileNetV2",
    "METHODS",
    "NORMALIZATIONS",
    "OptimizerConfig",
    "ResNet",
    "RetrainConfig",
    "SCHEDULES",
    "SOURCES",
    "SearchOptions",
    "STAGES",
    "SlimConfig",
    "TASKS",
    "TaskConfig",
    "StageConfig",
    "SupernetConfig",
    "TrainConfig",
    "UNASKED",
    "WideResNet",
]
