"""Errors that a person can act upon."""

from __future__ import annotations


class UserError(Exception):
    """Something the user gave cannot work.

    Carries the three things a person needs: what was found, why it cannot work, and what to change.
    The command line prints them and exits with code 2; no traceback is shown.
    """

    def __init__(self, found: str, why: str, fix: str) -> None:
        self.found = found
        self.why = why
        self.fix = fix
        super().__init__(f"{found}\n  why: {why}\n  fix: {fix}")

    @classmethod
    def of_text(cls, text: str) -> UserError:
        """The same error again, from what another process wrote of it."""
        found, _, rest = text.partition("\n  why: ")
        why, _, fix = rest.partition("\n  fix: ")
        return cls(found, why, fix)


class RunFailedError(Exception):
    """The work was understood but could not be finished; what is published stays. Exit code 1."""
