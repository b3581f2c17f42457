"""The languages of programs, one file each. A new one is a file with a ``Language``, and a line in ``LANGUAGES``."""

from codeio_hpc.errors import UserError
from codeio_hpc.sandbox.languages.cpp import CPP
from codeio_hpc.sandbox.languages.language import Language
from codeio_hpc.sandbox.languages.python import PYTHON

LANGUAGES: dict[str, Language] = {language.name: language for language in (PYTHON, CPP)}

__all__ = ["CPP", "LANGUAGES", "PYTHON", "Language", "find_language"]


def find_language(name: str) -> Language:
    """By name.

    Raises:
        UserError: there is no such language.
    """
    if name not in LANGUAGES:
        raise UserError(f"language {name!r}", "there is no such language", f"use one of {', '.join(LANGUAGES)}")
    return LANGUAGES[name]
