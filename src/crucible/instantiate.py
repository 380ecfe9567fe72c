"""What `_target_` may name, and how a node of the configuration becomes an object.

A configuration is data that people mail to each other, so `_target_` must not be able to run what they did not mean to
run. The resolved *object* is judged, not its spelling, and by the group in which it is named: a public class or function
that is defined in that group's home, takes by position just what the pipeline supplies there, and gives what the group
needs; or, of models, optimizers and schedules, a subclass of torch's class. An alias of something else is refused however
it is reached.
"""

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any, NotRequired, get_args, get_origin, get_type_hints

from pydantic import create_model

from crucible.errors import Refusal
from crucible.schema import Section, check, nearest, unknown_key

PACKAGE = __name__.split(".")[0]
UNFIT = (ArithmeticError, MemoryError, RuntimeError, ValueError)  # values that torch or numpy cannot take
UNKNOWN = (
    *UNFIT,
    AssertionError,
    AttributeError,
    LookupError,
    TypeError,
)  # and what parts that declare no ranges raise


@dataclass(frozen=True)
class Part:
    """What a group of the configuration admits.

    Attributes:
        home: the module or package where its choices are defined.
        takes: the names of what the pipeline supplies, by position.
        gives: the class or protocol of what a choice makes; of a class of torch's, any subclass may be named.
    """

    home: str
    takes: tuple[str, ...]
    gives: str


TASK = f"{PACKAGE}.tasks.task.Task"
PARTS = {
    "data.reader": Part(
        f"{PACKAGE}.data.readers", ("path", "label", "group_by"), f"{PACKAGE}.data.readers.source.Source"
    ),
    "augment": Part(f"{PACKAGE}.data.augment", ("flip_keeps_label",), f"{PACKAGE}.data.augment.Augment"),
    "model": Part(f"{PACKAGE}.models", ("feature_shape", "num_outputs"), "torch.nn.Module"),
    "init": Part(f"{PACKAGE}.initializers", (), "collections.abc.Callable"),
    "transfer": Part(f"{PACKAGE}.transfer", ("pretrained", "card"), f"{PACKAGE}.transfer.NoTransfer"),
    "task": Part(f"{PACKAGE}.tasks", ("card",), f"{PACKAGE}.tasks.task.MonitoredTask"),
    "regularizer": Part(f"{PACKAGE}.regularizers", ("task", "num_examples"), TASK),
    "optimizer": Part(f"{PACKAGE}.optim", ("parameters",), "torch.optim.Optimizer"),
    "schedule": Part(f"{PACKAGE}.optim.schedules", ("optimizer",), "torch.optim.lr_scheduler.LRScheduler"),
    "tracking": Part(f"{PACKAGE}.tracking.mirror", ("folder", "root"), f"{PACKAGE}.tracking.mirror.Mirror"),
}


ENTRY_POINTS = {
    "data.reader": "readers", "augment": "augment", "model": "models", "init": "initializers", "transfer": "transfer", "task": "tasks",
    "regularizer": "regularizers", "optimizer": "optimizers", "schedule": "schedules", "tracking": "tracking",
}  # fmt: skip


def resolve(path: str, group: str) -> Callable[..., Any]:
    """Import what the dotted `path` names, if it may be named in this group.

    Raises:
        Refusal: nothing is there, or what is there does not play the group's part; nothing has been called.
    """
    part = PARTS[group]
    found = _find(path, part, f"{group}._target_")
    if not (_is_ours(found, path, group) or _is_torch_part(found, part)):
        raise _refused(path, part, f"{group}._target_")
    return found


def build(group: str, node: Mapping[str, Any], *args: Any) -> Any:
    """Call what the group's node names with `args` by position and the node's other keys by name.

    Raises:
        Refusal: as `check_node`; a value that the constructor cannot take; what is made is not what the group needs.
    """
    target, keys = _checked(node, group)
    with refusing(group, target, f"{node['_target_']} cannot take these values"):
        made = target(*args, **keys)
    if not isinstance(made, _class_of(PARTS[group].gives)):
        raise Refusal(group, f"{node['_target_']} gives {type(made).__name__}, which is no {PARTS[group].gives}")
    return made


@contextmanager
def refusing(group: str, by: Any, what: str) -> Iterator[None]:
    """Turn what a part cannot take into a refusal: of a part of ours only what torch or numpy cannot, of others whatever they raise.

    Args:
        by: the part, or what makes it.
        what: could not be done.
    """
    home = by.__module__ if inspect.isclass(by) or inspect.isfunction(by) else type(by).__module__
    errors = UNFIT if home.split(".")[0] == PACKAGE else UNKNOWN
    try:
        yield
    except Refusal:
        raise
    except errors as error:
        raise Refusal(group, f"{what}: {f'{type(error).__name__}: {error}'.splitlines()[0]}") from None


def check_node(node: Mapping[str, Any], group: str) -> None:
    """Refuse a node whose target may not be named in this group, or whose keys or values its signature does not take.

    In this package what the user declares is keyword-only and annotated with its range; what the pipeline supplies
    (shapes, parameters) comes by position.

    Raises:
        Refusal: as above, with the dotted key.
    """
    _checked(node, group)


def _checked(node: Mapping[str, Any], group: str) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return the target and the values of its keys in the types it declares: 1 is 1.0 where it wants a real number."""
    if "_target_" not in node:
        raise Refusal(f"{group}._target_", "is missing", allowed="the dotted path of a class or function")
    target = resolve(node["_target_"], group)
    keys = {key: value for key, value in node.items() if key != "_target_"}
    ours = _is_ours(target, node["_target_"], group)
    declared = section_of(target).model_fields if ours else _named(target)
    if unknown := [key for key in keys if key not in declared]:
        raise unknown_key(f"{group}.{unknown[0]}", declared)
    return target, check(section_of(target), keys, prefix=group) if ours else keys


def _find(path: str, part: Part, where: str) -> Any:
    if not isinstance(path, str) or not all(name.isidentifier() for name in path.split(".")):
        raise Refusal(where, f"{path!r} is no dotted path", example=f"{where}={part.home}...")
    module_name, _, name = path.rpartition(".")
    first = path.partition(".")[0]
    if first in sys.stdlib_module_names or (first == PACKAGE and not path.startswith(f"{part.home}.")):
        raise _refused(path, part, where)  # what cannot be a choice is not even imported
    try:
        return getattr(importlib.import_module(module_name), name)
    except (ImportError, SyntaxError, NameError, OSError, *UNKNOWN) as error:
        if not _is_about(error, path):
            what = f"{module_name} cannot be imported: {type(error).__name__}: {error}"
            raise Refusal(where, what, allowed="a module that Python can import") from None
        known = vars(sys.modules.get(module_name, object))
        close = nearest(name, [each for each, value in known.items() if _is_choice(value, part)])
        raise Refusal(
            where,
            f"there is no {path}",
            allowed="what Python can import here; a project's own parts after pip install -e .",
            nearest=f"{module_name}.{close}" if close else "",
        ) from None


def _is_about(error: Exception, path: str) -> bool:
    """Whether an import failed because nothing has this dotted path, rather than inside what has it."""
    if isinstance(error, ModuleNotFoundError):
        return f"{path}.".startswith(f"{error.name}.")
    return isinstance(error, AttributeError | ValueError)


def _refused(path: str, part: Part, where: str) -> Refusal:
    torchs = f"; subclasses of {part.gives}" if part.gives.startswith("torch.") else ""
    return Refusal(
        where, f"{path} may not be named here",
        allowed=f"what {part.home} defines publicly, takes ({', '.join(part.takes)}) and gives {part.gives}{torchs}",
    )  # fmt: skip


def _is_choice(found: Any, part: Part) -> bool:
    """Whether it stands publicly under its own name in the group's home, takes what is supplied, and gives what is needed."""
    if not (inspect.isclass(found) or inspect.isfunction(found)):
        return False
    home = sys.modules.get(found.__module__)
    inside = f"{found.__module__}.".startswith(f"{part.home}.") and getattr(home, found.__qualname__, None) is found
    return inside and not found.__name__.startswith("_") and _plays(found, part)


def _is_ours(found: Any, path: str, group: str) -> bool:
    """Whether it is a choice of this package, or of an installed one that declares it as an entry point of the group.

    In its pyproject.toml: [project.entry-points."crucible.models"] NAME = "PACKAGE.MODULE:CLASS".
    """
    if _is_choice(found, PARTS[group]):
        return True
    declared = entry_points(group=f"{PACKAGE}.{ENTRY_POINTS[group]}")
    named = any(each.value.replace(":", ".") == path and each.load() is found for each in declared)
    return named and (inspect.isclass(found) or inspect.isfunction(found)) and _plays(found, PARTS[group])


def _plays(found: Callable[..., Any], part: Part) -> bool:
    """Whether a class or function takes what is supplied, and gives what is needed."""
    made = found if inspect.isclass(found) else get_type_hints(found).get("return")
    made = get_origin(made) or made
    return inspect.isclass(made) and issubclass(made, _class_of(part.gives)) and _supplied(found) == part.takes


def _is_torch_part(found: Any, part: Part) -> bool:
    """Whether it is a subclass, of torch's or of somebody's, of the class of torch's that the group needs."""
    if not (part.gives.startswith("torch.") and inspect.isclass(found)) or found.__module__.split(".")[0] == PACKAGE:
        return False
    base = _class_of(part.gives)
    return issubclass(found, base) and found is not base


def _class_of(path: str) -> type:
    module_name, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module_name), name)


def _supplied(target: Callable[..., Any]) -> tuple[str, ...]:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(name for name, each in inspect.signature(target).parameters.items() if each.kind in kinds)


def _named(target: Callable[..., Any]) -> list[str]:
    """Return the parameters that can be given by name."""
    kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [name for name, each in inspect.signature(target).parameters.items() if each.kind in kinds]


@cache
def section_of(target: Callable[..., Any]) -> type[Section]:
    """Return the schema that a signature of this package declares: keyword-only parameters, `**settings: Unpack[TypedDict]` too."""
    hints = get_type_hints(target.__init__ if inspect.isclass(target) else target, include_extras=True)
    fields: dict[str, tuple[Any, Any]] = {}
    for name, each in inspect.signature(target).parameters.items():
        if each.kind is inspect.Parameter.KEYWORD_ONLY:
            fields[name] = (hints[name], ... if each.default is inspect.Parameter.empty else each.default)
        elif each.kind is inspect.Parameter.VAR_KEYWORD:
            fields |= _unpacked(*get_args(hints[name]))
    return create_model(target.__name__, __base__=Section, **fields)  # type: ignore[call-overload]  # dynamic fields


def _unpacked(shared: Any) -> dict[str, tuple[Any, Any]]:
    """Return the fields of a TypedDict, the variables of a generic one replaced; one that is not required is None by default."""
    home = get_origin(shared) or shared
    variables = dict(zip(getattr(home, "__parameters__", ()), get_args(shared), strict=True))
    fields = {}
    for name, hint in get_type_hints(home, include_extras=True).items():
        optional = get_origin(hint) is NotRequired
        kind = get_args(hint)[0] if optional else hint
        own = tuple(variables[each] for each in getattr(kind, "__parameters__", ()))
        fields[name] = (variables.get(kind) or (kind[own] if own else kind), None if optional else ...)
    return fields
