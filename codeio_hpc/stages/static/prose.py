"""Docstrings and names turned into plain sentences: the question, and what each input means."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

from codeio_hpc.stages.static.infer import Parameter
from codeio_hpc.stages.static.kinds import Kind
from codeio_hpc.stages.static.module import Module
from codeio_hpc.stages.static.words import words_of

_ROLE = re.compile(r":[a-z:+-]+:`([^`<]*?)(?:\s*<[^`]*>)?`")
_TICKS = re.compile(r"(``?)(.+?)\1")
_SIGNATURE = re.compile(r"^\s*[\w.]+\([^)]*\)\s*(?:->|=>|--|:|→)?\s*(?:[\w\[\], .|]+$|[\w\[\], |]+(?:--|:)\s*)?")
_CODE_LIKE = re.compile(
    r"[=<>]{2}|[{}\\]|\w\(|\bself\b|->|>>>|\[\w*\]|__\w+|\[[^\]]*$|\bTODO\b|https?://|\byour code here\b"
)
_UNFIT = re.compile(
    rf"{_CODE_LIKE.pattern}|^[:@>]|^(?:see|note|same as|warning|deprecated)\b|(?:as follows|below|following|etc)$",
    re.IGNORECASE,
)
_PREAMBLE = re.compile(
    r"^(?:(?:this|a|the)\s+)?(?:helper\s+|utility\s+)?(?:function|method|procedure|routine)\s+"
    r"(?:(?:that|which|to|will|for)\s+|\w+\s+(?=[A-Z]))",
    re.IGNORECASE,
)
"""'This function …', 'Function to …', 'FUNCTION name …': what comes behind is the task."""
_LEADING_NAME = re.compile(r"^[\w.]+\s*(?:--|:|-)\s+(?=[A-Z])")
_GIVERS = words_of(
    "return compute calculate get find determine give produce build create make obtain yield evaluate extract "
    "construct fetch retrieve derive"
)
"""'Return the X' and the like ask: what is the X?"""
_ORDERS = _GIVERS | words_of(
    "add align append apply assign break capitalize cast change check choose clean clip collapse collect combine "
    "count compare concatenate convert copy cut decode deduplicate delete divide drop encode ensure enumerate escape "
    "exclude expand fill filter flatten fold format group guess identify increment indent infer insert interleave "
    "intersect invert iterate join list locate lookup lower make map match measure merge mix move multiply negate "
    "normalize normalise order pad parse partition perform pick place prefix prepare print process pull put quote "
    "rank read rearrange reduce reformat remove rename render reorder repeat replace represent reset resolve "
    "reverse rotate round scale search select separate serialize shift shorten show simplify skip solve sort "
    "split square strip substitute subtract sum swap take test transform translate transpose trim truncate turn "
    "unescape unquote update validate verify weigh wrap write generate look estimate"
)
_CONDITIONS = re.compile(
    r"^(?:(?:return|returns)\s+(?:\w+\s+)?(?:true|whether)(?:\s+(?:if|when|iff|is))?(?:\s+and only if)?"
    r"|(?:checks?|tests?|determines?|decide|tell|see|verify|verifies)\s+(?:if|whether|that|for whether)"
    r"|whether|true (?:if|when|iff)|predicate:?)\s+",
    re.IGNORECASE,
)


def first_sentence(docstring: str) -> str:
    """The docstring's first sentence as plain prose without a full stop; '' where it has none that is fit to read."""
    for paragraph in re.split(r"\n\s*\n", docstring.strip())[:2]:
        text = " ".join(paragraph.split())
        text = _LEADING_NAME.sub("", _SIGNATURE.sub("", text).strip())
        text = _capital(_PREAMBLE.sub("", text))
        text = _TICKS.sub(r"\2", _ROLE.sub(r"\1", text)).replace("*", "")
        sentence = re.split(r"(?<=[a-z0-9)\"'])[.!?;:](?:\s|$)", text, maxsplit=1)[0].strip(" .:;,-#")
        if 2 < len(sentence.split()) <= 45 and not _UNFIT.search(sentence):
            return sentence
    return ""


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def name_in_words(name: str) -> str:
    """'_split_camelCase2' → 'split camel case 2'."""
    last = name.rpartition(".")[2]
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[a-zA-Z]{2})(?=\d)", " ", last.replace("_", " "))
    return " ".join(spaced.split()).lower()


def listed(parameters: list[Parameter]) -> str:
    """The inputs by name and kind: 'a text `s` and a whole number `n`'."""
    parts = [_one(parameter) for parameter in parameters]
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _one(parameter: Parameter) -> str:
    kind = parameter.kind
    if kind.name == "bool":
        words = f"a setting `{parameter.name}` that is true or false"
    elif kind.name == "choice":
        words = f"a choice `{parameter.name}`"
    else:
        article, _, rest = kind.words().partition(" ")
        head, split, tail = rest.partition(" that ")
        words = f"{article} {head} `{parameter.name}`{split}{tail}"
    return words + (" (which may be missing)" if kind.optional else "")


def question(name: str, docstring: str, parameters: list[Parameter], result: Kind) -> str:
    """A question in everyday words that names every input and asks for the result."""
    given = f"You are given {listed(parameters)}."
    sentence = first_sentence(docstring)
    if not sentence:
        return f"{given} {_from_name(name, result)}"
    if condition := _CONDITIONS.match(sentence):
        rest = sentence[condition.end() :]
        if len(rest.split()) >= 2:
            return f"{given} Consider this statement: {_lower(rest)}. Which is right for these values, true or false?"
    verb, _, rest = sentence.partition(" ")
    if _is_one_of(_GIVERS, verb) and (asked := re.match(r"(the|a|an|all|how)\b", rest, re.IGNORECASE)):
        return f"{given} {_asked(asked[1].lower(), _lower(rest))}"
    called = name_in_words(name)
    if _is_one_of(_ORDERS, verb) or _is_one_of(frozenset(called.split()[:1]), verb):
        return f"{given} The task is this: {_lower(sentence)}. What is the result?"
    return f"{given} The task “{called}” is described so: {_lower(sentence)}. What is the result?"


def _asked(article: str, wanted: str) -> str:
    """What is wanted, as a question: 'the sum' is asked for otherwise than 'a list which ...'."""
    if article == "how":
        return f"Find out {wanted}. What is the result?"
    if article == "the":
        return f"What is {wanted}?"
    return f"Wanted is {wanted}. What is it for these values?" if article != "all" else f"What are {wanted}?"


def _is_one_of(verbs: frozenset[str], word: str) -> bool:
    """Whether the word is one of the verbs, also as 'returns' or 'searches'."""
    return not verbs.isdisjoint({word.lower(), word.lower().removesuffix("s"), word.lower().removesuffix("es")})


def _lower(text: str) -> str:
    """The first letter in lower case, except in acronyms and names."""
    first = text.split(" ", 1)[0]
    return text if sum(letter.isupper() for letter in first) > 1 else text[:1].lower() + text[1:]


def _from_name(name: str, result: Kind) -> str:
    words = name_in_words(name)
    first = words.partition(" ")[0]
    if first in ("is", "has", "are", "can", "should", "contains", "supports", "needs") or result.name == "bool":
        return f"The question to decide is called “{words}”. Which is right for these values, true or false?"
    return f"The task is called “{words}”. What result does it give for these values?"


def parameter_notes(docstring: str) -> dict[str, str]:
    """What the docstring says of each parameter (reST, Google or NumPy style), one short sentence each."""
    notes: dict[str, str] = {}
    for match in re.finditer(r":param (?:[\w\[\], .|]+ )?\*{0,2}(\w+):[ \t]*([^\s:].*(?:\n[ \t]+\S.*)*)", docstring):
        notes.setdefault(match[1], match[2])
    section = re.search(
        r"(?:^|\n)[ \t]*(?:Args|Arguments|Parameters):?[ \t]*\n(?:[ \t]*-{3,}\n)?((?:.*\n?)*)", docstring
    )
    if section:
        body = section[1]
        for match in re.finditer(r"(?:^|\n)[ \t]*(\w+)(?: ?\([^)]*\))?: +(\S.*)", body):
            notes.setdefault(match[1], match[2])
        for match in re.finditer(r"(?:^|\n)[ \t]*(\w+) ?: ?[^\n]*\n[ \t]{4,}(\S.*)", body):
            notes.setdefault(match[1], match[2])
    return {name: cleaned for name, note in notes.items() if (cleaned := _clean_note(note))}


def _clean_note(note: str) -> str:
    text = _TICKS.sub(r"\2", _ROLE.sub(r"\1", " ".join(note.split())))
    sentence = re.split(r"\.(?:\s|$)", text, maxsplit=1)[0].strip(" .")
    return sentence if 1 < len(sentence.split()) <= 25 and not _CODE_LIKE.search(sentence) else ""


def io_description(docstring: str, parameters: list[Parameter], result: Kind) -> str:
    """The inputs and the output with names, types and meanings, one line each."""
    notes = parameter_notes(docstring)
    lines = ["Input:"]
    for parameter in parameters:
        meaning = notes.get(parameter.name) or _meaning(parameter)
        lines.append(f"  `{parameter.name}` ({parameter.kind.label()}): {meaning}.")
    lines += ["Output:", f"  `return` ({_result_label(result)}): {_result_meaning(result)}."]
    return "\n".join(lines)


def _meaning(parameter: Parameter) -> str:
    kind = parameter.kind
    if kind.name == "choice":
        return f"one of {', '.join(map(_json_text, kind.choices))}"
    if kind.name == "dict" and parameter.evidence.keys:
        keys = ", ".join(f'"{key}"' for key in list(dict.fromkeys(parameter.evidence.keys))[:8])
        return f"a table with keys such as {keys}"
    words = kind.words()
    called = name_in_words(parameter.name)
    tells = len(called) > 3 and called not in words and kind.name != "bytes"
    return f"{words}, the {called}" if tells else words


def _json_text(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _result_label(kind: Kind) -> str:
    return (
        "any JSON value"
        if not kind.known and kind.name != "iterator"
        else "list"
        if kind.name == "iterator"
        else kind.label()
    )


def _result_meaning(kind: Kind) -> str:
    if kind.name == "bool":
        return "whether it holds"
    if kind.name in ("int", "float", "str", "list", "dict") and kind.known:
        return f"{kind.words()}, the result"
    return "the result"


def docstring_of(module: Module, node: ast.FunctionDef) -> str:
    """The docstring without indentation and doctests, or the comment above or below the header; else ''."""
    text = ast.get_docstring(node, clean=True) or _comment(module, node)
    return re.split(r"\n?\s*>>>", text, maxsplit=1)[0].strip()


def _comment(module: Module, node: ast.FunctionDef) -> str:
    """The block of comment lines right above the function; or at the beginning of its body, if it says what to do:
    mostly it speaks of the line below it."""
    lines = module.lines
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
    above = first
    while above > 0 and lines[above - 1].lstrip().startswith("#"):
        above -= 1
    below = node.body[0].lineno - 1
    start = below
    while start > node.lineno and lines[start - 1].lstrip().startswith("#"):
        start -= 1
    if lines[above:first]:
        return _plain_comment(lines[above:first])
    inside = _plain_comment(lines[start:below])
    return inside if _is_one_of(_ORDERS, inside.partition(" ")[0]) else ""


def _plain_comment(lines: Sequence[str]) -> str:
    return "\n".join(line.strip().lstrip("#").strip() for line in lines)
