"""Trained networks as files that others load: a timm folder, an ONNX model, a model card.

Every file is read back and compared with the model before it takes its place. The model that is exported is the
network as it is, with the stem stride that it was built with (`model.stem_stride`).
"""

from starsearch.export.card import CardFacts, model_card
from starsearch.export.onnx import build_onnx
from starsearch.export.onnx_file import export_onnx
from starsearch.export.timm import Preprocessing, export_timm, needs_starsearch, timm_arguments
from starsearch.export.verification import check_onnx, compare_with_torch
from starsearch.export.weights import random_weights, state_dict_arrays

__all__ = [
    "CardFacts",
    "Preprocessing",
    "build_onnx",
    "check_onnx",
    "compare_with_torch",
    "export_onnx",
    "export_timm",
    "model_card",
    "needs_starsearch",
    "random_weights",
    "state_dict_arrays",
    "timm_arguments",
]
