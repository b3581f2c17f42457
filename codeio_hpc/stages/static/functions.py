"""From a parsed file to finished functions: lift, infer, describe, and write the generator."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from codeio_hpc.config.run import TransformSettings
from codeio_hpc.sandbox.policy import Kind as JailKind
from codeio_hpc.sandbox.policy import kind_of
from codeio_hpc.stages.static import kinds
from codeio_hpc.stages.static.examples import Example, ShownCall, as_json, examples_of, shown_calls
from codeio_hpc.stages.static.generator import Vocabulary, write_generator
from codeio_hpc.stages.static.infer import GUESSES, Parameter, parameters_of
from codeio_hpc.stages.static.kinds import Kind
from codeio_hpc.stages.static.lift import Candidate, Lifted, candidates, lift, other_functions
from codeio_hpc.stages.static.module import Module, Refused
from codeio_hpc.stages.static.patterns import matches_of
from codeio_hpc.stages.static.prose import docstring_of, io_description, question
from codeio_hpc.stages.static.results import ENTRY, entry_point, require_result, result_kind
from codeio_hpc.stages.static.words import words_of

_GENERIC = ("apple", "river", "Blue", "seven", "data", "North", "x", "lemon", "Ada", "stone", "the", "café")
_REGEX_CALLS = words_of("compile match search fullmatch findall finditer sub subn split")
_MARKS = (" ", ",", "-", "_", ".", ":", "/", "  ")


@dataclass(frozen=True)
class FunctionDraft:
    """The columns of a functions row that its file's text decides."""

    name: str
    code: str
    entry_point: str
    io_description: str
    question: str
    kind: JailKind
    parameters: str
    generator: str


Dropped = tuple[str, str, str]
"""Qualified name, reason, detail."""


Make = Callable[[Mapping[str, Kind]], tuple[FunctionDraft, Sequence[str]]]
"""A draft under assumed kinds of parameters, and the names of the parameters whose kinds are guesses."""
Choose = Callable[[Make], FunctionDraft]
"""Decides on a draft."""


def as_told(make: Make) -> FunctionDraft:
    """The draft with the kinds that the file tells."""
    return make({})[0]


def drafts(module: Module, settings: TransformSettings, choose: Choose = as_told) -> Iterator[FunctionDraft | Dropped]:
    """Every function of the file, finished or dropped with a reason, in the file's order; other kinds come last."""
    calls: dict[str, list[ShownCall]] | None = None
    seen: set[str] = set()
    for candidate in candidates(module):
        try:
            if len(seen) >= settings.max_functions_per_file:
                raise Refused("over_limit", f"more than {settings.max_functions_per_file} functions of one file")
            lifted = lift(module, candidate, settings.max_code_characters)
            require_result(candidate.node)
            if calls is None:  # costly, and most files have nothing that can be lifted
                calls = shown_calls(module)
            shown = examples_of(candidate.node, calls.get(candidate.node.name, []))
            draft = choose(partial(_draft, module, candidate, lifted, shown, settings))
            if draft.code in seen:
                raise Refused("duplicate", "the same code stands in this file before")
        except Refused as refused:
            yield candidate.name, refused.reason, refused.detail
        except RecursionError:
            yield candidate.name, "too_long", "nested too deep"
        else:
            seen.add(draft.code)
            yield draft
    for name, reason in other_functions(module):
        yield name, reason, ""


def _draft(
    module: Module,
    candidate: Candidate,
    lifted: Lifted,
    shown: list[Example],
    settings: TransformSettings,
    assumed: Mapping[str, Kind],
) -> tuple[FunctionDraft, Sequence[str]]:
    """The draft, and the names of the parameters whose kinds are guesses."""
    parameters = parameters_of(module, candidate.node, shown, assumed)
    if settings.max_parameters is not None and len(parameters) > settings.max_parameters:
        raise Refused("too_many_parameters", f"{len(parameters)}, more than {settings.max_parameters}")
    result = result_kind(module, candidate.node, parameters)
    code = entry_point(candidate, lifted, parameters, result)
    if len(code) > settings.max_code_characters:
        raise Refused("too_long", f"{len(code)} characters, more than {settings.max_code_characters}")
    docstring = docstring_of(module, candidate.node)
    draft = FunctionDraft(
        name=candidate.name,
        code=code,
        entry_point=ENTRY,
        io_description=io_description(docstring, parameters, result),
        question=question(candidate.name, docstring, parameters, result),
        kind=kind_of(code),
        parameters=_json([_parameter_json(parameter) for parameter in parameters]),
        generator=write_generator(parameters, _complete(shown, parameters), vocabulary(lifted, docstring)),
    )
    if any(map(_has_surrogate, (draft.code, draft.io_description, draft.question, draft.parameters, draft.generator))):
        raise Refused("surrogates", "it speaks of text that is not valid Unicode")
    return draft, [parameter.name for parameter in parameters if parameter.origin in GUESSES]


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _parameter_json(parameter: Parameter) -> dict[str, str]:
    return {"name": parameter.name, "type": parameter.kind.label(), "origin": parameter.origin}


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _complete(shown: list[Example], parameters: list[Parameter]) -> list[dict[str, object]]:
    """Shown calls as whole inputs: parameters left out there take their defaults; others are of no use."""
    inputs: list[dict[str, object]] = []
    for example in shown:
        values: dict[str, object] = {}
        for parameter in parameters:
            if parameter.name in example.arguments:
                if kinds.accepts(parameter.kind, example.arguments[parameter.name]):
                    values[parameter.name] = as_json(example.arguments[parameter.name])
            elif parameter.has_default:
                values[parameter.name] = parameter.default
        if len(values) == len(parameters) and set(example.arguments) <= set(values) and values not in inputs:
            inputs.append(values)
    return inputs[:6]


def vocabulary(lifted: Lifted, docstring: str) -> Vocabulary:
    """Words of the docstring and of the code's literals, the marks and longer clues among those literals, texts
    that its regular expressions match; and generic words and marks."""
    literals: dict[str, None] = {}
    matched: dict[str, None] = {}
    for inner in ast.walk(ast.parse(lifted.code)):
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str) and 0 < len(inner.value) <= 30:
            if _has_surrogate(inner.value):
                continue
            literals[inner.value] = None
        elif isinstance(inner, ast.Call):
            matched.update(dict.fromkeys(_matched(inner)))
    expressions = {inner for inner in literals if re.search(r"[\\\[(?*+]", inner) and len(inner) > 3}
    plain = [text for text in literals if text not in expressions]
    words = [word for text in plain for word in re.findall(r"[^\W_]{2,12}", text)]
    spoken = re.findall(r"\b[^\W\d_]{4,10}\b", docstring)
    marks = [text for text in plain if len(text) <= 2 and not text.isalnum() and text.isprintable()]
    clues = [text for text in plain if len(text) > 1 and (len(text) > 2 or not text.isalnum())]
    return Vocabulary(
        _distinct([*words[:8], *spoken[:8], *_GENERIC], 20),
        _distinct([*marks, *_MARKS], max(6, min(10, len(marks) + 3))),
        _distinct([*list(matched)[:12], *clues], 16),
    )


def _matched(call: ast.Call) -> list[str]:
    """Texts that the regular expression written in a call of ``re`` matches."""
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if name not in _REGEX_CALLS or not call.args or not isinstance(call.args[0], ast.Constant):
        return []
    pattern = call.args[0].value
    written = " ".join(ast.unparse(part) for part in call.args[1:])
    flags = re.VERBOSE if re.search(r"\b(?:VERBOSE|X)\b", written) else 0
    return matches_of(pattern, flags, 6) if isinstance(pattern, str) else []


def _distinct(texts: list[str], most: int) -> tuple[str, ...]:
    return tuple(list(dict.fromkeys(texts))[:most])
