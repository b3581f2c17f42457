"""Reading configuration: YAML and dotted overrides into frozen models, with errors that teach."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, ValidationError

from codeio_hpc.errors import UserError

Model = TypeVar("Model", bound="Settings")


class Settings(BaseModel):
    """Base of every configuration model: immutable; unknown keys are refused, and so are infinity and nan."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, protected_namespaces=(), allow_inf_nan=False)


class _Loader(yaml.SafeLoader):
    """SafeLoader without YAML 1.1's traps.

    YAML 1.1 reads ``1:30:00`` as the integer 5400, ``on`` and ``no`` as booleans, ``010`` as 8 and ``1e-5`` as
    text. Here times stay text, only true/false are booleans, and 1e-5 is a number, as in YAML 1.2's core schema.
    """


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.endswith((":null", ":merge"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), None)
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)


def _mapping_without_duplicates(loader: _Loader, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    seen: set[str] = set()
    for key_node, _ in node.value:
        key = str(key_node.value)
        if key in seen and key != "<<":
            raise yaml.constructor.ConstructorError(None, None, f"the key '{key}' stands twice", key_node.start_mark)
        seen.add(key)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_duplicates)


def load_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        UserError: the file is missing, unreadable, not UTF-8, not YAML, or not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file", "the configuration is read from it", _nearby(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {error}", "it cannot be read as UTF-8 text", "give a readable YAML file") from None
    data = parse_yaml(text, str(path))
    if not isinstance(data, dict):
        found = "nothing" if data is None else type(data).__name__
        raise UserError(f"{path}: holds {found}", "a configuration is a mapping of keys", "write 'key: value' lines")
    return data


def parse_yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{where}, line {mark.line + 1}, column {mark.column + 1}" if mark else where
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UserError(f"{place}: {problem}", "this is not valid YAML", "correct that line") from None


def _nearby(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"there is no folder {folder}; a relative path starts here, else at CODEIO_HOME"
    names = sorted(entry.name for entry in folder.glob("*.yaml"))
    close = difflib.get_close_matches(path.name, names, n=1)
    if close:
        return f"did you mean {folder / close[0]}?"
    return f"files there: {', '.join(names[:5])}" if names else "check the path"


def apply_overrides(data: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of ``data`` with ``a.b=value`` applied; values are read as YAML.

    Raises:
        UserError: an override has no '=', or goes through something that is not a mapping.
    """
    result = _copy(data)
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals or not path:
            raise UserError(f"override '{override}'", "it has no 'key=value' form", "write it as section.key=value")
        node = result
        *parents, last = path.split(".")
        for name in parents:
            node = node.setdefault(name, {})
            if not isinstance(node, dict):
                raise UserError(f"override '{override}'", f"'{name}' is not a section", "name an existing section")
        node[last] = parse_yaml(text, f"override '{path}'")
    return result


def merge(data: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``data`` with the keys of ``over`` in place of its own; sections are merged, everything else is replaced."""
    result = dict(data)
    for key, value in over.items():
        below = result.get(key)
        result[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result


def _copy(data: dict[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, dict) else value for key, value in data.items()}


def parse(model: type[Model], data: Mapping[str, Any], where: str) -> Model:
    """Validate ``data`` as ``model``.

    Raises:
        UserError: names every wrong key with its path, and for an unknown key the nearest known one.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = [_explain(model, problem) for problem in error.errors()]
        raise UserError(
            f"{where}: {'; '.join(found for found, _ in problems)}",
            "the configuration does not fit its schema",
            "; ".join(dict.fromkeys(fix for _, fix in problems)),
        ) from None


def _explain(model: type[BaseModel], problem: Any) -> tuple[str, str]:
    path = [str(part) for part in problem["loc"]]
    name = ".".join(path) or "configuration"
    if problem["type"] == "extra_forbidden":
        known = sorted(_known_keys(model, problem["loc"][:-1]))
        close = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.5)
        fix = f"did you mean '{close[0]}'?" if close else f"known keys there: {', '.join(known)}"
        return f"unknown key '{name}'", fix
    if problem["type"] == "missing":
        return f"missing key '{name}'", f"add '{name}'"
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not path:
        return message, "correct what it says of that"
    if isinstance(problem["input"], Mapping):  # its keys do not fit together; the message names them
        return f"'{name}': {message}", f"change '{name}'"
    return f"'{name}' is {problem['input']!r}: {message}", f"change '{name}'"


def _known_keys(model: type[BaseModel], location: Sequence[int | str]) -> set[str]:
    """Keys of the model at ``location``, following nested models, lists and unions."""
    candidates: list[type[BaseModel]] = [model]
    for part in location:
        if isinstance(part, int):
            continue
        following = [
            nested
            for candidate in candidates
            if part in candidate.model_fields
            for nested in _models_in(candidate.model_fields[part].annotation)
        ]
        candidates = following or candidates  # a union's branch label is not a field: stay
    return {field for candidate in candidates for field in candidate.model_fields}


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models_in(argument)


def _minutes(value: object) -> object:
    """Read '1:30:00', '2-00:00:00', '90m', '1h30m' as minutes; refuse bare numbers."""
    if isinstance(value, int | float):
        raise ValueError("a bare number has no unit (YAML 1.1 tools read 1:30:00 as 5400); write '1:30:00' or '90m'")
    text = str(value).strip()
    if clock := re.fullmatch(r"(?:(\d+)-)?(\d+):([0-5]?\d):([0-5]?\d)", text):
        days, hours, minutes, seconds = (int(part or 0) for part in clock.groups())
        return str(days * 1440 + hours * 60 + minutes + (seconds > 0))
    units = re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?", text)
    if units and any(units.groups()):
        days, hours, minutes = (int(part or 0) for part in units.groups())
        return str(days * 1440 + hours * 60 + minutes)
    if isinstance(value, str) and text.isdigit():
        raise ValueError("a bare number has no unit; write '1:30:00' or '90m'")
    raise ValueError("not a duration; write 'hours:minutes:seconds', 'days-hours:minutes:seconds', '90m' or '1h30m'")


Minutes = Annotated[int, BeforeValidator(_minutes), PlainSerializer(lambda minutes: f"{minutes}m", return_type=str)]
"""A duration in whole minutes, written '1:30:00', '2-00:00:00', '90m' or '1h30m'."""
