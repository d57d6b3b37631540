"""`starsearch doctor` against what the system says, and on an installation that is broken."""

import importlib.metadata
import json
import os
import sys

import onnxruntime
import torch

METADATA = """Metadata-Version: 2.1
Name: starnet-search
Version: 9.9
Requires-Dist: timm>=1.0.31
Requires-Dist: torch>=99
Requires-Dist: coremltools>=9.0; extra == "coreml"
Requires-Dist: no-such-thing>=3; extra == "huggingface"
Requires-Dist: never-there>=3; python_version < "3"
Provides-Extra: coreml
Provides-Extra: huggingface
"""


def test_doctor_says_what_the_system_and_the_libraries_say(starsearch, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = starsearch("doctor", "--json")
    found = {one["name"]: one["found"] for one in json.loads(out)}
    disk = os.statvfs(tmp_path)
    assert code == 0
    assert f"of {disk.f_frsize * disk.f_blocks / 1e9:.1f} GB" in found["disk"]
    assert all(provider in found["ONNX Runtime"] for provider in onnxruntime.get_available_providers())
    assert found["PyTorch"].startswith(torch.__version__)
    assert found["Ray"].startswith(importlib.metadata.version("ray"))
    shown = starsearch("doctor")[1]
    assert all(name in shown for name in found)


def test_doctor_names_what_is_broken_and_what_to_do_without_a_traceback(starsearch, tmp_path, monkeypatch):
    (tmp_path / "starnet_search-9.9.dist-info").mkdir()
    (tmp_path / "starnet_search-9.9.dist-info" / "METADATA").write_text(METADATA)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # as where its library cannot be loaded
    code, out, err = starsearch("doctor", "--json")
    found = {one["name"]: one for one in json.loads(out)}
    assert (code, err) == (1, "")
    assert {name for name, one in found.items() if not one["works"]} >= {"ONNX Runtime", "libraries"}
    assert "torch" in found["libraries"]["found"]
    assert ">=99 is needed" in found["libraries"]["found"]
    assert "timm" not in found["libraries"]["found"]
    assert "pip install" in found["libraries"]["advice"]
    assert "huggingface (no-such-thing is missing" in found["extras"]["found"]
