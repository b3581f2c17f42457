"""Catch whatever is raised, and go on for ever."""


def main_solution():
    while True:
        try:
            while True:
                _ = [0] * 1000
        except BaseException:
            continue
