"""Never read the input, which is longer than a pipe holds, and leave at once."""
