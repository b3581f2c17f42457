"""Near-duplicates: MinHash signatures of texts, and which of many texts are almost the same as an earlier one.

Signatures are datasketch's. Its index is not used: it holds every signature in Python dictionaries, tens of gigabytes
for a few million texts. Here each band is sorted on its own, so that memory is that of the signatures (512 bytes a
text) and a few numbers a text beside them.
"""

from __future__ import annotations

import base64
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Signatures = NDArray[np.uint32]
    """Shape (texts, HASHES)."""

HASHES = 128
"""Values of a signature: the estimated similarity has a standard error of 0.03 at 0.85."""
_SHINGLE = 5
_BANDS, _ROWS = 21, 6
"""Texts meet where one band agrees: at a similarity of 0.7 with a chance of 0.93, at 0.8 of 0.998, at 0.3 of 0.02."""
_LOOK_BACK = 8
"""Earlier texts of a bucket that each is compared with: a phrase that thousands share must not cost their square."""

_TOKEN = re.compile(r"\w+|[^\w\s]")


def sign(text: str) -> str:
    """The signature of a text's set of runs of five tokens (words and marks; blanks do not count), in base64.

    The similarity of two texts is the Jaccard index of these sets (Broder, 1997).
    """
    from datasketch import MinHash

    tokens = _TOKEN.findall(text)
    runs = {" ".join(tokens[at : at + _SHINGLE]) for at in range(max(1, len(tokens) - _SHINGLE + 1))}
    made = MinHash(num_perm=HASHES, seed=1, scheme="affine32")
    made.update_batch([run.encode("utf-8") for run in sorted(runs)])
    return base64.b64encode(made.hashvalues.astype("<u4").tobytes()).decode("ascii")


def unpack(signed: Iterable[str]) -> Signatures:
    """Signatures as an array, one row a text."""
    import numpy as np

    data = b"".join(base64.b64decode(text) for text in signed)
    return np.frombuffer(data, dtype="<u4").reshape(-1, HASHES)


def similarity(one: NDArray[np.uint32], other: NDArray[np.uint32]) -> float:
    """The estimated similarity of two texts, 0 to 1."""
    return float((one == other).mean())


def near_duplicates(signatures: Signatures, threshold: float) -> dict[int, tuple[int, float]]:
    """For each text that is at least as similar as ``threshold`` to an earlier one that is kept: that one, and how
    similar. Texts are kept or not in their order, so what is kept is never near to anything else that is kept, as far
    as the bands see it, and no chain of small steps takes distant texts along.
    """
    earlier = _meetings(signatures)
    found: dict[int, tuple[int, float]] = {}
    for text in sorted(earlier):
        for other in sorted(earlier[text]):
            if other not in found and (alike := similarity(signatures[text], signatures[other])) >= threshold:
                found[text] = other, alike
                break
    return found


def clusters(signatures: Signatures, threshold: float) -> list[int]:
    """For each text the first text of its cluster: texts at least as similar as ``threshold`` are in one cluster, and
    so are those that they are similar to in turn."""
    first = list(range(len(signatures)))

    def root(text: int) -> int:
        while first[text] != text:
            first[text] = text = first[first[text]]
        return text

    earlier = _meetings(signatures)
    for text in sorted(earlier):
        for other in sorted(earlier[text]):
            one, two = sorted((root(text), root(other)))
            if one != two and similarity(signatures[text], signatures[other]) >= threshold:
                first[two] = one
    return [root(text) for text in range(len(first))]


def _meetings(signatures: Signatures) -> dict[int, set[int]]:
    """For each text, earlier ones with which it shares a band."""
    import numpy as np

    earlier: dict[int, set[int]] = defaultdict(set)
    for band in range(_BANDS):
        values = np.ascontiguousarray(signatures[:, band * _ROWS : (band + 1) * _ROWS])
        keys = values.view(np.dtype((np.void, values.itemsize * _ROWS))).ravel()
        order = np.argsort(keys, kind="stable")
        same = keys[order[1:]] == keys[order[:-1]]
        for bucket in _runs(order, same):
            for place, text in enumerate(bucket[1:], start=1):
                earlier[text].update(bucket[max(0, place - _LOOK_BACK) : place])
                earlier[text].add(bucket[0])
    return earlier


def _runs(order: NDArray[np.int64], same: NDArray[np.bool_]) -> Iterable[Sequence[int]]:
    """Stretches of ``order`` in which each entry is the same as the one before it."""
    import numpy as np

    borders = np.flatnonzero(np.diff(np.concatenate(([False], same, [False])).astype(np.int8)))
    for start, end in borders.reshape(-1, 2):
        yield [int(text) for text in order[start : end + 1]]
