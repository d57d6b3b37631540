"""Trained networks as files that others load: a timm folder, ONNX models, a Core ML package, a model card.

Every file is read back and compared with the model before it takes its place. The model that is exported is the
network as it is, with the stem stride that it was built with (`model.stem_stride`).
"""

from starsearch.export.card import CardFacts, model_card
from starsearch.export.coreml import build_coreml, export_coreml
from starsearch.export.coreml_verification import CoreMLCheck
from starsearch.export.int8 import build_int8_onnx, export_int8_onnx
from starsearch.export.onnx import build_onnx
from starsearch.export.onnx_file import export_onnx
from starsearch.export.padding import pad_weights
from starsearch.export.timm import export_timm, needs_starsearch, timm_arguments
from starsearch.export.verification import check_onnx, compare_with_torch
from starsearch.export.weights import random_weights, state_dict_arrays

__all__ = [
    "CardFacts",
    "CoreMLCheck",
    "build_coreml",
    "build_int8_onnx",
    "build_onnx",
    "check_onnx",
    "compare_with_torch",
    "export_coreml",
    "export_int8_onnx",
    "export_onnx",
    "export_timm",
    "model_card",
    "needs_starsearch",
    "pad_weights",
    "random_weights",
    "state_dict_arrays",
    "timm_arguments",
]
