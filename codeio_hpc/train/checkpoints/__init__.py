"""Checkpoints: staging, complete, published.

All ranks write into a hidden folder, hashing what they write and putting it on disk; when all have, rank 0 writes
``COMPLETE.json``, with size and hash of every file, and renames the folder to ``step-NNNNNN``. A kill at any moment
leaves either a published checkpoint or a hidden folder that nobody resumes from.
"""
