"""The pieces that input generators are made of. Their source text is copied into the generators that use them.

So each piece uses nothing but ``random``, the lists WORDS, MARKS and CLUES (which every generator defines with words of
its own file) and other pieces. Values keep within the size rules: texts below 100 characters, lists below 20 items.
"""

from __future__ import annotations

import random

WORDS = ["alpha", "beta"]
MARKS = [" ", ","]
CLUES = [""]


def word() -> str:
    return random.choice(WORDS)


def words(most: int = 4) -> list[str]:
    return [word() for _ in range(random.randint(1, most))]


def sentence() -> str:
    return " ".join(words(6))[:90].capitalize() + random.choice([".", "", "!", "?"])


def number_text() -> str:
    return random.choice(
        [
            str(random.randint(0, 9)),
            str(random.randint(-99, 999)),
            f"{random.uniform(0, 50):.2f}",
            f"0{random.randint(0, 7)}",
        ]
    )


def letters() -> str:
    return "".join(random.choices("abcdefghijABC0123", k=random.randint(1, 12)))


def text() -> str:
    form = random.randint(0, 9)
    if form < 3:
        return random.choice(MARKS).join(words(5))[:90]
    if form == 3:
        return sentence()
    if form == 4:
        return number_text()
    if form == 5:
        return letters()
    if form == 6:
        return random.choice(["", " "]) + word().upper() + random.choice(["", " "])
    if form == 7:
        return enclosed()
    return "".join(random.choice([word(), random.choice(MARKS), number_text()]) for _ in range(random.randint(1, 5)))[
        :90
    ]


def enclosed() -> str:
    mark = random.choice(MARKS)
    closing = {"(": ")", "[": "]", "{": "}", "<": ">"}.get(mark, mark)
    return mark + random.choice(MARKS[:2]).join(words(3))[:80] + closing


def clued() -> str:
    form = random.randint(0, 5)
    clue = random.choice(CLUES)
    if form < 2:
        return clue
    if form == 2:
        return clue + word()
    if form == 3:
        return word() + clue
    if form == 4:
        return word() + random.choice(["", " "]) + clue + random.choice(["", " "]) + word()
    return clue + random.choice(["", *MARKS]) + random.choice(CLUES)


def lines() -> str:
    return "\n".join(random.choice(["", "  ", "    "]) + " ".join(words(3)) for _ in range(random.randint(1, 4)))[:95]


def identifier() -> str:
    first, second = word(), word()
    forms = [first, f"{first}_{second}", f"_{first}", first.title() + second.title(), f"{first}{random.randint(1, 9)}"]
    return random.choice([*forms, first.upper(), f"{first}-{second}", f"{first}.{second}", f"__{second}__"])


def character() -> str:
    return random.choice(["a", "b", "z", "A", "Z", "0", "9", " ", "_", ".", "é", random.choice(MARKS)[:1] or "-"])


def path() -> str:
    folders = "/".join([random.choice([word(), "..", ".", word()]) for _ in range(random.randint(0, 3))])
    start = random.choice(["/", "", "./", "~/", "//"])
    return start + folders + random.choice(["", "/"]) + word() + random.choice([".py", ".txt", ".tar.gz", "", "/"])


def url() -> str:
    host = word().lower() + random.choice([".org", ".com", ".example.net", ":8080", ""])
    query = random.choice(["", f"?{word()}={random.randint(0, 99)}", f"#{word()}", f"?a=1&{word()}=%20x"])
    return random.choice(["http://", "https://", "ftp://", "//", ""]) + host + "/" + "/".join(words(2))[:40] + query


def version() -> str:
    numbers = ".".join(str(random.randint(0, 12)) for _ in range(random.randint(1, 4)))
    return random.choice(["", "", "v"]) + numbers + random.choice(["", "", "rc1", ".dev3", "a2", "+local", "-beta"])


def date() -> str:
    return f"{random.randint(1970, 2030)}-{random.randint(1, 12):02d}-{random.randint(1, 31):02d}"


def clock() -> str:
    return f"{random.randint(0, 24):02d}:{random.randint(0, 60):02d}" + random.choice(["", ":30", ":59.5", "+01:00"])


def email() -> str:
    return f"{word().lower()}.{word().lower()}@{word().lower()}" + random.choice([".org", ".com", ""])


def address() -> str:
    return ".".join(str(random.choice([0, 1, 10, 127, 192, 255, 256])) for _ in range(random.choice([4, 4, 4, 3])))


def markup() -> str:
    tag = random.choice(["b", "p", "a", "div", "br/"])
    return random.choice(
        [f"<{tag}>{word()} & {word()}</{tag}>", f"{word()} &lt; {word()}", f'<{tag} id="{word()}">{word()}']
    )


def expression() -> str:
    names = [random.choice(["x", "y", "n", str(random.randint(0, 20)), word()]) for _ in range(random.randint(1, 4))]
    return random.choice([" + ", " * ", "-", ", ", " and ", "("]).join(names) + random.choice(["", ")", "()"])


def colour() -> str:
    return random.choice(["#", ""]) + "".join(random.choices("0123456789abcdef", k=random.choice([3, 6, 6, 6, 8])))


def hexadecimal() -> str:
    return "".join(random.choices("0123456789abcdef", k=random.choice([2, 4, 8, 7])))


def digits() -> str:
    return "".join(random.choices("0123456789", k=random.randint(1, 8)))


def assignment() -> str:
    return word() + random.choice(["=", ": ", " = ", ":"]) + random.choice([word(), number_text(), f'"{word()}"'])


def sequence_text() -> str:
    return "".join(random.choices("ACGT", k=random.randint(3, 20)))


def fragment(whole: str | None) -> str:
    """Often a part of another text, so that searches find something."""
    if not isinstance(whole, str) or not whole or random.random() < 0.3:
        return random.choice([*MARKS, word()])
    start = random.randrange(len(whole))
    return whole[start : start + random.randint(1, 4)] if random.random() < 0.7 else whole[: random.randint(1, 4)]


def place(whole: str | list[object]) -> int:
    """An index into a list or text, now and then just outside."""
    return random.randint(0, max(0, len(whole) - 1)) if random.random() < 0.9 else len(whole)


def integer() -> int:
    return random.choice([0, 1, 2, 3, -1, random.randint(2, 12), random.randint(2, 100), random.randint(-50, 1000)])


def natural() -> int:
    return random.choice([0, 1, 2, 3, random.randint(1, 10), random.randint(2, 30), random.randint(5, 100)])


def small() -> int:
    return random.choice([0, 1, 2, random.randint(1, 6), random.randint(2, 12)])


def real() -> float:
    return random.choice([0.0, 1.0, -1.5, round(random.uniform(-10, 10), 2), round(random.uniform(0, 100), 1), 0.25])


def share() -> float:
    return round(random.uniform(0, 1), 2)
