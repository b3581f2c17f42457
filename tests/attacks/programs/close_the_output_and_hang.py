"""Close all streams, so that there is nothing to wait for, and spin."""

import os

os.closerange(0, 64)
while True:
    pass
