"""Return things that look like JSON values and are not, or that change while they are read."""


class Text(str):
    def encode(self, *arguments):
        return b"{}"


class Table(dict):
    def items(self):
        return [("forged", True)]


class Equal:
    def __eq__(self, other):
        return True

    def __hash__(self):
        return 0


def main_solution():
    cycle = []
    cycle.append(cycle)
    wide = []
    for _ in range(100):
        wide = [wide, wide]
    deep = []
    for _ in range(100000):
        deep = [deep]
    return [cycle, wide, deep, Text("x"), Table(a=1), Equal(), float("nan"), 10**100000, "\ud800", {1: 2}]
