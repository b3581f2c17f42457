"""What all verbs share: how they are added to the parser, and how they print."""

from __future__ import annotations

import argparse
import json as json_text
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

FAILED = 1
USER_ERROR = 2
INTERRUPTED = 130

LATEST = Path("runs/latest")

Verbs = Any  # argparse's type of add_subparsers() is private


def add_verb(
    verbs: Verbs,
    name: str,
    command: Callable[[argparse.Namespace], int],
    text: str,
    json: bool = True,
    aliases: Sequence[str] = (),
) -> argparse.ArgumentParser:
    """A verb of the command line and the function that does it; unless said otherwise, with --json."""
    verb: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text, aliases=aliases)
    verb.set_defaults(command=command, verb=verb)
    if json:
        verb.add_argument("--json", action="store_true", help="print JSON")
    return verb


def add_run_verb(
    verbs: Verbs, name: str, command: Callable[[argparse.Namespace], int], text: str
) -> argparse.ArgumentParser:
    """A verb that takes a run folder, by default the run that was built last."""
    verb = add_verb(verbs, name, command, text)
    verb.add_argument("run", type=Path, nargs="?", default=LATEST, metavar="RUN", help=f"default: {LATEST}")
    return verb


def output(options: argparse.Namespace, data: dict[str, Any], text: str) -> None:
    """Print for people, or with --json for machines."""
    print(json_text.dumps(data, indent=1) if options.json else text)
