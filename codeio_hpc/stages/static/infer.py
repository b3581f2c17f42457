"""Which parameters a lifted function gets, of which kinds, and how that is known."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from codeio_hpc.stages.static import kinds
from codeio_hpc.stages.static.examples import Example, as_json, plain
from codeio_hpc.stages.static.hints import UNREADABLE, kind_of_hint
from codeio_hpc.stages.static.kinds import Kind
from codeio_hpc.stages.static.module import Module, Refused
from codeio_hpc.stages.static.usage import Evidence, Observer

Origin = Literal["hint", "doctest", "call", "default", "usage", "name", "trial"]
GUESSES = ("usage", "name", "trial")
"""Origins that may be wrong: the others are said by the file."""
_MOST_PARAMETERS = 5
"""Optional parameters beyond this many in all are left at their defaults."""
_MOST_REQUIRED = 7
_MISSING = object()


@dataclass(frozen=True)
class Parameter:
    """A parameter of the entry point."""

    name: str
    kind: Kind
    origin: Origin
    evidence: Evidence = field(repr=False)
    by_keyword: bool = False
    """Passed on by keyword: keyword-only, or after one that was left out."""
    default: Any = None
    has_default: bool = False
    variadic: bool = False
    """It is the list of all further positional arguments."""
    examples: tuple[Any, ...] = ()
    """Values that the file itself passes, in JSON form."""


def parameters_of(
    module: Module, node: ast.FunctionDef, examples: list[Example], assumed: Mapping[str, Kind]
) -> list[Parameter]:
    """The parameters that can be filled, in order; optional ones that cannot are left at their defaults. ``assumed``
    are kinds that are tried, in place of what the file tells.

    Raises:
        Refused: unknown_type, callable_parameter, no_parameters, too_many_parameters.
    """
    observer = Observer(module, node)
    chosen: list[Parameter] = []
    skipped = False
    arguments = _arguments(node)
    if sum(default is None for _, default, _ in arguments) > _MOST_REQUIRED:
        raise Refused("too_many_parameters", f"{len(arguments)} parameters")
    called = _called(node)
    for argument, default, keyword_only in arguments:
        if argument.arg in called and argument is not node.args.vararg:
            if default is None:
                raise Refused("callable_parameter", f"'{argument.arg}'")
            skipped = True
            continue
        if argument is node.args.vararg:
            if not skipped:
                chosen.append(_variadic(module, observer, argument))
            continue
        parameter = _parameter(module, observer, argument, default, examples, assumed.get(argument.arg))
        if parameter is None or (default is not None and len(chosen) >= _MOST_PARAMETERS):
            if default is None:
                raise Refused("unknown_type", f"'{argument.arg}'")
            skipped = True
            continue
        if (keyword_only or skipped) and argument in node.args.posonlyargs:
            continue
        chosen.append(replace(parameter, by_keyword=True) if keyword_only or skipped else parameter)
    if not chosen:
        raise Refused("no_parameters", "nothing that an input could vary")
    return chosen


def _called(node: ast.FunctionDef) -> set[str]:
    """Names that the function calls and never binds: as a parameter it would have to be a function."""
    names = [inner for inner in ast.walk(node) if isinstance(inner, ast.Name)]
    bound = {name.id for name in names if isinstance(name.ctx, ast.Store)}
    calls = [inner.func for inner in ast.walk(node) if isinstance(inner, ast.Call)]
    return {call.id for call in calls if isinstance(call, ast.Name)} - bound


def _variadic(module: Module, observer: Observer, argument: ast.arg) -> Parameter:
    """``*args`` as one list."""
    hint = kind_of_hint(module, argument.annotation)
    evidence = observer.observe(argument.arg)
    used, origin = by_usage(argument.arg, evidence)
    item = used.items[0] if used.name in ("list", "tuple") and used.items else kinds.ANY
    item = item if hint.name in ("any", "unreadable") else hint
    if not item.known:
        raise Refused("unknown_type", f"'*{argument.arg}'")
    return Parameter(argument.arg, kinds.list_of(item), "hint" if hint.known else origin, evidence, variadic=True)


def _arguments(node: ast.FunctionDef) -> list[tuple[ast.arg, ast.expr | None, bool]]:
    """Argument, default, whether keyword-only, *args among them; without **kwargs, which are left empty."""
    positional = [*node.args.posonlyargs, *node.args.args]
    padding: list[ast.expr | None] = [None] * (len(positional) - len(node.args.defaults))
    found = [(a, d, False) for a, d in zip(positional, [*padding, *node.args.defaults], strict=True)]
    if node.args.vararg is not None:
        found.append((node.args.vararg, None, False))
    return found + [(a, d, True) for a, d in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)]


def _parameter(
    module: Module,
    observer: Observer,
    argument: ast.arg,
    default: ast.expr | None,
    examples: list[Example],
    assumed: Kind | None,
) -> Parameter | None:
    name = argument.arg
    evidence = observer.observe(name)
    shown = [example for example in examples if name in example.arguments]
    value = _literal(default)
    kind, origin = _decide(module, argument, value, shown, evidence, default is not None)
    if assumed is not None:
        kind, origin = assumed, "trial"
    if origin is None:
        return None
    usable = kind if value is not None else kind.or_none()
    fitting = [example.arguments[name] for example in shown if kinds.accepts(usable, example.arguments[name])]
    has_default = default is not None and value is not _MISSING and kinds.accepts(usable, value)
    return Parameter(
        name,
        usable,
        origin,
        evidence,
        default=as_json(value) if has_default else None,
        has_default=has_default,
        examples=tuple(map(as_json, fitting)),
    )


def _literal(node: ast.expr | None) -> Any:
    if node is None:
        return _MISSING
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return _MISSING
    return value if kinds.kind_of(value).name != "any" and plain(value) else _MISSING


def _decide(
    module: Module, argument: ast.arg, default: Any, shown: list[Example], evidence: Evidence, may_be_left_out: bool
) -> tuple[Kind, Origin | None]:
    """The kind by the best source that tells it; vague hints are completed by the others."""
    name = argument.arg
    hint = kind_of_hint(module, argument.annotation)
    if hint == UNREADABLE or (may_be_left_out and default is _MISSING and argument.annotation is None):
        return kinds.ANY, None
    by_calls = kinds.join(kinds.kind_of(example.arguments[name]) for example in shown)
    by_default = kinds.ANY if default is _MISSING or default is None else kinds.kind_of(default)
    used, used_origin = by_usage(name, evidence)
    sources: list[tuple[Kind, Origin]] = [
        (hint, "hint"),
        (by_calls, shown[0].origin if shown else "doctest"),
        (by_default, "default"),
        (used, used_origin),
    ]
    named = [(kind, origin) for kind, origin in sources if kind.name not in ("any", "none", "unreadable")]
    if not named or (may_be_left_out and named[0][1] == "name"):
        return kinds.ANY, None
    kind, origin = named[0]
    for other, _ in named[1:]:
        kind = _complete(kind, other)
    kind = _narrow(_complete(kind, _fallback(kind, name)), evidence, origin)
    return (kind, origin) if kind.known else (kinds.ANY, None)


def _complete(kind: Kind, other: Kind) -> Kind:
    """``kind`` with its open places filled from ``other``, where their shapes agree."""
    if kind.name == "any":
        return Kind(other.name, other.items, other.choices, kind.optional) if other.name != "unreadable" else kind
    sequences = ("list", "vtuple", "set")
    if kind.name in sequences and other.name in sequences:
        return Kind(kind.name, (_complete(kind.items[0], other.items[0]),), (), kind.optional)
    if kind.name == other.name and len(kind.items) == len(other.items):
        items = tuple(_complete(mine, theirs) for mine, theirs in zip(kind.items, other.items, strict=True))
        return Kind(kind.name, items, kind.choices, kind.optional)
    return kind


def _fallback(kind: Kind, name: str) -> Kind:
    """What an open place of a container holds when nothing tells: text for names of texts, else whole numbers."""
    inner = kinds.STR if _TEXTS.search(name) or kind.name == "dict" else kinds.INT
    if kind.name in ("list", "vtuple", "set"):
        return Kind(kind.name, (_fallback(kind.items[0], name) if kind.items[0].items else inner,))
    if kind.name == "dict":
        return kinds.dict_of(kinds.STR, kinds.INT)
    if kind.name == "tuple":
        return kinds.tuple_of(*(_fallback(item, name) if item.items else inner for item in kind.items))
    return inner


def _narrow(kind: Kind, evidence: Evidence, origin: Origin) -> Kind:
    """A text that is only ever compared with a few words is a choice of them."""
    if kind != kinds.STR or origin == "hint" or len(set(evidence.equals)) < 2:
        return kind
    others = {vote for vote in evidence.votes if vote not in ("str", "truth")}
    if others or evidence.votes["str"] > 2 * len(evidence.equals):
        return kind
    return kinds.choice_of(value for value in evidence.equals if isinstance(value, str))


_TEXTS = re.compile(
    r"(?:^|_)(?:s|str|strs|strings?|words?|names?|lines?|texts?|tokens?|keys?|parts?|paths?|labels?|args|argv|chars?"
    r"|titles?|fields?|columns?|tags?|chunks|letters?|prefix(?:es)?|suffix(?:es)?|options?|classes|lst_of_str)$"
)
_NAMED: tuple[tuple[str, Kind], ...] = (
    (r"is_.*|has_.*|use_.*|verbose|strict|reverse|flag|inclusive|recursive|ignore_.*|allow_.*|include_.*", kinds.BOOL),
    (
        r"s|ss|string|text|txt|name|.*_name|line|word|path|.*_path|file|filename|fname|url|uri|key|prefix|suffix|char|"
        r"ch|c|sep|delimiter|delim|pattern|pat|message|msg|title|label|tag|token|source|src|version|ver|data|encoding|"
        r"lang|language|.*_str|.*_string|str\d?|s\d|value_str|color|date|email|host|hostname|query|expr|html|xml|"
        r"content|body|header|identifier|ident|symbol|password|phrase|sentence|.*_text|doc|docstring|code|mode",
        kinds.STR,
    ),
    (
        r"n|m|k|i|j|num|number|count|size|width|height|length|index|idx|start|stop|end|step|limit|depth|level|offset|"
        r"pos|position|year|month|day|hour|minute|second|bits|nbytes|max_.*|min_.*|n_.*|num_.*|base|digits|seed|order|"
        r"degree|lineno|col|row|indent|.*_len|.*_size|.*_count|.*_index|hi|lo|low|high|p|q|r|dim|ndim|exponent|exp|code_?point",
        kinds.INT,
    ),
    (r"x|y|z|t|a|b|x\d|y\d|v|dx|dy", kinds.INT),
    (
        r"alpha|beta|radius|angle|theta|phi|rate|ratio|price|weight|temperature|speed|mass|distance|scale|"
        r"factor|eps|tol|tolerance|threshold|prob|probability|mean|sigma|mu|std|seconds|time|lat|lon|"
        r"amount|percent|percentage|score|loss|lr",
        kinds.FLOAT,
    ),
    (
        r"lst|list|items|values|seq|sequence|xs|nums|numbers|array|arr|elements|data_list|ints|iterable|it|vals|"
        r".*_list|indices|sizes|shape|weights|l|vector|row|nodes|points|coeffs",
        kinds.list_of(kinds.ANY),
    ),
    (
        r"d|dct|dictionary|mapping|.*_dict|.*_map|counts|table|kwargs|config|options|params|attrs",
        kinds.dict_of(kinds.STR, kinds.ANY),
    ),
)
_COUNTED = r"n|m|k|num|number|count|digits|year|days?|size|length|limit"
"""Names of whole numbers, whatever is done to them."""
_NAME_PATTERNS = tuple((re.compile(pattern), kind) for pattern, kind in _NAMED)


def by_name(name: str) -> Kind:
    """What the name alone suggests; 'any' for names that say nothing."""
    for pattern, kind in _NAME_PATTERNS:
        if pattern.fullmatch(name.lower().strip("_")):
            return kind
    return kinds.ANY


def by_usage(name: str, evidence: Evidence, depth: int = 0) -> tuple[Kind, Origin]:
    """The kind that fits the evidence best, helped by the name where the evidence leaves a choice."""
    votes = evidence.votes
    if votes["object"]:
        return UNREADABLE, "usage"
    suggested = by_name(name)
    strong = {
        kind: votes[kind] for kind in ("str", "int", "float", "dict", "list", "set", "bool", "bytes") if votes[kind]
    }
    if strong and (best := max(strong, key=lambda kind: strong[kind])):
        if suggested.name in strong and strong[suggested.name] == strong[best]:
            best = suggested.name
        if best == "float" and suggested.name == "int" and re.fullmatch(_COUNTED, name.lower()):
            best = "int"  # divided, or its root taken, as a whole number may be
        return _build(best, name, evidence, depth), "usage"
    weak = _weak(evidence, suggested)
    if weak is not None:
        return _build(weak, name, evidence, depth), "usage"
    if votes["truth"] and suggested.name == "any":
        return kinds.BOOL, "usage"
    return (suggested, "name") if depth == 0 else (suggested, "usage")


def _weak(evidence: Evidence, suggested: Kind) -> str | None:
    votes = evidence.votes
    if evidence.parts:
        return "tuple"
    if votes["changed"]:
        return "dict" if suggested.name == "dict" else "list"
    if votes["numeral"] and not votes["number"]:
        return "int" if suggested.name in ("int", "float") else "numeral"
    if votes["number"] or votes["bits"] or votes["index"]:
        return "float" if suggested.name == "float" and not (votes["bits"] or votes["index"]) else "int"
    if votes["sequence"] or votes["iterable"] or votes["sized"] or votes["container"] or votes["indexed"]:
        if suggested.name in ("str", "list", "dict"):
            return suggested.name
        element = evidence.element
        return "str" if element is not None and _is_character(element) else "list"
    if votes["addable"] and suggested.name in ("any", "int", "float"):
        return "int" if suggested.name == "any" else suggested.name
    return None


def _is_character(element: Evidence) -> bool:
    return bool(element.uses & {"ord"} or (element.strings and all(len(text) <= 1 for text in element.strings)))


def _build(best: str, name: str, evidence: Evidence, depth: int) -> Kind:
    if best == "numeral":
        return kinds.STR
    if best == "tuple":
        parts = [by_usage("", part, depth + 1)[0] for part in evidence.parts]
        return kinds.list_of(kinds.INT) if depth > 4 else kinds.tuple_of(*parts)
    if best in ("list", "set", "dict"):
        element = kinds.ANY
        if evidence.element is not None and depth < 4:
            element = by_usage(_singular(name), evidence.element, depth + 1)[0]
        if best == "dict":
            key = by_usage("", evidence.key, depth + 1)[0] if evidence.key is not None and depth < 4 else kinds.STR
            return kinds.dict_of(kinds.INT if key.name == "int" else kinds.STR, element)
        return Kind(best, (element,))
    return Kind(best)


def _singular(name: str) -> str:
    return name[:-1] if len(name) > 2 and name.endswith("s") else ""
