"""coremltools, loaded and used without its chatter."""

from __future__ import annotations

import contextlib
import importlib
import logging
import platform
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

from starsearch.errors import ExportError

INSTALL_HINT = "Core ML needs coremltools: pip install coremltools."


def load_coremltools() -> Any:
    """The module `coremltools`.

    On its first import it warns of every library newer than those it was tested with and, away from a Mac, of each
    part of Apple's framework that is missing. What is really missing is said when it is needed.

    Raises:
        ExportError: coremltools is not installed, or without its native library.
    """
    try:
        with _no_warnings_logged():
            import coremltools
    except ImportError as error:
        raise ExportError(f"{INSTALL_HINT} ({error})") from error
    try:  # without it coremltools imports, and fails when the first weights are written
        importlib.import_module("coremltools.libmilstoragepython")
    except ImportError as error:
        raise ExportError(
            f"coremltools {coremltools.__version__} is installed without its native library, as pip builds it where "
            f"it has no wheel for Python {platform.python_version()} on {platform.system()} {platform.machine()} "
            f"({error}). Use an environment with a Python that has one (3.10 to 3.13 for coremltools 9; macOS or Linux "
            "on x86-64)."
        ) from error
    return coremltools


@contextlib.contextmanager
def quiet_conversion() -> Iterator[None]:
    """A stretch in which coremltools converts without progress bars and warnings; errors are raised as ever.

    A conversion has three bars of a second together; they would be written across the live display of a run.
    """
    from coremltools.converters.mil.mil.passes import pass_pipeline

    bars = pass_pipeline.tqdm
    pass_pipeline.tqdm = _without_bar
    try:
        with _no_warnings_logged(), warnings.catch_warnings():
            # coremltools leaves a temporary folder to the garbage collector.
            warnings.filterwarnings("ignore", "Implicitly cleaning up", ResourceWarning)
            yield
    finally:
        pass_pipeline.tqdm = bars


def _without_bar(items: Iterable[Any], **_: object) -> Iterable[Any]:
    return items


@contextlib.contextmanager
def _no_warnings_logged() -> Iterator[None]:
    logger = logging.getLogger("coremltools")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
