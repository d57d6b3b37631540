"""Classify a picture with a network of this folder: python THIS_SCRIPT.py PICTURE [FILE].

Needs numpy, pillow, and what runs the file: onnxruntime (.onnx), torch (.pt2), openvino (.xml), ai-edge-litert
(.tflite) or executorch (.pte). The metadata of an ONNX file, or about.json beside another, say how a picture is
prepared and what the outputs mean.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps


def load(file: Path) -> tuple[Callable[[Any], Any], dict[str, Any]]:
    """Return what gives the logits (1, classes) of an image (1, 3, height, width), and what is said about the file."""
    if file.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(file)
        said = session.get_modelmeta().custom_metadata_map
        about = {key: json.loads(said[key]) for key in ("preprocessing", "class_names")}
        return lambda image: session.run(None, {session.get_inputs()[0].name: image})[0], about
    about = json.loads((file.parent / "about.json").read_text(encoding="utf-8"))
    if file.suffix == ".xml":
        import openvino

        # In bfloat16, which some processors would take by themselves, logits are only similar.
        network = openvino.compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return lambda image: network(image)[0], about
    if file.suffix == ".tflite":
        from ai_edge_litert.interpreter import Interpreter

        signature = Interpreter(str(file)).get_signature_runner()
        (entry,), (answer,) = signature.get_input_details(), signature.get_output_details()
        return lambda image: signature(**{entry: image})[answer], about
    import torch

    if file.suffix == ".pte":
        from executorch.runtime import Runtime

        method = Runtime.get().load_program(file).load_method("forward")
        return lambda image: method.execute([torch.from_numpy(image)])[0].numpy(), about
    module = torch.export.load(file).module()
    return lambda image: module(torch.from_numpy(image)).detach().numpy(), about


def prepare(picture: Image.Image, prepared: dict[str, Any]) -> Any:
    """Return a picture as the network was trained to see it, (1, 3, height, width) in float32."""
    if picture.mode.startswith("I"):  # grey in 16 bits; Pillow would cut off what is above 255
        picture = picture.convert("I").point(lambda value: value * (1 / 257) + 0.5).convert("L")
    if prepared["orientation"] == "exif":  # upright, as the pictures it was trained on
        picture = ImageOps.exif_transpose(picture)
    white = Image.new("RGBA", picture.size, "white")  # under what is transparent
    picture = Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
    height, *other = map(int, str(prepared["resolution"]).split("x"))  # 224 or "192x320"
    width = other[0] if other else height
    covered = [int(side / prepared["crop_pct"]) for side in (width, height)]
    length, side = max(zip(picture.size, covered, strict=True), key=lambda pair: pair[1] / pair[0])
    rounded = int if width == height else round  # as torchvision and timm do
    size = [rounded(side * one / length) for one in picture.size]
    picture = picture.resize(size, Image.Resampling[prepared["interpolation"].upper()])
    left, top = (round((length - side) / 2) for length, side in zip(picture.size, (width, height), strict=True))
    picture = picture.crop((left, top, left + width, top + height))
    image = (np.asarray(picture, np.float32) / 255 - np.float32(prepared["mean"])) / np.float32(prepared["std"])
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None])


if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else "PICTURE"
    try:
        picture = Image.open(name)
        picture.load()
    except Exception as error:  # Pillow raises what it likes on damaged files
        print(f"error: {name} cannot be read: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
        sys.exit(2)
    beside = Path(__file__).resolve().parent
    known = [path for path in beside.iterdir() if path.suffix in (".onnx", ".pt2", ".xml", ".tflite", ".pte")]
    answer, about = load(Path(sys.argv[2]) if len(sys.argv) > 2 else min(known, key=lambda path: len(path.name)))
    (logits,) = answer(prepare(picture, about["preprocessing"]))
    probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    names = about["class_names"]
    for output in probabilities.argsort()[::-1][:5]:
        print(f"{probabilities[output]:7.2%}  {names[output] if names else output}")
