"""The sandbox on its own: exec."""

from __future__ import annotations

import argparse

from codeio_hpc.cli.verb import Verbs, add_verb


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs of this file."""
    execute = add_verb(
        verbs, "exec", _exec, "execute functions and programs in the sandbox: JSON lines in, JSON lines out", json=False
    )
    execute.add_argument("--in", dest="source", default="-", metavar="FILE", help="requests (default: stdin)")
    execute.add_argument("--out", dest="sink", default="-", metavar="FILE", help="results (default: stdout)")
    execute.add_argument("--workers", type=int, default=1)
    execute.add_argument("--limits", nargs="*", default=[], metavar="key=value", help="e.g. cpu_seconds=5")
    execute.add_argument("--isolation", default="landlock+seccomp", metavar="LEVEL", help="the least that is accepted")


def _exec(options: argparse.Namespace) -> int:
    from codeio_hpc.sandbox.execute import execute

    return execute(options.source, options.sink, options.workers, options.limits, options.isolation)
