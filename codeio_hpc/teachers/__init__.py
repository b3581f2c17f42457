"""Teachers: whoever answers prompts; the request journal; reading and judging answers."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from codeio_hpc.config.run import TeacherSettings
from codeio_hpc.sandbox import Pool
from codeio_hpc.teachers.base import NoAnswerError, Request, Teacher


def make_teacher(
    settings: TeacherSettings, pool: Callable[[int], Pool], chance: Callable[[str], random.Random]
) -> Teacher:
    """The teacher that the configuration names; ``chance`` gives a seeded generator for a row id."""
    if settings.kind == "replay":
        from codeio_hpc.teachers.replay import Replay

        return Replay(Path(settings.journal or ""))
    from codeio_hpc.teachers.tracer import Tracer

    return Tracer(pool(0), settings.error_rate, settings.candidates, chance)


__all__ = ["NoAnswerError", "Request", "Teacher", "make_teacher"]
