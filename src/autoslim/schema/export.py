"""Files for deployment."""

from dataclasses import dataclass
from typing import ClassVar

from autoslim.schema.checks import Options, key, need

EXPORT_FORMATS = ("keras", "saved_model", "litert", "litert_float16", "litert_int8", "onnx")
PREPROCESSING = ("outside", "inside")


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

    preprocessing: str = key(
        "outside",
        "crop, resizing, normalisation: outside or inside the file, which then takes uint8 pixels",
        words=PREPROCESSING,
    )
    input_size: list[int] | None = key(
        None,
        "of preprocessing=inside: height, width that files take, pixels; null: any (int8, float16 need one)",
        length=2,
        least=1,
        expected="expected [height, width], each at least 1, or null",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        need(
            self.input_size is None or self.preprocessing == "inside",
            "export.input_size",
            self.input_size,
            "files take the size of dataset.shape unless export.preprocessing=inside",
        )
        self.formats = list(dict.fromkeys(self.formats))
