"""Two-stage full-weight training on packed sequences."""
