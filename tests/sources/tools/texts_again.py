"""Texts."""

import re
from collections import Counter

VOWELS = "aeiou"


def vowels(text: str) -> int:
    """Count the vowels of a text."""
    return sum(1 for letter in text.lower() if letter in VOWELS)


def snake_case(name: str) -> str:
    """Turn a CamelCase name into snake_case.

    >>> snake_case("HttpServer")
    'http_server'
    """
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def most_common(words: list[str]) -> str:
    """Give the word that stands most often in a list."""
    return Counter(words).most_common(1)[0][0]


def is_palindrome(text: str) -> bool:
    """Tell whether a text reads the same backwards."""
    letters = [letter for letter in text.lower() if letter.isalnum()]
    return letters == letters[::-1]


def shout(text: str, times: int = 1) -> str:
    """Write a text in capitals with exclamation marks."""
    return text.upper() + "!" * times
