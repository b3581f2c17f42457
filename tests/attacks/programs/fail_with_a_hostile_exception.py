"""End with an exception whose text, traceback and attributes fail, and that claims to be another one."""


class Hostile(BaseException):
    __cause__ = property(lambda self: 1 // 0)
    __class__ = MemoryError

    def __str__(self):
        raise SystemExit(0)

    __repr__ = __str__

    def __getattr__(self, name):
        raise SystemExit(0)


raise Hostile
