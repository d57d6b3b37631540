"""starsearch: architecture and recipe search over the star-operation design space (StarNet, "Rewrite the Stars").

`import starsearch` is enough for `timm.create_model("starsearch_starnet", ...)`, before or after `import timm`:
the networks are registered as soon as timm is there. Neither torch nor timm is imported for it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

__version__ = "0.1.0"


class _RegisterWithTimm:
    """An import hook that fires once: right after `timm` is imported, it imports `starsearch.families`.

    timm has no entry point for other packages' models. `wrapt.when_imported` would do the same, but importing
    wrapt takes 0.15 s, as long as all the rest of `starsearch --help`.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """timm's own spec, whose loader also registers our networks; None for any other module."""
        if fullname != "timm":
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def load_and_register(module: ModuleType) -> None:
            load(module)
            importlib.import_module("starsearch.families.starnet_module")

        spec.loader.exec_module = load_and_register  # type: ignore[method-assign]
        return spec


if "timm" in sys.modules:
    importlib.import_module("starsearch.families.starnet_module")
elif not any(isinstance(finder, _RegisterWithTimm) for finder in sys.meta_path):
    sys.meta_path.insert(0, _RegisterWithTimm())
