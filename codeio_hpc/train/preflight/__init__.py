"""``codeio preflight``: are all nodes of a job as good as the others? A training runs at the pace of the worst."""
