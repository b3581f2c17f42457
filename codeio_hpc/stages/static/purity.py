"""Which code is pure enough to lift: bans by abstract syntax, never by string match."""

from __future__ import annotations

import ast

from codeio_hpc.stages.static.module import Definition, Module, Refused
from codeio_hpc.stages.static.words import words_of

PURE_MODULES = words_of(
    "abc array base64 binascii bisect calendar cmath collections colorsys contextlib copy csv dataclasses "
    "datetime decimal difflib enum fnmatch fractions functools graphlib heapq html io itertools json keyword math "
    "numbers operator posixpath ntpath pprint re statistics string struct textwrap token types typing "
    "unicodedata urllib.parse warnings numpy __future__ reprlib stringprep quopri opcode shlex"
)
"""Modules whose functions depend on their arguments alone, apart from what DENIED takes out.

Checksums and compression are left out on purpose: pure, but nobody can work their results out by reasoning."""

DENIED = {
    "calendar": {"main", "timegm", "prcal", "prmonth", "setfirstweekday"},
    "csv": {"register_dialect", "unregister_dialect"},
    "io": {"open", "open_code", "FileIO"},
    "numpy": {
        "random", "load", "save", "savez", "savez_compressed", "loadtxt", "savetxt", "genfromtxt", "fromfile",
        "memmap", "DataSource", "show_config", "seterr", "empty", "empty_like", "set_printoptions", "f2py", "ctypeslib",
        "lib", "testing", "distutils",
    },
    "ntpath": {"abspath", "realpath", "expanduser", "expandvars", "exists", "isdir", "isfile", "islink", "ismount"},
    "posixpath": {"abspath", "realpath", "expanduser", "expandvars", "exists", "isdir", "isfile", "islink", "ismount"},
    "decimal": {"setcontext", "getcontext"},
    "warnings": {"filterwarnings", "simplefilter", "resetwarnings", "showwarning"},
    "pprint": {"pprint", "pp"},
}  # fmt: skip

PARTLY = {
    "os": {
        "fspath", "sep", "altsep", "pathsep", "extsep", "curdir", "pardir", "linesep", "PathLike", "path.join",
        "path.split", "path.splitext", "path.basename", "path.dirname", "path.normpath", "path.normcase", "path.isabs",
        "path.commonprefix", "path.commonpath", "path.relpath", "path.sep", "path.splitdrive", "fsdecode", "fsencode",
    },
    "sys": {"maxsize", "maxunicode", "byteorder", "version_info", "intern", "float_info", "hash_info"},
    "platform": set(),
    "time": {"struct_time"},
    "codecs": {"BOM_UTF8", "BOM_UTF16_LE", "BOM_UTF16_BE", "BOM_UTF32_LE", "BOM_UTF32_BE"},
}  # fmt: skip
"""Modules of which only these members are pure."""

IMPURE_MODULES = words_of(
    "random secrets uuid time socket ssl select selectors asyncio threading multiprocessing concurrent subprocess "
    "os sys shutil tempfile glob pathlib signal ctypes mmap fcntl resource pty tty termios curses readline "
    "logging locale platform getpass gc inspect importlib pkgutil urllib http ftplib smtplib sqlite3 pickle "
    "shelve dbm weakref atexit faulthandler traceback linecache zipfile tarfile gzip bz2 lzma codecs tkinter"
)
"""Modules named as impure in the reason; any other module that is not pure is merely unsupported."""

BANNED_BUILTINS = words_of(
    "eval exec compile __import__ open input globals locals vars print id breakpoint help exit quit memoryview "
    "__file__ __name__ __spec__ __loader__ __builtins__ copyright credits license"
)
_BANNED_ATTRIBUTES = {
    "now": "clock",
    "utcnow": "clock",
    "today": "clock",
    "fromtimestamp": "clock",
    "__subclasses__": "introspection",
    "__globals__": "introspection",
    "__code__": "introspection",
    "f_back": "introspection",
    "gi_frame": "introspection",
    "tb_frame": "introspection",
}
_MUTATORS = words_of(
    "append add update pop setdefault clear extend insert remove discard popitem sort reverse appendleft popleft "
    "register"
)


def require_pure(module: Module, node: ast.stmt, names: set[str]) -> None:
    """Check one top-level statement; ``names`` are the globals it uses.

    Raises:
        Refused: impure:WHAT, unsupported_import:MODULE, generator, async, or module_state.
    """
    _Visitor(module, names).visit(node)


def require_import(dotted: str) -> None:
    """Raise Refused unless what is imported under this full name is pure."""
    problem = _judge(dotted)
    if problem is not None:
        raise problem


def _judge(dotted: str) -> Refused | None:
    top, _, rest = dotted.partition(".")
    if dotted.startswith("."):
        return Refused("unsupported_import", f"{dotted} (another file of the package)")
    if top == "urllib" and (rest == "parse" or rest.startswith("parse.")):
        return None
    if top in PARTLY and (rest in PARTLY[top] or any(rest.startswith(f"{name}.") for name in PARTLY[top])):
        return None
    if top in PURE_MODULES:
        denied = DENIED.get(top, set()).intersection(rest.split("."))
        return Refused(f"impure:{top}.{min(denied)}", dotted) if denied else None
    if top in IMPURE_MODULES:
        return Refused(f"impure:{top}", dotted)
    return Refused("unsupported_import", top)


class _Visitor(ast.NodeVisitor):
    def __init__(self, module: Module, names: set[str]) -> None:
        self._module = module
        self._names = names

    def visit_Global(self, node: ast.Global) -> None:
        raise Refused("impure:global", ", ".join(node.names))

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        raise Refused("async", node.name)

    def visit_Await(self, node: ast.Await) -> None:
        raise Refused("async")

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            require_import(alias.name)
            if alias.name.partition(".")[0] in PARTLY or alias.name in DENIED:
                raise Refused(f"impure:{alias.name}", "imported inside a function")

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            require_import("." * node.level + f"{node.module or ''}.{alias.name}")

    def visit_Attribute(self, node: ast.Attribute) -> None:
        root = node.value
        while isinstance(root, ast.Attribute):
            root = root.value
        if isinstance(root, ast.Name) and root.id in self._names and (dotted := self._module.dotted(node)):
            problem = _judge(dotted)
            if problem is not None:
                raise problem
        elif isinstance(node.ctx, ast.Store | ast.Del) and isinstance(root, ast.Name) and root.id in self._names:
            raise Refused("module_state", f"sets an attribute of '{root.id}'")
        if node.attr in _BANNED_ATTRIBUTES:
            raise Refused(f"impure:{_BANNED_ATTRIBUTES[node.attr]}", f".{node.attr}")
        if not isinstance(node.value, ast.Name):  # a plain name here was judged with its attribute
            self.visit(node.value)
        elif self._module.dotted(node) is None:
            self.visit_Name(node.value)

    def visit_Name(self, node: ast.Name) -> None:
        if node.id not in self._names:
            return
        if node.id in BANNED_BUILTINS and node.id not in self._module.bindings:
            raise Refused(f"impure:{node.id}", f"line {node.lineno}")
        dotted = self._module.dotted(node)
        if dotted is None:
            return
        problem = _judge(dotted)
        if problem is not None:
            raise problem

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if isinstance(node.ctx, ast.Store | ast.Del):
            self._require_local(node.value)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._require_local(node.target)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Attribute) and node.func.attr in _MUTATORS:
            self._require_local(node.func.value)
        self.generic_visit(node)

    def _require_local(self, node: ast.expr) -> None:
        if isinstance(node, ast.Name) and node.id in self._names and self._module.dotted(node) is None:
            raise Refused("module_state", f"changes '{node.id}'")


def is_generator(node: Definition) -> bool:
    """Whether calling it gives a generator: a yield of its own, not of a nested function."""
    todo: list[ast.AST] = list(node.body)
    while todo:
        inner = todo.pop()
        if isinstance(inner, ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            todo.extend(ast.iter_child_nodes(inner))
    return False
