"""``codeio drill``: a tiny training is preempted for real, and measured."""
