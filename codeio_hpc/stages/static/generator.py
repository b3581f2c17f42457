"""Writing a self-contained, seedable input generator for the parameters of a function."""

from __future__ import annotations

import ast
import inspect
import json
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from codeio_hpc.stages.static import snippets
from codeio_hpc.stages.static.infer import Parameter
from codeio_hpc.stages.static.kinds import Kind
from codeio_hpc.stages.static.usage import Evidence

ENTRY = "input_generator"
_EXAMPLE_SHARE = 0.25
"""Of the generated inputs, about so many are examples that the file itself shows."""

_TEXT_THEMES: tuple[tuple[str, str], ...] = (
    (r".*(?:path|file|filename|fname|folder|directory|dirname|root)$|dir$|.*_dir$", "path()"),
    (r".*(?:url|uri|href|link)$", "url()"),
    (r".*(?:version|ver)$|v\d?$", "version()"),
    (r".*date$", "date()"),
    (r".*time(?:stamp)?$", "clock()"),
    (r".*e?mail.*|addr(?:ess)?$", "email()"),
    (r"ip|ipv4|.*_ip|host$", "address()"),
    (r".*(?:html|xml|markup)$", "markup()"),
    (r".*(?:expr|expression|code|source|src|formula|stmt)$", "expression()"),
    (r".*colou?r.*", "colour()"),
    (r".*(?:hex|digest|sha|md5).*", "hexadecimal()"),
    (r".*(?:digits|numeral|number|num|isbn|card|phone)$", "digits()"),
    (r"(?:dna|rna|seq|sequence|genome)$", "sequence_text()"),
    (r"ch|c|char|character|letter|.*_char", "character()"),
    (r".*(?:name|ident|identifier|attr|key|attribute|symbol|var|field|func|tag|label|option)$", "identifier()"),
    (r".*(?:lines|block|paragraph|docstring|doc|body|content)$", "lines()"),
    (r"line$|.*_line$|header", "random.choice([assignment(), text(), sentence()])"),
    (r".*(?:sentence|phrase|title|message|msg|description|comment|label)$", "sentence()"),
    (r"word|token|.*_word|language|lang", "word()"),
)
_FRAGMENTS = re.compile(
    r".*(?:sep|separator|delim|delimiter|sub|substr|substring|prefix|suffix|needle|old|pattern|pat|target|search|"
    r"find|chars|ext|extension|new|mark|marker)$"
)
_ENCODINGS = ["utf-8", "ascii", "latin-1", "UTF8", "cp1252", "utf_16"]
_SMALL = re.compile(r"n|k|m|i|j|depth|level|indent|order|degree|exp|exponent|count|.*_count|num|rows|cols|size|steps?")
_PLACES = re.compile(r"i|j|k|idx|index|pos|position|offset|start|at|.*_(?:idx|index|pos)|col|cursor")
_CALENDAR = {
    "year": "random.choice([2024, 1900, 2000, random.randint(1970, 2030)])",
    "month": "random.randint(1, 12)",
    "day": "random.randint(1, 31)",
    "hour": "random.randint(0, 23)",
    "minute": "random.randint(0, 59)",
    "second": "random.randint(0, 59)",
    "base": "random.choice([2, 8, 10, 16, random.randint(2, 36)])",
    "radix": "random.choice([2, 8, 10, 16, random.randint(2, 36)])",
    "width": "random.choice([0, 1, random.randint(4, 30), 80])",
    "percent": "random.randint(0, 100)",
    "age": "random.randint(0, 99)",
}


@dataclass(frozen=True)
class Vocabulary:
    """What the texts of a generator are made of: words, and marks that join or enclose them."""

    words: tuple[str, ...]
    marks: tuple[str, ...]
    clues: tuple[str, ...] = ()
    """Whole texts that the function looks for."""


def write_generator(parameters: list[Parameter], examples: list[dict[str, Any]], vocabulary: Vocabulary) -> str:
    """The source of ``input_generator()``; ``examples`` are complete inputs that the file shows, in JSON form."""
    lines = _assignments(parameters)
    if vocabulary.clues:
        lines = [re.sub(r"(?<!\w)text\(\)", "random.choice([text(), clued()])", line) for line in lines]
    body = ["given = {}", *lines, "return given"]
    if examples:
        body = [f"if random.random() < {_EXAMPLE_SHARE}:", "    return dict(random.choice(EXAMPLES))", *body]
    function = f"def {ENTRY}():\n" + "\n".join(f"    {line}" for line in body) + "\n"
    pieces = _pieces("\n".join(body))
    parts = ["import random"]
    constants = _constants(pieces + function, examples, vocabulary)
    return (
        "\n\n".join(parts + constants)
        + "\n\n\n"
        + "".join(f"{piece}\n\n\n" for piece in pieces_text(pieces))
        + function
    )


def pieces_text(pieces: str) -> list[str]:
    return [piece for piece in pieces.split("\0") if piece]


def _constants(code: str, examples: list[dict[str, Any]], vocabulary: Vocabulary) -> list[str]:
    found: list[str] = []
    if re.search(r"\bWORDS\b", code):
        found.append(f"WORDS = {list(vocabulary.words)!r}")
    if re.search(r"\bMARKS\b", code):
        found.append(f"MARKS = {list(vocabulary.marks)!r}")
    if re.search(r"\bCLUES\b", code):
        found.append(f"CLUES = {list(vocabulary.clues)!r}")
    if examples:
        found.append(f"EXAMPLES = {examples!r}")
    return ["\n".join(found)] if found else []


def _pieces(code: str) -> str:
    """Source of all snippets that ``code`` calls, directly or through others, in the order of snippets.py."""
    sources = _snippets()
    wanted: set[str] = set()
    todo = [code]
    while todo:
        text = todo.pop()
        for name in re.findall(r"\b([a-z_]+)\(", text):
            if name in sources and name not in wanted:
                wanted.add(name)
                todo.append(sources[name])
    return "\0".join(source for name, source in sources.items() if name in wanted)


@cache
def _snippets() -> dict[str, str]:
    text = inspect.getsource(snippets)
    tree = ast.parse(text)
    lines = text.split("\n")
    return {
        node.name: "\n".join(lines[node.lineno - 1 : node.end_lineno])
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
    }


def _assignments(parameters: list[Parameter]) -> list[str]:
    """One line a parameter; later ones may refer to earlier ones, so that they go together."""
    lines: list[str] = []
    earlier: dict[str, Parameter] = {}
    for parameter in parameters:
        expression = _related(parameter, earlier) or value_expression(
            parameter.kind, parameter.name, parameter.evidence
        )
        lines.append(f"given[{parameter.name!r}] = {_with_specials(parameter, expression)}")
        earlier[parameter.name] = parameter
    return lines


def _with_specials(parameter: Parameter, expression: str) -> str:
    """Null, the default, and shown values come up now and then."""
    options: list[Any] = []
    if parameter.has_default and parameter.kind.name not in ("bool", "choice"):
        options.append(parameter.default)
    if parameter.kind.optional:
        options.append(None)
    options += [value for value in parameter.examples if not _in(value, options)][:6]
    options = [value for value in options if len(repr(value)) < 100]
    if not options:
        return expression
    chance = 0.5 if options == [None] or (parameter.kind.optional and len(options) == 1) else 0.35
    return f"random.choice({options!r}) if random.random() < {chance} else {expression}"


def _in(value: Any, options: list[Any]) -> bool:
    return any(type(value) is type(option) and value == option for option in options)


def _related(parameter: Parameter, earlier: dict[str, Parameter]) -> str | None:
    sequences = [other for other in earlier.values() if other.kind.name in ("str", "list") and not other.kind.optional]
    if not sequences or (parameter.kind.items and parameter.kind.name != "list"):
        return None
    texts = [other for other in sequences if other.kind.name == "str"]
    if parameter.kind.name == "str" and texts and _FRAGMENTS.fullmatch(parameter.name.lower()):
        return f"fragment(given[{texts[0].name!r}])"
    if parameter.kind.name == "int" and _PLACES.fullmatch(parameter.name.lower()):
        return f"place(given[{sequences[0].name!r}])"
    return _partner(parameter, [other for other in sequences if other.kind.name == "list"])


def _partner(parameter: Parameter, lists: list[Parameter]) -> str | None:
    """A list beside another is mostly as long; always where the function goes through both at once."""
    if parameter.kind.name != "list" or not lists:
        return None
    item = value_expression(parameter.kind.items[0], parameter.name, parameter.evidence.element, 1)
    together = [other for other in lists if other.name in parameter.evidence.same_length]
    alike = f"[{item} for _ in given[{(together or lists)[-1].name!r}]]"
    own = value_expression(parameter.kind, parameter.name, parameter.evidence)
    return alike if together else f"{alike} if random.random() < 0.6 else {own}"


def value_expression(kind: Kind, name: str, evidence: Evidence | None, depth: int = 0) -> str:
    """A Python expression that draws one value of the kind."""
    evidence = evidence or Evidence()
    match kind.name:
        case "choice":
            return f"random.choice({list(kind.choices)!r})"
        case "bool":
            return "random.random() < 0.5"
        case "int":
            return _integer(name, evidence)
        case "float":
            return "share()" if re.search(r"prob|ratio|alpha|frac|rate", name) else "real()"
        case "str" | "bytes":
            return _text(kind, name, evidence)
        case "list" | "vtuple" | "set":
            return _list(kind, name, evidence, depth)
        case "tuple":
            parts = evidence.parts if len(evidence.parts) == len(kind.items) else [Evidence()] * len(kind.items)
            items = [value_expression(item, "", part, depth + 1) for item, part in zip(kind.items, parts, strict=True)]
            return f"[{', '.join(items)}]"
        case "dict":
            return _dict(kind, name, evidence, depth)
    raise ValueError(f"no values of kind '{kind.name}' can be generated")


def _integer(name: str, evidence: Evidence) -> str:
    lowered = name.lower()
    bounds = [value for value in evidence.numbers if isinstance(value, int) and abs(value) < 10**9]
    near = sorted({value + step for value in bounds for step in (-1, 0, 1)})[:9]
    if lowered in _CALENDAR:
        base = _CALENDAR[lowered]
    elif evidence.uses & {"range", "factorial", "comb", "perm"} or evidence.votes["index"]:
        base = "small()"
    elif "chr" in evidence.uses:
        base = "random.randint(32, 126)"
    elif _SMALL.fullmatch(lowered):
        base = (
            "small()" if lowered in ("depth", "level", "order", "degree", "exp", "exponent", "n", "k") else "natural()"
        )
    else:
        base = "integer()"
    return f"random.choice([{base}, {base}, {', '.join(map(str, near))}])" if near else base


def _text(kind: Kind, name: str, evidence: Evidence) -> str:
    lowered = name.lower()
    if "encoding" in lowered:
        return f"random.choice({_ENCODINGS!r})"
    base = _theme(lowered, evidence)
    known = [text for text in dict.fromkeys(evidence.equals) if isinstance(text, str) and len(text) < 40]
    if kind.name == "bytes":
        return f"{base}.encode('ascii', 'ignore').decode('ascii')"
    if known:
        return f"random.choice([{base}, {', '.join(repr(text) for text in known[:10])}])"
    return base


def _theme(name: str, evidence: Evidence) -> str:
    if evidence.votes["numeral"] or evidence.uses & {"int", "float"}:
        return "number_text()"
    if "ord" in evidence.uses:
        return "character()"
    for pattern, expression in _TEXT_THEMES:
        if re.fullmatch(pattern, name):
            return f"random.choice([{expression}, {expression}, text()])" if "choice" not in expression else expression
    return "text()"


def _list(kind: Kind, name: str, evidence: Evidence, depth: int) -> str:
    inner = name[:-1] if name.endswith("s") and len(name) > 2 else ""
    item = value_expression(kind.items[0], inner, evidence.element, depth + 1)
    most = 8 if depth == 0 and not kind.items[0].items else 4 if depth < 2 else 2
    if kind.name == "set":
        return f"sorted({{{item} for _ in range(random.randint(0, {most}))}})" if not kind.items[0].items else "[]"
    least = evidence.shortest or (0 if depth == 0 else 1)
    fixed = evidence.shortest and not set(evidence.votes) & {"iterable", "sized", "indexed", "list"}
    length = str(least) if fixed else f"random.randint({least}, {max(most, least + 2)})"
    drawn = f"[{item} for _ in range({length})]"
    wants_order = "sorted" in name or "bisect" in " ".join(sorted(evidence.uses))
    return f"sorted({drawn})" if wants_order and not kind.items[0].items else drawn


def _dict(kind: Kind, name: str, evidence: Evidence, depth: int) -> str:
    value = value_expression(kind.items[1], "", evidence.element, depth + 1)
    known = list(dict.fromkeys(evidence.keys))[:8]
    if known:
        listed = "{" + ", ".join(f"{json.dumps(key)}: {value}" for key in known) + "}"
        return listed if len(known) < 2 else f"{{key: item for key, item in {listed}.items() if random.random() < 0.8}}"
    key = "str(small())" if kind.items[0].name == "int" else "word()"
    return f"{{{key}: {value} for _ in range(random.randint(0, {5 if depth == 0 else 2}))}}"
