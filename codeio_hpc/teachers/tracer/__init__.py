"""The tracer: a teacher that needs no model. It runs the code under a line trace and tells what happened."""

from codeio_hpc.teachers.tracer.teacher import Tracer

__all__ = ["Tracer"]
