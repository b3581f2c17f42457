"""C++ as contest judges compile it.

Newer standards refuse older programs (``data`` and ``size`` became names of ``std``, ``gets`` and ``throw (int)``
went), and most of the solutions that are collected are older ones.
"""

from codeio_hpc.sandbox.languages.language import Language

CPP = Language(
    "cpp",
    source="source.cpp",
    compiler="g++",
    standards=("-std=gnu++20", "-std=gnu++17", "-std=gnu++14", "-std=gnu++11"),
    # programs read input.txt where nobody says that they are judged
    options=("-DONLINE_JUDGE", "-O2", "-pipe", "-pthread", "-w", "-s", "-o", "program"),
)
