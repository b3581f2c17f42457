"""What is looked at in a recipe, what it downloads aside."""

from __future__ import annotations

import glob
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from def_lint.commands import commands
from def_lint.recipe import REFERENCE, Problem, Section, Stage

REGISTRIES = {"docker", "library", "oras", "shub"}
NEEDS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys([*REGISTRIES, "docker-archive", "docker-daemon", "oci", "oci-archive", "localimage"], ("from",)),
    **dict.fromkeys(["yum", "busybox"], ("mirrorurl",)),
    "debootstrap": ("mirrorurl", "osversion"),
    **dict.fromkeys(["arch", "scratch", "zypper"], ()),
}
"""Bootstrap agent -> headers that it cannot do without."""


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
