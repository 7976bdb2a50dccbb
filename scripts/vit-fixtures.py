#!/usr/bin/env python3
"""Writes crates/vit/tests/fixtures: small random models, images, and what transformers makes of them.

Needs Python 3.11 and
    pip install torch==2.9.1 transformers==5.23.0 pillow==13.0.0 numpy==2.4.6 safetensors==0.8.0

Every model folder holds config.json, weights, usually preprocessor_config.json, and expected.safetensors:
    pixels   u8 [B, 3, H, W], the model's input being pixels / 127.5 - 1
    tokens   f32 [B, T, D], last_hidden_state
images/ holds the inputs of the preprocessing tests and pixels/ one safetensors file for every processor:
    <image name>   u8 [3, H, W], the processor's output before rescaling
"""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import Dinov2Config, Dinov2ForImageClassification, Dinov2Model
from transformers import ViTConfig, ViTForImageClassification, ViTModel
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

ROOT = Path(__file__).resolve().parent.parent / "crates/vit/tests/fixtures"


def randomise(model, seed):
    """Weights far from their initial values, so that every tensor matters to the result."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.named_parameters():
        noise = torch.randn(tensor.shape, generator=generator)
        if "norm" in name and name.endswith("weight") or "lambda" in name or "layer_scale" in name:
            tensor.data = 1 + 0.3 * noise
        elif tensor.dim() >= 2 and "embeddings" not in name:
            tensor.data = noise * 1.5 / math.sqrt(tensor.shape[1])
        else:
            tensor.data = 0.4 * noise
    return model.eval()


def write_model(name, model, seed, size, processor=None, inner=None, dtype=None, **save):
    folder = ROOT / "models" / name
    randomise(model, seed)
    if dtype:
        model.to(dtype)
    model.save_pretrained(folder, **save)
    if processor:
        processor = {"do_rescale": True, "do_normalize": True, **processor}
        (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=2) + "\n")
    model.to(torch.float32)
    generator = torch.Generator().manual_seed(seed + 1)
    pixels = torch.randint(0, 256, (2, 3, *size), generator=generator, dtype=torch.uint8)
    with torch.no_grad():
        tokens = getattr(model, inner or "", model)(pixels / 127.5 - 1).last_hidden_state
    save_file({"pixels": pixels, "tokens": tokens.contiguous()}, folder / "expected.safetensors")


HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}


def exact(side, **more):
    return {"image_processor_type": "ViTImageProcessor", "size": {"height": side, "width": side}, **HALF, **more}


def crop(side, **more):
    return {
        "image_processor_type": "BitImageProcessor", "size": {"shortest_edge": side + 3}, "resample": 3,
        "do_center_crop": True, "crop_size": {"height": side, "width": side}, **HALF, **more,
    }


def models():
    vit = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40, image_size=16,
               patch_size=4)
    dino = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=4, mlp_ratio=2, image_size=20, patch_size=4)
    write_model("vit", ViTModel(ViTConfig(**vit)), 1, (16, 16), exact(16))
    write_model(
        "vit-plain",
        ViTModel(ViTConfig(**{**vit, "hidden_size": 30, "num_attention_heads": 5, "image_size": [12, 20],
                              "patch_size": [4, 5], "qkv_bias": False, "layer_norm_eps": 1e-3,
                              "hidden_act": "gelu_pytorch_tanh"}), add_pooling_layer=False),
        2, (12, 20), exact(12, size={"height": 12, "width": 20}))
    write_model(
        "vit-classifier", ViTForImageClassification(ViTConfig(**vit, hidden_act="quick_gelu", num_labels=3)), 3,
        (16, 16), inner="vit")
    write_model("vit-f16", ViTModel(ViTConfig(**vit, hidden_act="relu")), 4, (16, 16), exact(16), dtype=torch.float16)
    write_model("dinov2", Dinov2Model(Dinov2Config(**dino)), 5, (20, 20), crop(20))
    # A crop that differs from image_size, and is no multiple of the patch.
    write_model("dinov2-interpolated", Dinov2Model(Dinov2Config(**{**dino, "num_hidden_layers": 1})), 6, (14, 14), crop(14))
    write_model(
        "dinov2-swiglu-sharded",
        Dinov2ForImageClassification(Dinov2Config(**dino, use_swiglu_ffn=True, qkv_bias=False, num_labels=2)), 7,
        (28, 20), crop(20, crop_size={"height": 28, "width": 20}), inner="dinov2", dtype=torch.bfloat16,
        max_shard_size="8KB")


def picture(height, width, seed):
    """Smooth colour, a grating and noise: what resampling and JPEG treat differently."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    smooth = np.stack([x * 255 / width, y * 255 / height, (x + y) * 255 / (width + height)], -1)
    grating = 60 * np.sin(x * 1.1 + y * 0.4)[..., None]
    return np.clip(smooth + grating + rng.normal(0, 25, (height, width, 3)), 0, 255).astype(np.uint8)


def images():
    folder = ROOT / "images"
    folder.mkdir(parents=True)
    rgb = Image.fromarray(picture(37, 53, 1))
    alpha = Image.fromarray(picture(37, 53, 2)[..., 0])
    rgb.save(folder / "rgb.png")
    rgb.convert("L").save(folder / "grey.png")
    Image.merge("LA", (rgb.convert("L"), alpha)).save(folder / "grey-alpha.png")
    Image.merge("RGBA", (*rgb.split(), alpha)).save(folder / "rgba.png")
    rgb.quantize(32).save(folder / "palette.png")
    rgb.convert("1").save(folder / "one-bit.png")
    rgb.save(folder / "rgb.tif", compression="tiff_lzw")
    rgb.convert("CMYK").save(folder / "cmyk.tif", compression="tiff_lzw")
    rgb.save(folder / "444.jpg", quality=90, subsampling=0)
    rgb.save(folder / "420.jpg", quality=90, subsampling=2)
    rgb.save(folder / "progressive.jpg", quality=80, subsampling=0, progressive=True)
    rgb.convert("L").save(folder / "grey.jpg", quality=90)
    rgb.convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    exif = Image.Exif()
    exif[0x0112] = 6
    rgb.save(folder / "rotated.jpg", quality=90, subsampling=0, exif=exif)
    Image.fromarray(picture(9, 70, 3)).save(folder / "strip.png")
    Image.fromarray(picture(150, 100, 4)[:83, :51]).save(folder / "tall.png")
    Image.fromarray(np.array([[0, 255, 256, 32768, 65535]] * 5, dtype=np.uint16)).save(folder / "grey16.png")


# Outputs are compared before rescaling, as bytes; the arithmetic after that is tested by itself.
RAW = {"do_rescale": False, "do_normalize": False}
PROCESSORS = {
    "nearest": (ViTImageProcessorPil, {"size": 20, "resample": 0}),
    "lanczos": (ViTImageProcessorPil, {"size": {"height": 24, "width": 31}, "resample": 1}),
    "bilinear": (ViTImageProcessorPil, {"size": {"height": 16, "width": 16}, "resample": 2}),
    "bicubic": (ViTImageProcessorPil, {"size": {"height": 48, "width": 41}, "resample": 3}),
    "crop": (BitImageProcessorPil, {"size": {"shortest_edge": 23}, "resample": 3, "crop_size": 20}),
    "pad": (BitImageProcessorPil, {"size": 13, "resample": 2, "crop_size": {"height": 21, "width": 40}}),
    "no-resize": (BitImageProcessorPil, {"do_resize": False, "crop_size": {"height": 11, "width": 60}}),
}


def pixels():
    folder = ROOT / "pixels"
    folder.mkdir()
    for name, (kind, options) in PROCESSORS.items():
        processor = kind(**options, **RAW)
        outputs = {}
        for path in sorted((ROOT / "images").iterdir()):
            if path.name == "grey16.png":
                continue
            image = Image.open(path).convert("RGB")
            array = processor(image, return_tensors="np")["pixel_values"][0]
            outputs[path.name] = torch.from_numpy(np.ascontiguousarray(array.astype(np.uint8)))
        save_file(outputs, folder / f"{name}.safetensors")
        (folder / f"{name}.json").write_text(json.dumps({
            "image_processor_type": kind.__name__.removesuffix("Pil"), **options, **RAW}) + "\n")


def normalised():
    """The arithmetic after resampling: a ramp of all bytes through rescaling and normalisation."""
    options = {"size": 16, "resample": 0, "rescale_factor": 0.00392156862745098,
               "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = Image.fromarray(np.stack([ramp, ramp[::-1], ramp.T], -1))
    image.save(ROOT / "ramp.png")
    values = ViTImageProcessorPil(**options)(image, return_tensors="np")["pixel_values"][0]
    save_file({"values": torch.from_numpy(values)}, ROOT / "ramp.safetensors")
    (ROOT / "ramp.json").write_text(json.dumps({"image_processor_type": "ViTImageProcessor", **options}) + "\n")


if __name__ == "__main__":
    shutil.rmtree(ROOT, ignore_errors=True)
    torch.manual_seed(0)
    models()
    images()
    pixels()
    normalised()
