"""Evaluation: what training changed, measured on what was kept out of it, with baselines and paired statistics."""
