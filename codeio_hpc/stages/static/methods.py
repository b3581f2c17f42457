"""What methods and functions of Python tell about the values they are used on.

Votes: the kinds themselves (str int float bool list dict set bytes), and weaker ones: 'number', 'iterable',
'sequence' (indexed or sliced by whole numbers), 'container', 'sized', 'bits' (whole numbers or sets), and 'object'
(something no JSON value is).
"""

from __future__ import annotations

from codeio_hpc.stages.static.words import words_of

_TYPES: tuple[tuple[str, type], ...] = (
    ("str", str),
    ("int", int),
    ("float", float),
    ("list", list),
    ("dict", dict),
    ("set", set),
    ("bytes", bytes),
)


def _votes() -> dict[str, tuple[str, ...]]:
    """For every public method of the built-in types, the types that have it; bytes only where str has it not."""
    found: dict[str, list[str]] = {}
    for name, owner in _TYPES:
        for method in dir(owner):
            if not method.startswith("_"):
                found.setdefault(method, []).append(name)
    votes: dict[str, tuple[str, ...]] = {}
    for method, names in found.items():
        kept = [name for name in names if name != "bytes" or "str" not in names]
        votes[method] = tuple(kept)
    return votes


METHOD_VOTES = _votes()
METHOD_VOTES.update(
    {
        "real": ("float", "int"),
        "imag": ("float", "int"),
        "hex": ("float",),
        "copy": ("list", "dict"),
        "pop": ("list", "dict"),
        "update": ("dict", "set"),
        "get": ("dict",),
    }
)

TRANSPARENT = words_of("strip lstrip rstrip lower upper title capitalize casefold swapcase replace expandtabs zfill")
"""Methods of text that give text much like it."""

ARGUMENT_KINDS: dict[str, tuple[str, ...]] = {
    "len": ("sized",),
    "range": ("int",),
    "chr": ("int",),
    "hex": ("int",),
    "bin": ("int",),
    "oct": ("int",),
    "ord": ("str",),
    "abs": ("number",),
    "round": ("float",),
    "divmod": ("number",),
    "pow": ("number",),
    "sum": ("iterable",),
    "sorted": ("iterable",),
    "list": ("iterable",),
    "tuple": ("iterable",),
    "set": ("iterable",),
    "frozenset": ("iterable",),
    "enumerate": ("iterable",),
    "zip": ("iterable",),
    "reversed": ("sequence",),
    "any": ("iterable",),
    "all": ("iterable",),
    "iter": ("iterable",),
    "max": ("addable",),
    "min": ("addable",),
    "dict": ("dict",),
    "int": ("numeral",),
    "float": ("numeral",),
    "Fraction": ("int",),
    "Decimal": ("numeral",),
    "callable": ("object",),
    "hasattr": ("object",),
    "getattr": ("object",),
    "setattr": ("object",),
    "issubclass": ("object",),
    "next": ("object",),
    "super": ("object",),
    "fspath": ("str",),
}

ELEMENT_KINDS: dict[str, tuple[str, ...]] = {"sum": ("number",)}

MODULE_ARGUMENTS: dict[str, tuple[str, ...]] = {
    "math.gcd": ("int",),
    "math.lcm": ("int",),
    "math.comb": ("int",),
    "math.perm": ("int",),
    "math.isqrt": ("int",),
    "math.factorial": ("int",),
    "math.prod": ("iterable",),
    "math.fsum": ("iterable",),
    "math.*": ("float", "number"),
    "cmath.*": ("float", "number"),
    "statistics.*": ("iterable",),
    "re.*": ("str",),
    "os.fspath": ("str",),
    "os.path.*": ("str",),
    "os.*": ("str",),
    "posixpath.*": ("str",),
    "ntpath.*": ("str",),
    "json.loads": ("str",),
    "html.*": ("str",),
    "urllib.*": ("str",),
    "unicodedata.*": ("str",),
    "textwrap.*": ("str",),
    "keyword.*": ("str",),
    "ast.*": ("str",),
    "fnmatch.*": ("str",),
    "base64.*": ("bytes",),
    "binascii.*": ("bytes",),
    "zlib.*": ("bytes",),
    "hashlib.*": ("bytes",),
    "bisect.*": ("sequence",),
    "heapq.*": ("list",),
    "calendar.*": ("int",),
    "operator.index": ("int",),
    "_operator.index": ("int",),
    "collections.Counter": ("iterable",),
    "collections.OrderedDict": ("dict",),
    "collections.deque": ("iterable",),
    "itertools.*": ("iterable",),
    "fractions.Fraction": ("int",),
    "decimal.Decimal": ("numeral",),
    "numpy.array": ("list",),
    "numpy.asarray": ("list",),
    "numpy.*": ("list",),
    "copy.*": ("addable",),
}
