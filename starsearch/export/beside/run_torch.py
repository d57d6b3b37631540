"""Classify a picture with the network of this folder: python run_torch.py PICTURE.

Needs torch, pillow and safetensors, and timm where there is no model.py here.
"""

import json
import runpy
import sys
from pathlib import Path

import torch
from PIL import Image, ImageOps

folder = Path(__file__).resolve().parent
config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
names = config.get("label_names") or range(config["num_classes"])
prepared = config["pretrained_cfg"]

name = sys.argv[1] if len(sys.argv) > 1 else "PICTURE"
try:
    picture: Image.Image = Image.open(name)
    picture.load()
except Exception as error:  # Pillow raises what it likes on damaged files
    print(f"error: {name} cannot be read: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
    sys.exit(2)
if picture.mode.startswith("I"):  # grey in 16 bits; Pillow would cut off what is above 255
    picture = picture.convert("I").point(lambda value: value * (1 / 257) + 0.5).convert("L")
if config["starsearch"]["orientation"] == "exif":  # upright, as the pictures it was trained on
    picture = ImageOps.exif_transpose(picture)
white = Image.new("RGBA", picture.size, "white")  # under what is transparent
picture = Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
_, height, width = prepared["input_size"]
covered = [int(side / prepared["crop_pct"]) for side in (width, height)]
length, side = max(zip(picture.size, covered, strict=True), key=lambda pair: pair[1] / pair[0])
rounded = int if width == height else round  # as torchvision and timm do
size = [rounded(side * one / length) for one in picture.size]
picture = picture.resize(size, Image.Resampling[prepared["interpolation"].upper()])
left, top = (round((length - side) / 2) for length, side in zip(picture.size, (width, height), strict=True))
picture = picture.crop((left, top, left + width, top + height))
image = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(height, width, 3) / 255
image = ((image - torch.tensor(prepared["mean"])) / torch.tensor(prepared["std"])).permute(2, 0, 1)

if (folder / "model.py").is_file():
    model = runpy.run_path(str(folder / "model.py"))["load"](folder)
else:
    import timm

    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
with torch.inference_mode():
    probabilities = model(image[None]).softmax(1)[0]
for output in probabilities.argsort(descending=True)[:5]:
    print(f"{probabilities[output]:7.2%}  {names[output]}")
