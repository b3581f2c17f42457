"""Write to the descriptor on which its end is told, without end."""

import os

while True:
    os.write(3, b"x" * 65536)
