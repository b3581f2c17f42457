"""What kind of value a parameter takes: a small type language that JSON can carry."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

SCALARS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    "bytes": "a text that stands for bytes",
    "none": "nothing",
    "any": "any value",
}
_PLURALS = {
    "int": "whole numbers",
    "float": "numbers",
    "bool": "true-or-false values",
    "str": "texts",
    "bytes": "texts that stand for bytes",
    "any": "values",
    "none": "nothings",
    "unreadable": "values",
}


@dataclass(frozen=True)
class Kind:
    """One kind of value.

    name: int float bool str bytes none any · list set vtuple (items: the element) · tuple (items: each position) ·
    dict (items: key, value) · choice (choices: the JSON values allowed).
    """

    name: str
    items: tuple[Kind, ...] = ()
    choices: tuple[Any, ...] = ()
    optional: bool = False
    """May also be null."""

    def or_none(self) -> Kind:
        return replace(self, optional=True)

    @property
    def known(self) -> bool:
        """Whether values of it can be generated."""
        return self.name not in ("any", "none", "unreadable", "iterator") and all(item.known for item in self.items)

    def label(self) -> str:
        """The type as a programmer writes it, in JSON's view: tuples and sets are lists, bytes are text."""
        return f"{self._bare_label()} or None" if self.optional else self._bare_label()

    def _bare_label(self) -> str:
        inner = [item.label() for item in self.items]
        if self.name in ("list", "set", "vtuple"):
            return f"list of {inner[0]}" if self.items[0].name != "any" else "list"
        if self.name == "tuple":
            return f"list of {len(inner)}: {', '.join(inner)}"
        if self.name == "dict":
            return f"dict of {inner[0]} to {inner[1]}"
        if self.name == "choice":
            return " or ".join(dict.fromkeys(type(choice).__name__ for choice in self.choices))
        return {"bytes": "str", "none": "None"}.get(self.name, self.name)

    def words(self) -> str:
        """The kind in plain language, with its article."""
        if self.name in ("list", "vtuple"):
            return f"a list of {self.items[0].plural()}"
        if self.name == "set":
            return f"a list of different {self.items[0].plural()}"
        if self.name == "tuple":
            if len(set(self.items)) == 1:
                return f"a list of exactly {len(self.items)} {self.items[0].plural()}"
            return f"a list of {', '.join(item.words() for item in self.items)}"
        if self.name == "dict":
            return f"a table that gives {self.items[1].words()} for each of its {self.items[0].plural()}"
        if self.name == "choice":
            return f"a choice of {len(self.choices)}"
        return SCALARS[self.name]

    def plural(self) -> str:
        if self.name in ("list", "tuple", "set", "vtuple"):
            return "lists" if self.name == "tuple" else f"lists of {self.items[0].plural()}"
        if self.name == "dict":
            return "tables"
        return "choices" if self.name == "choice" else _PLURALS[self.name]

    def needs_conversion(self) -> bool:
        """Whether JSON carries it as something else than the function expects."""
        if self.name == "dict" and self.items[0].name == "int":
            return True
        return self.name in ("tuple", "vtuple", "set", "bytes") or any(item.needs_conversion() for item in self.items)


INT, FLOAT, BOOL, STR, BYTES, NONE, ANY = (
    Kind(name) for name in ("int", "float", "bool", "str", "bytes", "none", "any")
)


def list_of(item: Kind) -> Kind:
    return Kind("list", (item,))


def set_of(item: Kind) -> Kind:
    return Kind("set", (item,))


def tuple_of(*items: Kind) -> Kind:
    return Kind("tuple", items)


def dict_of(key: Kind, value: Kind) -> Kind:
    return Kind("dict", (key, value))


def choice_of(values: Iterable[Any]) -> Kind:
    """Null among the values makes the choice optional."""
    distinct = list({(type(value), value): value for value in values}.values())
    some = tuple(value for value in distinct if value is not None)
    return Kind("choice", choices=some, optional=len(some) < len(distinct))


def kind_of(value: Any) -> Kind:
    """The kind of a Python value; 'any' for what JSON cannot carry."""
    match value:
        case None:
            return NONE
        case bool():
            return BOOL
        case int():
            return INT
        case float():
            return FLOAT
        case str():
            return STR
        case bytes():
            return BYTES
        case list():
            return list_of(join(map(kind_of, value)))
        case set() | frozenset():
            return set_of(join(sorted(map(kind_of, value), key=repr)))
        case tuple():
            return tuple_of(*map(kind_of, value))
        case dict():
            return dict_of(join(map(kind_of, value)), join(map(kind_of, value.values())))
    return ANY


def accepts(kind: Kind, value: Any) -> bool:
    """Whether a Python value is of the kind; tuples, lists and sets stand for each other."""
    if value is None:
        return kind.optional
    if kind.name == "choice":
        return any(type(value) is type(choice) and value == choice for choice in kind.choices)
    if kind.name in ("list", "vtuple", "set"):
        return isinstance(value, list | tuple | set | frozenset) and all(accepts(kind.items[0], item) for item in value)
    if kind.name == "tuple":
        return (
            isinstance(value, list | tuple) and len(value) == len(kind.items) and all(map(accepts, kind.items, value))
        )
    if kind.name == "dict":
        return isinstance(value, dict) and all(accepts(kind.items[1], item) for item in value.values())
    return kind_of(value).name == kind.name or (kind.name == "float" and kind_of(value).name == "int")


def join(kinds: Iterable[Kind]) -> Kind:
    """The kind that covers all of them; 'any' where they have nothing in common."""
    result: Kind | None = None
    optional = False
    for kind in kinds:
        optional = optional or kind.optional or kind.name == "none"
        if kind.name != "none":
            result = kind if result is None else _join_two(result, kind)
    if result is None:
        return NONE if optional else ANY
    return result.or_none() if optional else result


def _join_two(left: Kind, right: Kind) -> Kind:
    optional = left.optional or right.optional
    left, right = replace(left, optional=False), replace(right, optional=False)
    joined = _join_plain(left, right)
    return joined.or_none() if optional else joined


def _join_plain(left: Kind, right: Kind) -> Kind:
    if left == right or right.name == "any":
        return left
    if left.name == "any":
        return right
    names = {left.name, right.name}
    if names == {"int", "float"}:
        return FLOAT
    if left.name == right.name == "tuple" and len(left.items) != len(right.items):
        return Kind("vtuple", (join((*left.items, *right.items)),))
    if names == {"tuple", "vtuple"}:
        return Kind("vtuple", (join((*left.items, *right.items)),))
    if left.name == right.name and len(left.items) == len(right.items) and left.items:
        return Kind(left.name, tuple(_join_two(a, b) for a, b in zip(left.items, right.items, strict=True)))
    return ANY
