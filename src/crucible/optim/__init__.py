"""Optimizers and schedules.

torch's optimizers import its compiler at their first use, only to say that it must not compile them. We never compile, and
the import takes a second of every command: saying it here, in the place where torch keeps the answer, saves that second.
"""

from inspect import isfunction

from torch.optim import Optimizer

for _method in filter(isfunction, vars(Optimizer).values()):
    if _method.__code__.co_name == "inner" and hasattr(_method, "__wrapped__"):
        vars(_method.__wrapped__).setdefault("__dynamo_disable", _method.__wrapped__)
