"""Reading YAML so that every complaint can name its file and line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starsearch.errors import SpecError

if TYPE_CHECKING:
    import yaml

Location = tuple[str | int, ...]
_PLAIN_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map")}
_MAX_BYTES = 1_000_000
_MAX_NODES = 50_000  # a file of aliases to aliases grows without bound


@dataclass(frozen=True, slots=True, kw_only=True)
class YamlFile:
    """A YAML file's values and where they stand.

    Attributes:
        path: as it is shown to the user.
        data: plain dicts, lists, strings, numbers, booleans and None.
        lines: line of each value and key, counted from 1, by its location.
        settings: of values that were changed on the command line, what was given there, by location.
    """

    path: Path
    data: Any
    lines: Mapping[Location, int]
    settings: Mapping[Location, str] = field(default_factory=dict)

    def error(self, location: Sequence[str | int], message: str) -> SpecError:
        """A `SpecError` that names the file, the line and the key, then says `message`."""
        where = tuple(location)
        for place, given in self.settings.items():
            if where[: len(place)] == place:
                return SpecError(f"--set {given}: {message}")
        while where and where not in self.lines:
            where = where[:-1]
        key = ".".join(str(part) for part in location)
        return SpecError(f"{self.path}, line {self.lines.get(where, 1)}{f', {key}' if key else ''}: {message}")


def read_yaml(path: Path) -> YamlFile:
    """Return the file's values, read safely; duplicate keys are refused.

    Raises:
        SpecError: the file cannot be read or is not YAML.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise SpecError(f"{path} cannot be read: {error.strerror}.") from None
    if len(raw) > _MAX_BYTES:
        raise SpecError(f"{path} has {len(raw):,} bytes; at most {_MAX_BYTES:,} are read.")
    try:
        return parse_yaml(raw.decode("utf-8-sig"), path)
    except UnicodeDecodeError as error:
        raise SpecError(f"{path} is not UTF-8 text: byte {error.start + 1} cannot be read.") from None


def parse_yaml(text: str, path: Path) -> YamlFile:
    """Return the values of YAML `text`; `path` is only for the errors.

    Raises:
        SpecError: it is not YAML, holds a key twice, or is nested too deeply or aliased without end.
    """
    import yaml

    try:
        loader = _make_loader()(text)
        node = loader.get_single_node()
        if node is None:
            raise SpecError(f"{path} is empty.")
        lines: dict[Location, int] = {}
        _collect_lines(node, (), lines, path)
        data = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SpecError(f"{path}, line {line}: this is not YAML: {error.problem}.") from None
    except yaml.YAMLError as error:
        raise SpecError(f"{path} is not YAML: {' '.join(str(error).split())}.") from None
    except SpecError:
        raise
    except RecursionError:
        raise SpecError(f"{path} is nested too deeply.") from None
    except ValueError as error:  # what PyYAML cannot turn into a date or an integer
        raise SpecError(f"{path} holds a value that cannot be read: {error}.") from None
    return YamlFile(path=path, data=data, lines=lines)


def _make_loader() -> type[yaml.SafeLoader]:
    """PyYAML's safe loader, reading 1e-3 and 1.2e9 as numbers as YAML 1.2 does, and dates, 0x96 and 1:30 as text."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    resolvers = yaml.SafeLoader.yaml_implicit_resolvers
    replaced = {f"tag:yaml.org,2002:{name}" for name in ("timestamp", "int", "float")}
    Loader.yaml_implicit_resolvers = {
        first: [pair for pair in pairs if pair[0] not in replaced] for first, pairs in resolvers.items()
    }
    number = re.compile(r"^[-+]?(\d+\.\d*|\.\d+|\d+)([eE][-+]?\d+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(0|[1-9][\d_]*)$"), list("-+0123456789"))
    # After the integers: what they do not take and looks like a number is a float.
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+0123456789."))
    return Loader


def _collect_lines(node: yaml.Node, where: Location, lines: dict[Location, int], path: Path) -> None:
    import yaml

    if len(lines) > _MAX_NODES:
        raise SpecError(f"{path} holds more than {_MAX_NODES:,} values.")
    lines.setdefault(where, node.start_mark.line + 1)
    if node.tag not in _PLAIN_TAGS:
        raise SpecError(
            f"{path}, line {node.start_mark.line + 1}: only text, numbers, lists and mappings are read; "
            f"remove the tag {node.tag.removeprefix('tag:yaml.org,2002:')!r}."
        )
    if isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            _collect_lines(child, (*where, index), lines, path)
    elif isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, child in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode) or key.tag not in _PLAIN_TAGS:
                raise SpecError(f"{path}, line {line}: a key is a single word.")
            if key.value in seen:
                raise SpecError(
                    f"{path}, line {line}: {key.value!r} stands twice, first in line {seen[key.value]}; keep one."
                )
            seen[key.value] = line
            lines[(*where, key.value)] = line
            _collect_lines(child, (*where, key.value), lines, path)
