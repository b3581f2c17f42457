"""Typed, frozen configuration: loading, overrides, hashing. A leaf: it imports nothing of the house."""

from codeio_hpc.config.errors import RunFailedError, UserError
from codeio_hpc.config.load import Minutes, Settings, apply_overrides, load_yaml, parse
from codeio_hpc.config.run import RunConfig, settings_hash

__all__ = [
    "Minutes",
    "RunConfig",
    "RunFailedError",
    "Settings",
    "UserError",
    "apply_overrides",
    "load_yaml",
    "parse",
    "settings_hash",
]
