"""Write 64 MB to standard error, of which only the last part may be kept."""

import os

for _ in range(1024):
    os.write(2, b"x" * 65536)
