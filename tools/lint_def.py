#!/usr/bin/env python3
"""Finds what is wrong with an Apptainer recipe before a build of some minutes does, and what a build never says.

    tools/lint_def.py containers/*.def

It prints PATH:LINE: what is wrong, and what to write instead; exit code 2 if there is anything. Files of %files are
looked for where builds are started: in the current folder, or --root. Sections, headers and their rules are those of
Apptainer 1.4 (pkg/build/types/parser/deffile.go). Scripts go through shellcheck, with the defaults of the build
arguments in their places.
"""

from __future__ import annotations

import argparse
import glob
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

_HEADERS_TEXT = """
    bootstrap from includecmd mirrorurl updateurl osversion include library registry namespace stage product user
    regcode productpgp registerurl modules fingerprints confurl setopt
"""
_SECTIONS_TEXT = "help setup files labels environment pre post runscript test startscript arguments"
_APP_SECTIONS_TEXT = "appinstall applabels appfiles appenv apptest apphelp apprun appstart"
_SCRIPTS_TEXT = "setup environment pre post runscript test startscript appinstall appenv apptest apprun appstart"
HEADERS, SECTIONS = set(_HEADERS_TEXT.split()), set(_SECTIONS_TEXT.split())
APP_SECTIONS, SCRIPTS = set(_APP_SECTIONS_TEXT.split()), set(_SCRIPTS_TEXT.split())
REGISTRIES = {"docker", "library", "oras", "shub"}
NEEDS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys([*REGISTRIES, "docker-archive", "docker-daemon", "oci", "oci-archive", "localimage"], ("from",)),
    **dict.fromkeys(["yum", "busybox"], ("mirrorurl",)),
    "debootstrap": ("mirrorurl", "osversion"),
    **dict.fromkeys(["arch", "scratch", "zypper"], ()),
}
"""Bootstrap agent -> headers that it cannot do without."""

REFERENCE = re.compile(r"{{\s*(\w+)\s*}}")


class Problem(NamedTuple):
    """Sorts by line."""

    line: int
    text: str


@dataclass
class Section:
    """``%name words``, and the lines below it."""

    line: int
    name: str
    words: list[str]
    body: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[tuple[int, str]]:
        """Those that are neither empty nor a comment, with their numbers."""
        for number, text in enumerate(self.body, self.line + 1):
            if text.strip() and not text.strip().startswith("#"):
                yield number, text.strip()


@dataclass
class Stage:
    """One image of a recipe; the last is the one that is kept."""

    line: int
    headers: dict[str, tuple[int, str]] = field(default_factory=dict)
    sections: list[Section] = field(default_factory=list)
    text: list[str] = field(default_factory=list)

    def named(self, name: str) -> list[Section]:
        return [section for section in self.sections if section.name == name]

    def defaults(self) -> dict[str, str]:
        """Of the build arguments."""
        pairs = [text.partition("=") for section in self.named("arguments") for _, text in section.lines()]
        return {name.strip(): value.strip() for name, equals, value in pairs if equals}

    def filled(self, text: str) -> str:
        """With the defaults of build arguments in their places."""
        defaults = self.defaults()
        return REFERENCE.sub(lambda match: defaults.get(match[1], match[0]), text)


def lint(text: str, root: Path) -> list[Problem]:
    """Everything that is wrong with a recipe whose builds are started in ``root``."""
    problems: list[Problem] = []
    stages = list(read_stages(text.splitlines(), problems))
    if not stages:
        return [Problem(1, "nothing is in it; a recipe begins with Bootstrap: and From:")]
    for stage in stages:
        problems += check_headers(stage)
        problems += check_arguments(stage)
        for section in stage.named("files"):
            problems += check_files(section, stage, stages, root)
        for section in stage.sections:
            if section.name in SCRIPTS:
                problems += check_shell(section, stage)
                problems += check_downloads(section, stage)
                problems += check_removals(section, stage)
    problems += check_completeness(stages[-1])
    return sorted(set(problems))


# -- reading -----------------------------------------------------------------------------------------------------------


def read_stages(lines: Sequence[str], problems: list[Problem]) -> Iterator[Stage]:
    """Cut where Apptainer does: at every line that begins with ``Bootstrap:``, whatever it stands in."""
    starts = [number for number, text in enumerate(lines) if re.match(r"bootstrap:", text, re.IGNORECASE)]
    if any(text.strip() and not text.strip().startswith("#") for text in lines[: starts[0] if starts else None]):
        starts.insert(0, 0)
    for start, end in pairwise([*starts, len(lines)]):
        yield read_stage(lines[start:end], start + 1, problems)


def read_stage(lines: Sequence[str], first: int, problems: list[Problem]) -> Stage:
    stage = Stage(first, text=list(lines))
    section: Section | None = None
    continued = False
    for number, text in enumerate(lines, first):
        if text.lstrip().startswith("%"):
            section = _heading(number, text, problems)
            stage.sections.append(section)
        elif section is not None:
            section.body.append(text)
        elif continued or not text.strip() or text.strip().startswith("#"):
            continued = continued and text.rstrip().endswith("\\")
        else:
            continued = _header(number, text, stage, problems)
    return stage


def _heading(number: int, text: str, problems: list[Problem]) -> Section:
    name, *words = text.lstrip().lstrip("%").split(" ") if not text[1:2].isspace() else ["", ""]
    section = Section(number, name.strip().lower(), [word for word in words if word])
    if text.startswith((" ", "\t")):
        why = "Apptainer takes every line whose first character is % for a section, indented ones too"
        problems.append(Problem(number, f"{text.strip()!r}: {why}; write it otherwise"))
    elif section.name not in SECTIONS | APP_SECTIONS:
        known = ", ".join(sorted(SECTIONS))
        problems.append(
            Problem(number, f"%{section.name}: there is no such section; known: {known}, and those of apps")
        )
    elif section.name in APP_SECTIONS and not section.words:
        problems.append(Problem(number, f"%{section.name}: of which app? write %{section.name} NAME"))
    return section


def _header(number: int, text: str, stage: Stage, problems: list[Problem]) -> bool:
    """Take in one line; whether it goes on in the next."""
    name, colon, value = text.partition("#")[0].partition(":")
    name = name.strip()
    if not colon:
        problems.append(Problem(number, f"{text.strip()!r}: a header is written Name: value"))
        return False
    if name.lower() not in HEADERS and not re.fullmatch(r"otherurl\d+", name.lower()):
        known = ", ".join(sorted(HEADERS))
        problems.append(Problem(number, f"{name}: there is no such header; known: {known}"))
    elif name.lower() in stage.headers:
        problems.append(Problem(number, f"{name}: stands twice in this stage; the first is lost"))
    stage.headers[name.lower()] = (number, value.strip())
    return value.rstrip().endswith("\\")


# -- the checks --------------------------------------------------------------------------------------------------------


def check_headers(stage: Stage) -> Iterator[Problem]:
    """What an image is made from, and that it is the same next week."""
    if "bootstrap" not in stage.headers:
        yield Problem(stage.line, "no Bootstrap: header; it says what the image is made from")
        return
    line, value = stage.headers["bootstrap"]
    agent = stage.filled(value)
    if agent not in NEEDS:
        yield Problem(line, f"Bootstrap: {agent}: there is no such agent; known: {', '.join(sorted(NEEDS))}")
        return
    for name in NEEDS[agent]:
        if not stage.filled(stage.headers.get(name, (0, ""))[1]):
            yield Problem(line, f"Bootstrap: {agent} needs a {name.capitalize()}: header")
    if agent in REGISTRIES and "from" in stage.headers:
        line, value = stage.headers["from"]
        if problem := _unpinned_image(stage.filled(value), bool(REFERENCE.search(value))):
            yield Problem(line, f"From: {stage.filled(value)}: {problem}")


def _unpinned_image(name: str, replaceable: bool) -> str | None:
    if "@sha256:" in name:
        return None
    tag = name.rpartition("/")[2].partition(":")[2]
    if tag in ("", "latest"):
        return "that is another image every few weeks; name a version, or better a digest: IMAGE@sha256:…"
    if not replaceable:
        return "a tag can be moved; write IMAGE@sha256:…, or make it a build argument that a digest can be given to"
    return None


def check_arguments(stage: Stage) -> Iterator[Problem]:
    """Each ``{{ NAME }}`` has a default, and each default is used."""
    defined: dict[str, int] = {}
    for section in stage.named("arguments"):
        for number, text in section.lines():
            name, equals, _ = text.partition("=")
            if not equals or not re.fullmatch(r"\w+", name.strip()):
                yield Problem(number, f"{text!r}: a build argument is written NAME=default; Apptainer skips this line")
            elif name.strip() in defined:
                yield Problem(number, f"{name.strip()}: has a default already, in line {defined[name.strip()]}")
            else:
                defined[name.strip()] = number
    used = set()
    for number, text in enumerate(stage.text, stage.line):
        for name in REFERENCE.findall(text):
            used.add(name)
            if name not in defined:
                yield Problem(number, f"{{{{ {name} }}}}: has no default; write {name}=… in %arguments")
        if re.search(r"{{|}}", REFERENCE.sub("", text)) and not text.lstrip().startswith("#"):
            yield Problem(
                number, f"{text.strip()!r}: braces that are no {{{{ NAME }}}}; Apptainer leaves them as they are"
            )
    for name, number in defined.items():
        if name not in used:
            yield Problem(number, f"{name}: nothing uses it; mistyped?")


def check_files(section: Section, stage: Stage, stages: Sequence[Stage], root: Path) -> Iterator[Problem]:
    """What is copied is there. What comes from another stage cannot be seen from here, but its name can."""
    if section.words:
        names = {other.headers["stage"][1] for other in stages if "stage" in other.headers}
        if section.words[0].lower() != "from" or len(section.words) != 2:
            yield Problem(section.line, "%files stands alone, or is %files from STAGE")
        elif section.words[1] not in names:
            yield Problem(section.line, f"%files from {section.words[1]}: no stage has Stage: {section.words[1]}")
        return
    for number, text in section.lines():
        try:
            words = shlex.split(stage.filled(text))
        except ValueError as error:
            yield Problem(number, f"{text!r}: {error}")
            continue
        if len(words) > 2:
            yield Problem(number, f"{text!r}: one source and one target; quote names with spaces")
        if not glob.glob(str(root / words[0])):
            yield Problem(number, f"{words[0]}: no such file in {root}, where the build is started")


def check_shell(section: Section, stage: Stage) -> Iterator[Problem]:
    """What shellcheck has to say."""
    if shutil.which("shellcheck") is None:
        yield Problem(section.line, f"%{section.name} was not checked: no shellcheck on PATH; install it")
        return
    shell = "sh"
    first = section.body[0].strip() if section.body else ""
    for words in (section.words[1:] if section.words[:1] == ["-c"] else [], re.findall(r"^#!\s*(\S+)", first)):
        shell = Path(words[0]).name if words else shell
    if shell not in ("sh", "bash", "dash", "ksh"):
        return
    command = ["shellcheck", f"--shell={shell}", "--format=json1", "-"]
    script = stage.filled("\n".join(section.body) + "\n")
    done = subprocess.run(command, input=script, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        yield Problem(section.line, f"%{section.name}: shellcheck failed: {done.stderr.strip()}")
        return
    for comment in json.loads(done.stdout)["comments"]:
        yield Problem(section.line + comment["line"], f"%{section.name}: {comment['message']} (SC{comment['code']})")


def check_completeness(stage: Stage) -> Iterator[Problem]:
    """The image that is handed out says what it is and can tell whether it works."""
    for name, why in (
        ("test", "without it a build that does not work passes; `apptainer test` runs it on another machine too"),
        ("help", "`apptainer run-help` prints it; say what the image does and how it is run"),
        ("labels", "`apptainer inspect` prints them; say what this is and under which licence"),
    ):
        if not any(list(section.lines()) for section in stage.named(name)):
            yield Problem(stage.line, f"no %{name}, or nothing in it: {why}")
    for section in stage.named("labels"):
        for number, text in section.lines():
            if len(text.split(maxsplit=1)) < 2:
                yield Problem(number, f"{text}: a label without a value")


_OF_THE_HOST = re.compile(r"(/tmp|/var/tmp|/home|/root|~|\$\{?HOME\b\}?|\$\{?TMPDIR\b\}?)(/|$)")


def check_removals(section: Section, stage: Stage) -> Iterator[Problem]:
    """Apptainer binds the host's /tmp, /var/tmp and home into a build as into any container (apptainer.conf: mount tmp,
    mount home): what a recipe cleans up there is not the image's."""
    for number, command in commands(stage.filled("\n".join(section.body)).splitlines(), section.line + 1):
        if section.name not in ("post", "setup", "pre") or Path(command[0]).name != "rm":
            continue
        for word in command[1:]:
            if _OF_THE_HOST.match(word):
                text = f"rm {word}: during a build that is the host's; name only what this script made elsewhere"
                yield Problem(number, f"%{section.name}: {text}")


# -- downloads ---------------------------------------------------------------------------------------------------------

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
_BEFORE_COMMANDS = {"if", "then", "else", "elif", "do", "while", "until", "!", "{", "exec", "sudo", "env", "time"}


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


def commands(lines: Sequence[str], first: int) -> Iterator[tuple[int, list[str]]]:
    """The simple commands of a script, roughly: enough to see what is called with what."""
    joined, start = "", first
    for number, text in enumerate(lines, first):
        start = start if joined else number
        joined += text
        if joined.endswith("\\"):
            joined = joined[:-1] + " "
            continue
        yield from ((start, command) for command in _simple_commands(joined))
        joined = ""


def _simple_commands(text: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:  # a quotation over several lines
        words = text.split()
    command: list[str] = []
    for word in [*words, ";"]:
        if word and set(word) <= set(";&|()"):
            if command:
                yield command
            command = []
        elif command or not (word in _BEFORE_COMMANDS or re.match(r"\w+=", word)):
            command.append(word)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what is wrong; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("recipes", nargs="+", type=Path, metavar="RECIPE")
    parser.add_argument("--root", type=Path, default=Path(), help="where builds are started (default: here)")
    options = parser.parse_args(arguments)
    wrong = 0
    for path in options.recipes:
        try:
            problems = lint(path.read_text(encoding="utf-8"), options.root)
        except (OSError, UnicodeDecodeError) as error:
            problems = [Problem(1, f"cannot be read: {error}")]
        for line, text in problems:
            print(f"{path}:{line}: {text}")
        wrong += len(problems)
    return 2 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
