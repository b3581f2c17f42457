"""Kinds of parameters by trial: where nothing in the file tells them, or what tells them is wrong, the sandbox does."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from codeio_hpc.stages.static import kinds
from codeio_hpc.stages.static.functions import FunctionDraft, Make
from codeio_hpc.stages.static.kinds import Kind
from codeio_hpc.stages.static.module import Refused

Attempt = Callable[[FunctionDraft], tuple[float, bool]]
"""The share of a few generated inputs for which the function gives a value, and whether these values differ."""

ENOUGH = 0.5
_ALTERNATIVES = (
    kinds.STR,
    kinds.INT,
    kinds.list_of(kinds.INT),
    kinds.list_of(kinds.STR),
    kinds.list_of(kinds.list_of(kinds.INT)),
    kinds.dict_of(kinds.STR, kinds.INT),
    kinds.FLOAT,
)

_NESTED = re.compile(r"matri|grid|board|maze|image|table|points|edges|pairs|intervals|rows|2d|graph|lists")


def by_trial(make: Make, attempt: Attempt, most: int) -> FunctionDraft:
    """The draft as the file tells it, if it works; else, of at most ``most`` others with one guess changed (or all
    guesses alike), the first that works best. If none does: the draft as told.

    Raises:
        Refused: as ``make``; unknown_type where the file does not tell a kind and no trial found one.
    """
    unknown: dict[str, Kind] = {}
    while True:
        try:
            told, guessed = make(unknown)
            break
        except Refused as refused:
            name = refused.detail.strip("'")
            if refused.reason != "unknown_type" or name in unknown or name.startswith("*"):
                raise
            unknown[name] = kinds.STR
    weak = [*unknown, *(name for name in guessed if name not in unknown)]

    def rate_of(draft: FunctionDraft) -> float:
        share, differs = attempt(draft)
        # an unknown kind under which everything comes out alike is an object that the code only looks at
        return share if differs or not unknown else 0.0

    best, rate = told, rate_of(told) if weak else 1.0
    tried = 1
    for assumed in _assumptions(weak, unknown):
        if rate >= ENOUGH or tried >= most:
            break
        tried += 1
        try:
            draft, _ = make({**unknown, **assumed})
        except Refused:
            continue
        if (found := rate_of(draft)) > rate:
            best, rate = draft, found
    if rate < ENOUGH and unknown:
        raise Refused("unknown_type", f"'{next(iter(unknown))}'; {tried} kinds were tried")
    return best if rate >= ENOUGH else told


def _assumptions(weak: Sequence[str], unknown: Mapping[str, Kind]) -> Iterator[dict[str, Kind]]:
    if len(weak) > 1:
        yield from (dict.fromkeys(weak, kind) for kind in _ALTERNATIVES[1:4])
    for name in weak:
        first = [kinds.list_of(kinds.list_of(kinds.INT))] if _NESTED.search(name.lower()) else []
        yield from ({name: kind} for kind in dict.fromkeys([*first, *_ALTERNATIVES]) if unknown.get(name) != kind)
