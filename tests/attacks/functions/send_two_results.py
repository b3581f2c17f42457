"""Send a complete result itself, then return another one."""

import os


def main_solution():
    os.write(3, b'{"status": "ok", "output": []}')
    return ["second"]
