"""Classify a picture with an ONNX file of this folder: python run_onnx.py PICTURE [FILE.onnx].

Needs onnxruntime, numpy and pillow. The file's metadata say how a picture is prepared and what the outputs mean.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

file = sys.argv[2] if len(sys.argv) > 2 else min(Path(__file__).parent.glob("*.onnx"), key=lambda path: len(path.name))
session = onnxruntime.InferenceSession(file)
about = session.get_modelmeta().custom_metadata_map
prepared, names = json.loads(about["preprocessing"]), json.loads(about["class_names"])

picture: Image.Image = Image.open(sys.argv[1])
if picture.mode.startswith("I"):  # grey in 16 bits; Pillow would cut off what is above 255
    picture = picture.convert("I").point(lambda value: value * (1 / 257) + 0.5).convert("L")
if prepared["orientation"] == "exif":  # upright, as the pictures it was trained on
    picture = ImageOps.exif_transpose(picture)
white = Image.new("RGBA", picture.size, "white")  # under what is transparent
picture = Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
pixels = prepared["resolution"]
side, shorter = int(pixels / prepared["crop_pct"]), min(picture.size)
size = [side * length // shorter for length in picture.size]
picture = picture.resize(size, Image.Resampling[prepared["interpolation"].upper()])
left, top = (round((length - pixels) / 2) for length in picture.size)
picture = picture.crop((left, top, left + pixels, top + pixels))
image = (np.asarray(picture, np.float32) / 255 - np.float32(prepared["mean"])) / np.float32(prepared["std"])

(logits,) = session.run(None, {session.get_inputs()[0].name: image.transpose(2, 0, 1)[None]})[0]
probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
for output in probabilities.argsort()[::-1][:5]:
    print(f"{probabilities[output]:7.2%}  {names[output] if names else output}")
