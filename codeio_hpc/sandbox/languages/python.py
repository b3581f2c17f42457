"""Python: run by the interpreter that the jail has warm."""

from codeio_hpc.sandbox.languages.language import Language

PYTHON = Language("python")
