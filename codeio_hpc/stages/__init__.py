"""One file per data stage; ``base.py`` says what a stage is, ``registry.py`` in which order they run."""
