"""Pushing an export, to a server on this machine that speaks as the Hugging Face hub does."""

import base64
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml
from huggingface_hub import ModelCard

from starsearch.api.exporting import export_networks
from starsearch.errors import ExportError

TINY = "starnet:embed_dim=8,depths=1-1,mlp_ratio=2"


class Hub:
    """What a hub holds, and how it answers; `refuses` names a path that it forbids."""

    def __init__(self):
        self.repositories, self.private, self.refuses = {"me/there": {}}, {}, None

    def answer(self, path, said, token):
        """A status and a document."""
        if token != "Bearer good" or path == self.refuses:
            return (401 if token != "Bearer good" else 403), {"error": "you may not"}
        _, _, kind, *rest = path.split("/")
        name = "/".join(rest[:2])
        match kind:
            case "whoami-v2":
                return 200, {"type": "user", "name": "me"}
            case "validate-yaml":
                return 200, {"errors": [], "warnings": []}
            case "repos":
                name = f"{said['organization']}/{said['name']}"
                self.repositories[name] = {}
                self.private[name] = said.get("private") or said.get("visibility") == "private"
                return 200, {"url": f"https://huggingface.co/{name}", "name": name}
            case _ if name not in self.repositories:
                return 404, {"error": "Repository not found"}
            case _ if rest[2:3] == ["preupload"]:
                files = [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in said["files"]]
                return 200, {"files": files}
            case _ if rest[2:3] == ["commit"]:
                files = [line["value"] for line in said if line["key"] == "file"]
                self.repositories[name] |= {one["path"]: base64.b64decode(one["content"]) for one in files}
                return 200, {
                    "success": True,
                    "commitOid": "0" * 40,
                    "commitUrl": f"https://huggingface.co/{name}/commit/0",
                }
            case _:
                return 200, {"id": name, "sha": "0" * 40, "siblings": [], "private": True, "tags": []}


@pytest.fixture
def hub(monkeypatch):
    state = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            lines = [json.loads(line) for line in body.splitlines() if line.strip()]
            said = lines if "ndjson" in (self.headers.get("Content-Type") or "") else (lines or [None])[0]
            status, document = state.answer(self.path.partition("?")[0], said, self.headers.get("Authorization"))
            answer = json.dumps(document).encode()
            self.send_response(status)
            if status == 404:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_POST = do_GET  # noqa: N815 - http.server's name

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("HF_TOKEN", "good")
        yield state
        server.shutdown()


def push(tmp_path, name="me/net", **options):
    return export_networks(TINY, out=tmp_path / "out", resolution=32, push_to_hub=name, **options)


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_hub_gets_the_very_files_in_a_private_repository_and_a_card_that_it_reads(hub, tmp_path):
    (exported,) = push(tmp_path)
    assert hub.repositories["me/net"] == files_of(tmp_path / "out")
    assert hub.private["me/net"]
    assert exported.notes[-1].endswith("/me/net")
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert (card.data.library_name, card.data.license) == ("timm", "unknown")
    assert "hf-hub:me/net" in card.text
    assert "local-dir:" not in card.text


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        ({"HF_TOKEN": "bad"}, "me/net", "hf auth login"),
        ({}, "me/there", "me/there exists on the hub"),
        ({}, "net", "named USER/NAME"),
        ({"HF_ENDPOINT": "nobody"}, "me/net", "does not answer"),
    ],
)
def test_what_the_hub_would_refuse_is_said_before_anything_is_written(hub, tmp_path, monkeypatch, changes, name, words):
    for variable, value in changes.items():
        if value == "nobody":
            with socket.create_server(("127.0.0.1", 0)) as port:  # closed: nobody listens there
                value = f"http://127.0.0.1:{port.getsockname()[1]}"
        monkeypatch.setenv(variable, value)
    with pytest.raises(ExportError, match=words):
        push(tmp_path, name)
    assert not (tmp_path / "out").exists()


def test_refused_in_the_midst_the_folder_is_whole_and_the_command_that_goes_on_is_said(hub, tmp_path):
    hub.refuses = "/api/models/me/net/commit/main"
    with pytest.raises(ExportError, match=r"refuses me/net \(403\).*is whole.*hf upload me/net"):
        push(tmp_path)
    whole = files_of(tmp_path / "out")
    hub.refuses = None
    export_networks(TINY, out=tmp_path / "again", resolution=32)
    again = files_of(tmp_path / "again")
    assert whole.keys() == again.keys()
    assert [name for name in whole if whole[name] != again[name]] == ["README.md"]  # which says where it is loaded from


def test_one_network_that_timm_loads_is_pushed(hub, tmp_path):
    for options in ({"formats": ["onnx"]}, {"top": 2}):
        with pytest.raises(ExportError, match="--push-to-hub takes one network"):
            push(tmp_path, **options)


def test_a_trained_networks_card_has_its_results_in_the_hubs_form():
    from starsearch.export.card import model_card
    from tests.export.test_card import FACTS

    metadata = yaml.safe_load(model_card(FACTS).split("---")[1])
    (model,) = metadata["model-index"]
    metrics = [metric for one in model["results"] for metric in one["metrics"]]
    assert [(one["type"], one["value"]) for one in metrics] == [
        ("accuracy", 71.26),
        ("accuracy", 90.0),
        ("accuracy", 70.5),
    ]
    assert metadata["metrics"] == ["accuracy"]
