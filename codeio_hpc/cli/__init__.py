"""The command line: verbs only. Parse, call one function, print."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from codeio_hpc import __version__
from codeio_hpc.cli import build, cluster, models, operations, plan, recipes, rows, sandbox
from codeio_hpc.cli.verb import FAILED, INTERRUPTED, USER_ERROR
from codeio_hpc.errors import RunFailedError, UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. A user's mistake is two lines on stderr and code 2, never a traceback."""
    options = _parse(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except UserError as error:
        print(f"codeio: {error}", file=sys.stderr)
        return USER_ERROR
    except RunFailedError as error:
        print(f"codeio: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("\ncodeio: stopped; what is published stays. The same command continues.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return FAILED
    except OSError as error:  # a full disk, a folder of somebody else's
        print(f"codeio: {error}", file=sys.stderr)
        return FAILED


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """As argparse does, but key=value may also stand behind options, which argparse takes for a mistake."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    late = [word for word in rest if "=" in word and not word.startswith("-")]
    if rest and not (hasattr(options, "overrides") and late == rest):
        options.verb.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.overrides += rest
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="codeio",
        description="Raw code to verified reasoning data, two-stage training and evaluation, on SLURM.",
        epilog="Start here: codeio build configs/runs/demo.yaml",
    )
    parser.add_argument("--version", action="version", version=f"codeio {__version__}")
    verbs = parser.add_subparsers(metavar="COMMAND", required=True)
    for room in (build, operations, models, plan, recipes, rows, sandbox, cluster):
        room.add_verbs(verbs)
    return parser
