"""Typed, frozen configuration: loading, overrides, hashing. It imports nothing of the house but its errors."""

from codeio_hpc.config.load import Minutes, Settings, apply_overrides, load_yaml, merge, parse
from codeio_hpc.config.run import RunConfig, settings_hash

__all__ = [
    "Minutes",
    "RunConfig",
    "Settings",
    "apply_overrides",
    "load_yaml",
    "merge",
    "parse",
    "settings_hash",
]
