"""Close the input in the middle, so that whoever writes it gets a signal."""

import os

os.read(0, 10)
os.close(0)
for _ in range(10**5):
    pass
