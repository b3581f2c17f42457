"""What a function's body does with a value, and what kind of value that needs."""

from __future__ import annotations

import ast
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from codeio_hpc.stages.static.methods import (
    ARGUMENT_KINDS,
    ELEMENT_KINDS,
    METHOD_VOTES,
    MODULE_ARGUMENTS,
    TRANSPARENT,
)
from codeio_hpc.stages.static.module import Module

_DEPTH = 5
"""How far aliases, elements and calls of helpers are followed."""


@dataclass
class Evidence:
    """Votes for kinds (see methods.py), and what the value is used with."""

    votes: Counter[str] = field(default_factory=Counter)
    element: Evidence | None = None
    """Of what iterating over it, or indexing it, gives."""
    parts: list[Evidence] = field(default_factory=list)
    """It is unpacked into so many values."""
    key: Evidence | None = None
    optional: bool = False
    strings: list[str] = field(default_factory=list)
    """Text that it is compared with, split at, searched for."""
    numbers: list[int | float] = field(default_factory=list)
    equals: list[Any] = field(default_factory=list)
    """Literals that it is compared with for equality."""
    keys: list[str] = field(default_factory=list)
    """Literal keys that it is indexed by."""
    uses: set[str] = field(default_factory=set)
    """Names of functions it is passed to, as 'int', 'range', 'chr'."""
    shortest: int = 0
    """It is indexed by fixed whole numbers that need at least so many items."""
    same_length: set[str] = field(default_factory=set)
    """Other names that it is zipped with."""

    def of_element(self) -> Evidence:
        if self.element is None:
            self.element = Evidence()
        return self.element


class Observer:
    """Collects the evidence about the names of one function."""

    def __init__(self, module: Module, node: ast.FunctionDef, depth: int = 0) -> None:
        self._module = module
        self._node = node
        self._depth = depth
        self._parents = {child: parent for parent in ast.walk(node) for child in ast.iter_child_nodes(parent)}
        self._names: dict[str, list[ast.Name]] = {}
        for inner in ast.walk(node):
            if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Load):
                self._names.setdefault(inner.id, []).append(inner)
        self._followed: set[tuple[str, int]] = set()

    def observe(self, name: str) -> Evidence:
        """All evidence about a parameter or local name of the function."""
        evidence = Evidence()
        self._follow(name, evidence, self._depth)
        return evidence

    def _follow(self, name: str, evidence: Evidence, depth: int) -> None:
        if depth > _DEPTH or (name, id(evidence)) in self._followed:
            return
        self._followed.add((name, id(evidence)))
        for occurrence in self._names.get(name, ()):
            self._classify(occurrence, evidence, depth)

    def _classify(self, node: ast.expr, evidence: Evidence, depth: int) -> None:
        """Add what the surroundings of the expression ``node`` say about its value."""
        parent = self._parents.get(node)
        match parent:
            case ast.Attribute():
                self._attribute(parent, evidence, depth)
            case ast.Subscript(value=value) if value is node:
                self._subscript(parent, evidence, depth)
            case ast.Subscript():
                evidence.votes["index"] += 0 if self._looked_up(parent.value, evidence) else 1
            case ast.Slice():
                evidence.votes["int"] += 2
            case ast.For(iter=iterated) | ast.comprehension(iter=iterated) if iterated is node:
                evidence.votes["iterable"] += 1
                self._bind(parent.target, evidence.of_element(), depth)
            case ast.Call():
                self._call(parent, node, evidence, depth)
            case ast.keyword():
                evidence.uses.add(f"{parent.arg}=")
            case ast.BinOp():
                self._arithmetic(parent, node, evidence)
            case ast.UnaryOp():
                evidence.votes["truth" if isinstance(parent.op, ast.Not) else "number"] += 1
            case ast.AugAssign(value=value) if value is node and isinstance(parent.op, ast.Sub | ast.Mult):
                evidence.votes["number"] += 1
            case ast.Compare():
                self._compare(parent, node, evidence)
            case ast.BoolOp() | ast.If() | ast.While() | ast.IfExp() | ast.Assert():
                evidence.votes["truth"] += 1
                if isinstance(parent, ast.BoolOp | ast.IfExp):
                    self._classify_result(parent, node, evidence, depth)
            case ast.Assign(value=value) if value is node:
                for target in parent.targets:
                    self._bind(target, evidence, depth)
            case ast.NamedExpr() if isinstance(parent.target, ast.Name):
                self._follow(parent.target.id, evidence, depth + 1)
            case ast.Starred():
                evidence.votes["iterable"] += 1
            case ast.Await() | ast.With() | ast.withitem() | ast.Raise():
                evidence.votes["object"] += 3

    def _classify_result(self, parent: ast.expr, node: ast.expr, evidence: Evidence, depth: int) -> None:
        if isinstance(parent, ast.IfExp) and parent.test is node:
            return
        grandparent = self._parents.get(parent)
        if isinstance(grandparent, ast.Assign) and depth < _DEPTH:
            for target in grandparent.targets:
                self._bind(target, evidence, depth + 1)

    def _bind(self, target: ast.expr, evidence: Evidence, depth: int) -> None:
        """The value is given to ``target``: what happens to that name happens to the value."""
        if isinstance(target, ast.Name):
            self._follow(target.id, evidence, depth + 1)
        elif isinstance(target, ast.Tuple | ast.List):
            evidence.votes["iterable"] += 1
            if any(isinstance(item, ast.Starred) for item in target.elts):
                evidence.votes["list"] += 1
                return
            if not evidence.parts:
                evidence.parts = [Evidence() for _ in target.elts]
            for item, part in zip(target.elts, evidence.parts, strict=False):
                self._bind(item, part, depth)

    def _attribute(self, parent: ast.Attribute, evidence: Evidence, depth: int) -> None:
        votes = METHOD_VOTES.get(parent.attr)
        if votes is None:
            evidence.votes["object"] += 3
            return
        for vote in votes:
            evidence.votes[vote] += 3 if len(votes) == 1 else 1
        call = self._parents.get(parent)
        if not (isinstance(call, ast.Call) and call.func is parent):
            return
        evidence.strings += [text for argument in call.args for text in _texts(argument)]
        evidence.votes["bytes"] += 4 * any(_is_bytes(argument) for argument in call.args)
        evidence.votes["list"] += 2 * (parent.attr == "pop" and not call.args)
        if votes == ("dict",):
            self._dict_method(parent.attr, call, evidence, depth)
        elif parent.attr in TRANSPARENT and depth < _DEPTH:
            self._classify(call, evidence, depth + 1)

    def _dict_method(self, method: str, call: ast.Call, evidence: Evidence, depth: int) -> None:
        if method in ("get", "pop", "setdefault") and call.args:
            evidence.keys += _texts(call.args[0])
            self._classify(call, evidence.of_element(), depth)
            return
        user = self._parents.get(call)
        target = user.target if isinstance(user, ast.For | ast.comprehension) else None
        evidence.key = evidence.key or Evidence()
        if method == "items" and isinstance(target, ast.Tuple) and len(target.elts) == 2:
            self._bind(target.elts[0], evidence.key, depth)
            self._bind(target.elts[1], evidence.of_element(), depth)
        elif method == "values" and target is not None:
            self._bind(target, evidence.of_element(), depth)
        elif method == "keys" and target is not None:
            self._bind(target, evidence.key, depth)

    def _subscript(self, parent: ast.Subscript, evidence: Evidence, depth: int) -> None:
        index = parent.slice
        if isinstance(parent.ctx, ast.Store | ast.Del):
            evidence.votes["changed"] += 1
        if isinstance(index, ast.Slice):
            evidence.votes["sequence"] += 2
            self._classify(parent, evidence, depth)
            return
        if isinstance(index, ast.Constant) and isinstance(index.value, str):
            evidence.votes["dict"] += 3
            evidence.keys.append(index.value)
        elif (place := _integer(index)) is not None:
            evidence.votes["sequence"] += 2
            evidence.shortest = max(evidence.shortest, min(place + 1 if place >= 0 else -place, 9))
        else:
            evidence.votes["indexed"] += 1
        if depth < _DEPTH:
            self._classify(parent, evidence.of_element(), depth + 1)

    def _call(self, parent: ast.Call, node: ast.expr, evidence: Evidence, depth: int) -> None:
        if parent.func is node:
            evidence.votes["object"] += 5
            return
        name, position = _function_name(parent), parent.args.index(node) if node in parent.args else -1
        evidence.uses.add(name)
        dotted = self._module.dotted(parent.func)
        if dotted is not None:
            for vote in MODULE_ARGUMENTS.get(dotted, MODULE_ARGUMENTS.get(dotted.partition(".")[0] + ".*", ())):
                evidence.votes[vote] += 3
        elif name == "isinstance" and position == 0:
            self._isinstance(parent.args[1] if len(parent.args) > 1 else None, evidence)
        elif isinstance(parent.func, ast.Name):
            for vote in ARGUMENT_KINDS.get(name, ()):
                evidence.votes[vote] += 2
            for vote in ELEMENT_KINDS.get(name, ()):
                evidence.of_element().votes[vote] += 1
            self._iterated(parent, name, node, evidence, depth)
            self._helper(name, position, evidence, depth)
        elif isinstance(parent.func, ast.Attribute):
            self._argument_of_method(parent.func, evidence)

    def _iterated(self, call: ast.Call, name: str, node: ast.expr, evidence: Evidence, depth: int) -> None:
        """for x in sorted(p); for i, x in enumerate(p); for a, b in zip(p, q)."""
        if name == "zip":
            evidence.same_length.update(other.id for other in call.args if isinstance(other, ast.Name))
        user = self._parents.get(call)
        target = user.target if isinstance(user, ast.For | ast.comprehension) else None
        if target is None and name in ("sorted", "list", "tuple", "set", "reversed", "iter") and depth < _DEPTH:
            if isinstance(user, ast.Assign):
                like = Evidence(element=evidence.of_element())
                for bound in user.targets:
                    self._bind(bound, like, depth + 1)
            return
        if name in ("sorted", "list", "tuple", "set", "reversed") and target is not None:
            self._bind(target, evidence.of_element(), depth)
        elif isinstance(target, ast.Tuple) and name == "enumerate" and len(target.elts) == 2:
            self._bind(target.elts[1], evidence.of_element(), depth)
        elif isinstance(target, ast.Tuple) and name == "zip" and node in call.args:
            position = call.args.index(node)
            if position < len(target.elts):
                self._bind(target.elts[position], evidence.of_element(), depth)

    def _isinstance(self, types: ast.expr | None, evidence: Evidence) -> None:
        named = types.elts if isinstance(types, ast.Tuple) else [types] if types is not None else []
        for part in named:
            if isinstance(part, ast.Name) and part.id in ("str", "int", "float", "list", "dict", "bool", "set"):
                evidence.votes[part.id] += 1 if len(named) > 1 else 2

    def _helper(self, name: str, position: int, evidence: Evidence, depth: int) -> None:
        """What a helper of the same file does with the argument."""
        found = self._module.bindings.get(name, ())
        if depth >= _DEPTH - 1 or not found or not isinstance(found[0].statement, ast.FunctionDef):
            return
        helper = found[0].statement
        positional = [*helper.args.posonlyargs, *helper.args.args]
        if helper is not self._node and 0 <= position < len(positional):
            inner = Observer(self._module, helper, depth + 2)
            inner._follow(positional[position].arg, evidence, depth + 2)

    def _argument_of_method(self, function: ast.Attribute, evidence: Evidence) -> None:
        owner = function.value
        if function.attr in ("get", "index") and self._looked_up(owner, evidence):
            return
        if isinstance(owner, ast.Constant) and isinstance(owner.value, str):
            if function.attr == "join":
                evidence.votes["iterable"] += 2
                evidence.of_element().votes["str"] += 2
            return
        if function.attr in ("match", "search", "fullmatch", "findall", "finditer", "sub", "subn", "split"):
            evidence.votes["str"] += 2  # a compiled pattern, or another text
        elif function.attr in ("startswith", "endswith", "replace", "find", "rfind", "removeprefix", "removesuffix"):
            evidence.votes["str"] += 1
        elif function.attr in ("extend", "update", "difference", "intersection", "union"):
            evidence.votes["iterable"] += 1

    def _arithmetic(self, parent: ast.BinOp, node: ast.expr, evidence: Evidence) -> None:
        other = parent.right if parent.left is node else parent.left
        texts = _texts(other)
        if isinstance(parent.op, ast.Mod) and parent.right is node and texts:
            return
        if _is_bytes(other):
            evidence.votes["bytes"] += 4
        elif isinstance(other, ast.JoinedStr) or texts:
            evidence.votes["str" if isinstance(parent.op, ast.Add | ast.Mod) else "int"] += 2
        elif isinstance(parent.op, ast.BitAnd | ast.BitOr | ast.BitXor | ast.LShift | ast.RShift):
            plain = isinstance(other, ast.Constant) or isinstance(parent.op, ast.LShift)
            evidence.votes["int" if plain else "bits"] += 2
        elif isinstance(other, ast.List | ast.ListComp):
            evidence.votes["list"] += 2 if isinstance(parent.op, ast.Add) else 0
            evidence.votes["int"] += 2 if isinstance(parent.op, ast.Mult) else 0
        elif isinstance(other, ast.Constant) and isinstance(other.value, float):
            evidence.votes["float"] += 2
        elif isinstance(other, ast.Constant) and isinstance(other.value, int):
            evidence.votes["number"] += 2
            evidence.votes["int"] += isinstance(parent.op, ast.FloorDiv | ast.Mod)
        elif isinstance(parent.op, ast.Add | ast.Mult):
            evidence.votes["addable"] += 1
        else:
            evidence.votes["number"] += 2
            evidence.votes["float"] += isinstance(parent.op, ast.Div)

    def _compare(self, parent: ast.Compare, node: ast.expr, evidence: Evidence) -> None:
        sides = [parent.left, *parent.comparators]
        for operator, left, right in zip(parent.ops, sides, sides[1:], strict=False):
            if node not in (left, right):
                continue
            other = right if node is left else left
            if isinstance(operator, ast.In | ast.NotIn):
                self._membership(node is left, other, evidence)
            elif isinstance(other, ast.Constant) and other.value is None:
                evidence.optional = True
            elif isinstance(other, ast.Constant):
                self._compared(other.value, isinstance(operator, ast.Eq | ast.NotEq), evidence)
            elif isinstance(operator, ast.Lt | ast.LtE | ast.Gt | ast.GtE):
                evidence.votes["number"] += 1

    def _compared(self, value: object, equality: bool, evidence: Evidence) -> None:
        if isinstance(value, bool):
            evidence.votes["bool"] += 2
        elif isinstance(value, str):
            evidence.votes["str"] += 2
            evidence.strings.append(value)
            if equality:
                evidence.equals.append(value)
        elif isinstance(value, bytes):
            evidence.votes["bytes"] += 4
        elif isinstance(value, int | float):
            evidence.votes["int" if isinstance(value, int) else "float"] += 1
            evidence.votes["number"] += 1
            evidence.numbers.append(value)

    def _membership(self, is_member: bool, other: ast.expr, evidence: Evidence) -> None:
        if not is_member:
            evidence.votes["container"] += 1
            evidence.strings += _texts(other)
            if _texts(other):
                evidence.of_element().votes["str"] += 1
            return
        if isinstance(other, ast.Tuple | ast.List | ast.Set):
            for item in other.elts:
                if isinstance(item, ast.Constant) and item.value is not None:
                    self._compared(item.value, True, evidence)
        elif _texts(other):
            evidence.votes["str"] += 2
            evidence.strings += list(_texts(other)[0])[:20]
        else:
            self._looked_up(other, evidence)

    def _looked_up(self, table: ast.expr, evidence: Evidence) -> bool:
        """The value is looked for in a constant of the file: its keys or members are what is expected."""
        members = self._module.members(table.id) if isinstance(table, ast.Name) else ()
        for member in members:
            self._compared(member, True, evidence)
        return bool(members)


def _function_name(call: ast.Call) -> str:
    function = call.func
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")


def _texts(node: ast.expr) -> list[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.Tuple):
        return [text for item in node.elts for text in _texts(item)]
    return []


def _is_bytes(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, bytes)


def _integer(node: ast.expr) -> int | None:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _integer(node.operand)
        return None if inner is None else -inner
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, int) else None
