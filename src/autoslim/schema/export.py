"""Files for deployment."""

from dataclasses import dataclass

from autoslim.schema.checks import key, need, one_of

EXPORT_FORMATS = ("keras", "saved_model", "litert", "litert_float16", "litert_int8", "onnx")


@dataclass
class ExportConfig:
    """Files for deployment, each checked by its own runtime."""

    formats: list[str] = key(["keras", "litert"], f"formats to write, of: {', '.join(EXPORT_FORMATS)}")
    images: int = key(500, "test images on which each file is run and compared")
    calibration_images: int = key(200, "training images from which int8 takes its ranges")

    def __post_init__(self) -> None:
        need(bool(self.formats), "export.formats", self.formats, f"some of: {', '.join(EXPORT_FORMATS)}")
        for name in self.formats:
            one_of("export format", name, EXPORT_FORMATS)
        self.formats = list(dict.fromkeys(self.formats))
        need(self.images >= 1, "export.images", self.images, "at least 1")
        count = self.calibration_images
        need(count >= 1, "export.calibration_images", count, "at least 1")
