"""Functions that come in the unified format: code, description, generator and question, as a dataset (or a teacher)
gives them. They are held to the same rules as functions lifted from files."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass

from codeio_hpc.config.run import TransformSettings
from codeio_hpc.sandbox.policy import kind_of
from codeio_hpc.stages.static.functions import FunctionDraft
from codeio_hpc.stages.static.lift import Candidate, lift
from codeio_hpc.stages.static.module import BUILTINS, Module, Refused, parse_module, used_globals
from codeio_hpc.stages.static.results import ENTRY, require_result, returned

GENERATOR = "input_generator"
_KNOWN = {
    "Random": "from random import Random",
    "random": "import random",
    "math": "import math",
    "string": "import string",
    "np": "import numpy as np",
}
"""What generators take for granted because the program that ran them had it imported."""
_DESCRIBED = re.compile(r"^\s*[-*]?\s*`(\w+)`\s*\(([^()]*(?:\([^()]*\)[^()]*)*)\)", re.MULTILINE)


@dataclass(frozen=True)
class UnifiedFunction:
    """The four parts (arXiv 2502.07316, section 2.2; its entry function is part of the code)."""

    code: str
    """Defines ``main_solution``."""
    io_description: str
    generator: str
    """Defines ``input_generator()``, or a function of one argument that takes a ``random.Random``."""
    question: str

    @classmethod
    def from_json(cls, content: str) -> UnifiedFunction:
        """From the content of a row of the files table whose form is ``function``."""
        return cls(**json.loads(content))


def finish(function: UnifiedFunction, settings: TransformSettings) -> FunctionDraft:
    """The columns of a functions row.

    Raises:
        Refused: a part is empty, not_parseable, without its function, impure, too long, or the generator's keys do not
            fit the signature.
    """
    try:
        return _finish(function, settings)
    except RecursionError:
        raise Refused("too_long", "nested too deep") from None


def _finish(function: UnifiedFunction, settings: TransformSettings) -> FunctionDraft:
    for name in ("code", "generator", "question", "io_description"):
        if not getattr(function, name).strip():
            raise Refused("missing_part", name)
    module = parse_module(function.code)
    node = _entry(module)
    names = _parameters(node)
    if settings.max_parameters is not None and len(names) > settings.max_parameters:
        raise Refused("too_many_parameters", f"{len(names)}, more than {settings.max_parameters}")
    lifted = lift(module, Candidate(ENTRY, node), settings.max_code_characters)
    require_result(node)
    generator = _generator(function.generator, node)
    types = dict(_DESCRIBED.findall(function.io_description))
    parameters = [{"name": name, "type": types.get(name, "any JSON value"), "origin": "given"} for name in names]
    return FunctionDraft(
        name=ENTRY,
        code=lifted.code,
        entry_point=ENTRY,
        io_description=function.io_description.strip(),
        question=function.question.strip(),
        kind=kind_of(lifted.code, generator),
        parameters=json.dumps(parameters, separators=(",", ":"), ensure_ascii=False),
        generator=generator,
    )


def _entry(module: Module) -> ast.FunctionDef:
    binding = module.binding(ENTRY)
    if binding is None or not isinstance(binding.statement, ast.FunctionDef):
        raise Refused("no_entry_point", f"the code does not define {ENTRY}")
    return binding.statement


def _parameters(node: ast.FunctionDef) -> list[str]:
    arguments = node.args
    if arguments.posonlyargs or arguments.vararg or arguments.kwarg:
        raise Refused("signature", "its arguments cannot all be given by name")
    names = [argument.arg for argument in (*arguments.args, *arguments.kwonlyargs)]
    if not names:
        raise Refused("no_parameters")
    return names


def _generator(text: str, node: ast.FunctionDef) -> str:
    """Self-contained source that defines ``input_generator()`` without arguments, for the function ``node``."""
    try:
        module = parse_module(text)
    except Refused as refused:
        raise Refused("generator", f"not parseable: {refused.detail}") from None
    functions = [node for node in module.tree.body if isinstance(node, ast.FunctionDef)]
    missing = {name for node in module.tree.body for name in _unbound(module, node)}
    if unknown := sorted(missing - _KNOWN.keys()):
        raise Refused("generator", f"unknown name '{unknown[0]}'")
    head = "".join(f"{_KNOWN[name]}\n" for name in sorted(missing))
    body = f"{head}\n\n{text.strip()}\n" if head else f"{text.strip()}\n"
    given = next((node for node in functions if node.name == GENERATOR), functions[-1] if functions else None)
    if given is None:
        raise Refused("generator", "it defines no function")
    _require_keys(given, node)
    needed = len(given.args.args) - len(given.args.defaults)
    if needed == 0 and given.name == GENERATOR:
        return body
    if needed > 1:
        raise Refused("generator", f"{given.name} wants {needed} arguments")
    # the name may be taken by the function that is wrapped
    wrapped = f"import random\n\ngiven_generator = {given.name}"
    call = f"given_generator({'random' * needed})"
    return f"{body}\n\n{wrapped}\n\n\ndef {GENERATOR}():\n    return {call}\n"


def _unbound(module: Module, node: ast.stmt) -> set[str]:
    annotations = {
        name.id
        for inner in ast.walk(node)
        if isinstance(inner, ast.arg) and inner.annotation is not None
        for name in ast.walk(inner.annotation)
        if isinstance(name, ast.Name)
    }
    used = set() if isinstance(node, ast.Import | ast.ImportFrom) else used_globals(module, node) | annotations
    return used - BUILTINS - module.bindings.keys() - module.unsteady


def _require_keys(generator: ast.FunctionDef, node: ast.FunctionDef) -> None:
    """Where a return of the generator is a dict written out, its keys must be names of parameters, and all required."""
    names = _parameters(node)
    required = set(names[: len(node.args.args) - len(node.args.defaults)])
    for value in returned(generator):
        if not isinstance(value, ast.Dict):
            continue  # its keys show when it is run
        keys = {key.value for key in value.keys if isinstance(key, ast.Constant)}
        if len(keys) == len(value.keys) and not required <= keys <= set(names):
            raise Refused("generator", f"it gives {sorted(map(str, keys))}, the function takes {names}")
