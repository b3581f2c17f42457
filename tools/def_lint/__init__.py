"""The parts of tools/lint_def.py."""
