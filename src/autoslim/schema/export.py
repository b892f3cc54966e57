"""Files for deployment."""

from dataclasses import dataclass
from typing import ClassVar

from autoslim.schema.checks import Options, key

EXPORT_FORMATS = ("keras", "saved_model", "litert", "litert_float16", "litert_int8", "onnx")


@dataclass
class ExportConfig(Options):
    """Files for deployment, each checked by its own runtime."""

    section: ClassVar[str] = "export"

    formats: list[str] = key(
        ["keras", "litert"],
        f"formats to write, of: {', '.join(EXPORT_FORMATS)}",
        words=EXPORT_FORMATS,
        holds=bool,
        expected=f"some of: {', '.join(EXPORT_FORMATS)}",
    )
    images: int = key(500, "test images on which each file is run and compared", least=1)
    calibration_images: int = key(200, "training images from which int8 takes its ranges", least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.formats = list(dict.fromkeys(self.formats))
