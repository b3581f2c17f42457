"""Training engines behind one small interface."""
