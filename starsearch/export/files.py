"""Writing an export whole or not at all."""

from __future__ import annotations

import functools

from starsearch.errors import ExportError
from starsearch.files import written_whole

export_written_whole = functools.partial(
    written_whole,
    what="the export",
    error=ExportError,
    advice="Free some space there, or choose another folder.",
)
