"""Taking an export to the Hugging Face hub, or to another server that speaks as it does (HF_ENDPOINT)."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starsearch.errors import ExportError, first_line


def check_repository(name: str) -> None:
    """Ask the hub whether USER/NAME can be made, before anything is exported.

    Raises:
        ExportError: the name is none, it exists, the token is missing or refused, or the hub does not answer.
    """
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name) is None:
        raise ExportError(
            f"A repository on the hub is named USER/NAME, of letters, digits, '-', '_', '.'; got {name!r}."
        )
    with _in_words(name):
        _api().whoami()
        exists = _api().repo_exists(name)
    if exists:
        raise ExportError(
            f"{name} exists on the hub, and an export does not overwrite it: choose another name, or export without "
            f"--push-to-hub and add to it yourself: hf upload {name} FOLDER"
        )


def push(folder: Path, name: str) -> str:
    """Make the private repository `name` and put all files of `folder` into it; return its address.

    Raises:
        ExportError: the hub refuses or does not answer; the folder stays as it is.
    """
    kept = f" {folder} is whole; once that is settled: hf upload {name} {shlex.quote(str(folder))}"
    with _in_words(name, kept):
        address = str(_api().create_repo(name, private=True))
        _api().upload_folder(repo_id=name, folder_path=folder, commit_message="Upload a network exported by starsearch")
    return address


def _api() -> Any:
    from huggingface_hub import HfApi

    return HfApi(endpoint=os.environ.get("HF_ENDPOINT"))


@contextmanager
def _in_words(name: str, kept: str = "") -> Iterator[None]:
    """Turn what goes wrong between here and the hub into an `ExportError`; `kept` says what is left."""
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    try:
        yield
    except LocalTokenNotFoundError:
        raise ExportError(
            "Pushing to the hub takes a token with the right to write: make one at "
            f"https://huggingface.co/settings/tokens, then hf auth login, or set HF_TOKEN.{kept}"
        ) from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        reason = f"The hub refuses {name} ({status}): {first_line(error.server_message or error)}"
        advice = (
            " Its token may be invalid, or have no right to write there: hf auth login." if status in (401, 403) else ""
        )
        raise ExportError(f"{reason}{advice}{kept}") from error
    except Exception as error:  # no connection: the errors of the hub's library for HTTP, which has changed
        raise ExportError(f"The hub does not answer: {first_line(error)}{kept}") from error
