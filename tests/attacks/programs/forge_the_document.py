"""Write documents that say everything is right to the descriptor on which its end is told."""

import os

for text in (b'{"status": "ok", "correct": true}', b'{"truncated": true}', b"[" * 1000, b"\xff" * 100):
    os.write(3, text + b"\n")
