"""Whether a recipe gets the same from the network next week."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from def_lint.commands import commands
from def_lint.recipe import Problem, Section, Stage

_PIP_VALUES_TEXT = """
    -c --constraint -r --requirement -f --find-links -i --index-url --extra-index-url -t --target --prefix --root
    --no-binary --only-binary --platform --python-version --trusted-host
"""
_PIP_VALUES = set(_PIP_VALUES_TEXT.split())
_INSTALLERS: dict[str, tuple[str, re.Pattern[str], str]] = {
    **dict.fromkeys(["apt", "apt-get"], ("install", re.compile("="), "NAME=VERSION")),
    "apk": ("add", re.compile("="), "NAME=VERSION"),
    **dict.fromkeys(["dnf", "microdnf", "yum", "zypper"], ("install", re.compile(r"-\d"), "NAME-VERSION")),
    **dict.fromkeys(["conda", "mamba", "micromamba"], ("install", re.compile("="), "NAME=VERSION")),
}
"""Program -> its word for installing, what a pinned name has in it, how it is written."""

_INSTALLER_VALUES = {"-o", "-t", "-c", "-n", "--name", "-p", "--prefix", "--channel", "--repo", "-X", "--repository"}
_UPGRADES = {"upgrade", "dist-upgrade", "full-upgrade", "update-minimal"}


def check_downloads(section: Section, stage: Stage) -> Iterator[Problem]:
    """Whatever comes from the network is named so that the next build gets the same."""
    script = stage.filled("\n".join(section.body))
    checked = re.search(r"\bsha(224|256|384|512)sum\b[^\n]*(-c|--check)\b", script)
    commit = re.search(r"\bgit\b[^\n]*\b(checkout|reset|--revision)\b[^\n]*\b[0-9a-f]{40}\b", script)
    for number, command in commands(script.splitlines(), section.line + 1):
        program, words = Path(command[0]).name, command[1:]
        if re.fullmatch(r"python[\d.]*", program) and words[:2] == ["-m", "pip"]:
            program, words = "pip", words[2:]
        elif re.fullmatch(r"pip[\d.]*", program):
            program = "pip"
        problem = None
        if program == "pip" and "install" in words:
            problem = _unpinned_requirement(words[words.index("install") + 1 :])
        elif program in _INSTALLERS:
            problem = _unpinned_package(program, words)
        elif program in ("curl", "wget") and not checked and any(re.match(r"(https?|ftp)://", word) for word in words):
            problem = "nobody looks at what came; compare it with sha256sum --check"
        elif program == "git" and "clone" in words and not commit:
            problem = "a branch moves; check out a commit by its 40 digits"
        if problem:
            yield Problem(number, f"%{section.name}: {program}: {problem}")


def _unpinned_requirement(words: list[str]) -> str | None:
    """pip is bound by a file of versions, or each name is."""
    if any(re.match(r"(-c|--constraint|-r|--requirement|--require-hashes)\b", word) for word in words):
        return None
    for word in _arguments(words, _PIP_VALUES):
        local = word.startswith((".", "/")) and not word.endswith((".whl", ".tar.gz"))
        if local and "--no-deps" in words:
            continue
        if local or not (re.search("==|#sha256=", word) or word.endswith(".whl")):
            return f"{word}: any version will do; give -c FILE with the versions, or NAME==VERSION"
    return None


def _unpinned_package(program: str, words: list[str]) -> str | None:
    verb, pinned, form = _INSTALLERS[program]
    plain = _arguments(words, _INSTALLER_VALUES)
    if _UPGRADES & set(plain):
        return "an upgrade is another one every day; take a newer base instead"
    if verb not in plain:
        return None
    loose = [word for word in plain[plain.index(verb) + 1 :] if "/" not in word and not pinned.search(word)]
    return f"{', '.join(loose)}: any version will do; write {form}" if loose else None


def _arguments(words: list[str], with_values: set[str]) -> list[str]:
    """Words that are neither options nor values of options."""
    return [
        word
        for place, word in enumerate(words)
        if not word.startswith("-") and not (place and words[place - 1] in with_values)
    ]
