"""C++ as contest judges compile it; the C++20 of GCC 10 and newer also takes the older standards' programs."""

from codeio_hpc.sandbox.languages.language import Language

CPP = Language(
    "cpp",
    source="source.cpp",
    compiler="g++",
    # no debugging symbols, and whatever makes two compilations differ left out: the program is found again by its hash
    options=("-std=gnu++20", "-O2", "-pipe", "-w", "-s", "-o", "program"),
)
