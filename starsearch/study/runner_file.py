"""Runner files: where a study's evaluations run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from starsearch.resources import find_file
from starsearch.study.validation import validate
from starsearch.yaml_file import read_yaml


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """Where evaluations run; in this version one after another in this process."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    executor: Literal["local"] = "local"


def load_runner(text: str | None) -> Runner:
    """The runner of a file or shipped name; None is this process.

    Raises:
        SpecError: no such runner, or a rule is broken.
    """
    if text is None:
        return Runner()
    file = read_yaml(find_file(text, "runners"))
    return validate(Runner, file.data, file=file, known=("executor",))
