"""Lifting pure functions out of source files without a teacher: purity, types, input generators, questions."""
