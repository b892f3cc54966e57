"""The models that `library_models.py` runs: name -> how it is built, without trained weights."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

SIZE = 64  # height and width of the images
CLASSES = 10
IMAGE = (SIZE, SIZE, 3)


def _get(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _made(path: str, *args: Any, **kwargs: Any) -> Callable[[], Any]:
    """A builder: the function or class at `path`, called when the model is wanted."""
    return lambda: _get(path)(*args, **kwargs)


def _kimm(name: str, size: int = SIZE) -> Callable[[], Any]:
    return _made(
        f"kimm.models.{name}",
        input_shape=(size, size, 3),
        include_preprocessing=False,
        weights=None,
        classes=CLASSES,
    )


def _hub(kind: str, **config: Any) -> Callable[[], Any]:
    """The classifier of keras-hub around a backbone of this configuration."""

    def build() -> Any:
        config.setdefault("image_shape", IMAGE)
        if kind == "EfficientNet":
            config["input_shape"] = config.pop("image_shape")
        backbone = _get(f"keras_hub.models.{kind}Backbone")(**config)
        classifier = _get(f"keras_hub.models.{kind}ImageClassifier")
        return classifier(backbone=backbone, preprocessor=None, num_classes=CLASSES)

    return build


def _hub_backbone(kind: str, **config: Any) -> Callable[[], Any]:
    return lambda: _get(f"keras_hub.models.{kind}Backbone")(**{"image_shape": IMAGE, **config})


_EFFICIENTNET = {
    "stackwise_width_coefficients": [1.0] * 3,
    "stackwise_depth_coefficients": [1.0] * 3,
    "stackwise_kernel_sizes": [3, 3, 5],
    "stackwise_num_repeats": [1, 2, 2],
    "stackwise_input_filters": [32, 16, 24],
    "stackwise_output_filters": [16, 24, 40],
    "stackwise_expansion_ratios": [1, 6, 6],
    "stackwise_strides": [1, 2, 2],
    "stackwise_squeeze_and_excite_ratios": [0.25, 0.25, 0.25],
}
_MOBILENET = {
    "stackwise_expansion": [[40, 56], [64, 144, 144]],
    "stackwise_num_blocks": [2, 3],
    "stackwise_num_filters": [[16, 16], [24, 24, 24]],
    "stackwise_kernel_size": [[3, 3], [5, 5, 5]],
    "stackwise_num_strides": [[2, 1], [2, 1, 1]],
    "stackwise_se_ratio": [[None, None], [0.25, 0.25, 0.25]],
    "stackwise_activation": [["relu", "relu"], ["hard_swish"] * 3],
    "stackwise_padding": [[1, 1], [2, 2, 2]],
    "output_num_filters": 64,
    "input_num_filters": 16,
    "input_activation": "hard_swish",
    "output_activation": "hard_swish",
    "depthwise_filters": 8,
    "depthwise_stride": 2,
    "depthwise_residual": False,
    "squeeze_and_excite": 0.5,
    "last_layer_filter": 128,
}
_RESNET = {
    "input_conv_filters": [64],
    "input_conv_kernel_sizes": [7],
    "stackwise_num_filters": [64, 128, 256],
    "stackwise_num_blocks": [2, 2, 2],
    "stackwise_num_strides": [1, 2, 2],
}
_CSPNET = {
    "stem_filters": 32,
    "stem_kernel_size": 3,
    "stem_strides": 1,
    "stackwise_depth": [1, 2, 2],
    "stackwise_strides": [1, 2, 2],
    "stackwise_num_filters": [32, 64, 96],
    "bottle_ratio": [0.5],
    "block_ratio": [1.0],
    "expand_ratio": [2.0],
}
_MIT = {
    "layerwise_depths": [2, 2],
    "num_layers": 2,
    "layerwise_num_heads": [1, 2],
    "layerwise_sr_ratios": [8, 4],
    "max_drop_path_rate": 0.1,
    "layerwise_patch_sizes": [7, 3],
    "layerwise_strides": [4, 2],
    "hidden_dims": [32, 64],
}
_VIT = {"patch_size": 16, "num_layers": 3, "num_heads": 4, "hidden_dim": 64}
_HGNET = {
    "depths": [1, 1, 2, 1],
    "embedding_size": 32,
    "hidden_sizes": [64, 128, 256, 512],
    "stem_channels": [3, 16, 32],
    "hidden_act": "relu",
    "use_learnable_affine_block": True,
    "stackwise_stage_filters": [
        [32, 16, 64, 1, 3, 3],
        [64, 32, 128, 1, 3, 3],
        [128, 64, 256, 2, 3, 5],
        [256, 64, 512, 1, 3, 5],
    ],
    "apply_downsample": [False, True, True, True],
    "use_lightweight_conv_block": [False, False, True, True],
}

# fmt: off
_KIMM = [
    "ConvMixer736D32", "ConvNeXtAtto", "DenseNet121", "EfficientNetB0", "EfficientNetLiteB0",
    "EfficientNetV2B0", "GhostNetW050", "GhostNetV2W100", "GhostNetV3W050", "HGNetTiny", "HGNetV2B0",
    "InceptionNeXtTiny", "LCNet050", "MobileNetV2W050", "MobileNetV3W050Small", "MobileOneS0",
    "MobileViTXXS", "MobileViTV2W050", "RegNetX002", "RegNetY002", "RepVGGA0", "ResNet18", "ResNet50",
    "TinyNetE", "VisionTransformerTiny16",
]
# fmt: on
# fmt: off
_MEDICAI = [
    "ConvNeXtTiny", "ConvNeXtV2Atto", "DenseNet121", "EfficientNetB0", "EfficientNetV2B0", "ResNet18",
    "ResNet50v2", "ResNet50vd", "ResNeXt50", "SEResNet18", "SwinTiny", "SwinTinyV2", "ViTBase",
    "Xception", "MixViTB0",
]
# fmt: on
_UNETS: dict[str, dict[str, Any]] = {
    "unet_2d": {"filter_num": [16, 32, 64]},
    "unet_plus_2d": {"filter_num": [16, 32, 64]},
    "r2_unet_2d": {"filter_num": [16, 32, 64]},
    "att_unet_2d": {"filter_num": [16, 32, 64]},
    "u2net_2d": {"filter_num_down": [16, 32, 64]},
    "unet_3plus_2d": {"filter_num_down": [16, 32, 64], "filter_num_skip": "auto"},
}
_TOKENS: dict[str, Any] = {"image_size": SIZE, "patch_size": 16, "num_classes": CLASSES}
_TRANSFORMER: dict[str, Any] = {**_TOKENS, "dim": 64, "depth": 2, "heads": 4, "mlp_dim": 128}
_MIXED: dict[str, Any] = {**_TOKENS, "embedding_dim": 64, "num_blocks": 2, "dropout_rate": 0.1}
_K3IM: dict[str, dict[str, Any]] = {
    "vit.ViT": _TRANSFORMER,
    "simple_vit.SimpleViT": _TRANSFORMER,
    "mlp_mixer.MlpMixer": {},
    "convmixer.ConvMixer": {},
    "cct.CCT": {
        "input_shape": IMAGE,
        "num_heads": 4,
        "projection_dim": 64,
        "kernel_size": 3,
        "stride": 1,
        "padding": 1,
        "transformer_units": [64, 64],
        "stochastic_depth_rate": 0.1,
        "transformer_layers": 2,
        "num_classes": CLASSES,
    },
    "gmlp.gMLPModel": _MIXED,
    "fnet.FNetModel": _MIXED,
    "eanet.EANet": {
        "input_shape": IMAGE,
        "patch_size": 16,
        "embedding_dim": 64,
        "num_transformer_blocks": 2,
        "mlp_dim": 64,
        "num_heads": 4,
        "dim_coefficient": 4,
        "attention_dropout": 0.1,
        "projection_dropout": 0.1,
        "num_classes": CLASSES,
    },
    "token_learner.ViTokenLearner": {**_TRANSFORMER, "token_learner_units": 2},
    "swint.SwinTModel": {
        "img_size": SIZE,
        "patch_size": (4, 4),
        "embed_dim": 32,
        "num_heads": 4,
        "window_size": 2,
        "num_mlp": 64,
        "qkv_bias": True,
        "dropout_rate": 0.1,
        "shift_size": 1,
        "num_classes": CLASSES,
    },
    "focalnet.FocalNetModel": {"img_size": SIZE},
    "cait.CaiTModel": {**_TRANSFORMER, "cls_depth": 1},
}
# fmt: off
_ZERO = [
    "resnet.ResNet", "efficientnet.EfficientNet", "mobilenetv3.MobileNetV3", "convnext.ConvNeXt",
    "convnextv2.ConvNeXtV2", "densenet.DenseNet", "mobilevit.MobileViT", "poolformer.PoolFormer",
    "regnet.RegNet", "res2net.Res2Net", "senet.SENet", "xception.Xception", "mlp_mixer.MLPMixer",
    "resmlp.ResMLP", "swin.Swin", "vit.ViT", "pvt_v2.PvtV2", "nextvit.NextViT", "levit.Levit",
]
# fmt: on

MODELS: dict[str, Callable[[], Any]] = {
    "keras-hub EfficientNet": _hub("EfficientNet", **_EFFICIENTNET, stackwise_block_types=["v1"] * 3),
    "keras-hub EfficientNetV2": _hub("EfficientNet", **_EFFICIENTNET, stackwise_block_types=["fused"] * 3),
    "keras-hub MobileNet": _hub("MobileNet", **_MOBILENET),
    "keras-hub ResNet": _hub("ResNet", **_RESNET, block_type="basic_block"),
    "keras-hub ResNetV2": _hub("ResNet", **_RESNET, block_type="bottleneck_block", use_pre_activation=True),
    "keras-hub CSPNet": _hub("CSPNet", **_CSPNET, block_type="dark_block", stage_type="csp"),
    "keras-hub DarkNet": _hub("CSPNet", **_CSPNET, block_type="dark_block", stage_type="dark"),
    "keras-hub DenseNet": _hub("DenseNet", stackwise_num_repeats=[2, 4, 6]),
    "keras-hub HGNetV2": _hub("HGNetV2", **_HGNET),
    "keras-hub Xception": _hub(
        "Xception", stackwise_conv_filters=[[32, 64], [128, 128], [256, 256]], stackwise_pooling=[True] * 3
    ),
    "keras-hub MiT": _hub("MiT", **_MIT),
    "keras-hub SwinTransformer": _hub(
        "SwinTransformer", embed_dim=32, depths=[2, 2], num_heads=[2, 4], window_size=4
    ),
    "keras-hub ViT": _hub("ViT", **_VIT, mlp_dim=128),
    "keras-hub DeiT": _hub("DeiT", **_VIT, intermediate_dim=128),
    "keras-hub DINOV2": _hub_backbone(
        "DINOV2", **_VIT, intermediate_dim=128, position_embedding_shape=IMAGE, use_mask_token=False
    ),
    **{f"kimm {name}": _kimm(name) for name in _KIMM},
    "kimm InceptionV3": _kimm("InceptionV3", 80),
    "kimm Xception": _kimm("Xception", 80),
    **{
        f"medicai {name}": _made(f"medicai.models.{name}", input_shape=IMAGE, num_classes=CLASSES)
        for name in _MEDICAI
    },
    "medicai UNet": _made(
        "medicai.models.UNet", input_shape=IMAGE, encoder_name="resnet18", num_classes=CLASSES
    ),
    "medicai AttentionUNet": _made(
        "medicai.models.AttentionUNet", input_shape=IMAGE, encoder_name="resnet18", num_classes=CLASSES
    ),
    "medicai DeepLabV3Plus": _made(
        "medicai.models.DeepLabV3Plus", input_shape=IMAGE, encoder_name="resnet50", num_classes=CLASSES
    ),
    "medicai SegFormer": _made(
        "medicai.models.SegFormer", input_shape=IMAGE, encoder_name="mit_b0", num_classes=CLASSES
    ),
    **{
        f"keras-unet-collection {name}": _made(
            f"keras_unet_collection.models.{name}", IMAGE, n_labels=3, **config
        )
        for name, config in _UNETS.items()
    },
    **{f"k3im {name}": _made(f"k3im.{name}", **config) for name, config in _K3IM.items()},
    **{
        f"zeromodels {name}": _made(
            f"zeromodels.models.{name}ImageClassify", image_size=SIZE, num_classes=CLASSES
        )
        for name in _ZERO
    },
    **{
        f"kyolo {name}": _made(f"kyolo.{name}", nc=4)
        for name in ("yolov5n", "yolov8n", "yolov9t", "yolov10n", "yolo11n", "yolo12n")
    },
    "keras-vision fastvit_t8": _made(
        "keras_vision.fastvit.fastvit_t8", input_shape=IMAGE, num_classes=CLASSES
    ),
}
