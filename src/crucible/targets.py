"""What `_target_` may name, and how a node of the configuration becomes an object.

A configuration is data that people mail to each other, so `_target_` must not be able to run what they did not mean to
run. The resolved *object* is judged, not its spelling: a public class or function defined in this package, or a subclass
of torch's Module, Optimizer or LRScheduler. An alias of something else is refused however it is reached.
"""

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

from pydantic import create_model

from crucible.errors import Refusal
from crucible.schema import Section, check, nearest, unknown_key

PACKAGE = __name__.split(".")[0]


def resolve(path: str, where: str = "_target_") -> Callable[..., Any]:
    """Import what the dotted `path` names, if it may be named.

    Raises:
        Refusal: nothing is there, or what is there is not on the allow-list; nothing has been called.
    """
    found = _find(path, where)
    if not (_is_ours(found) or _is_torch_part(found)):
        raise Refusal(
            where,
            f"{path} may not be named here",
            allowed=f"public classes and functions of {PACKAGE}; subclasses of torch's Module, Optimizer, LRScheduler",
            example=f"{where}={PACKAGE}.models.mlp.MLP",
        )
    return found


def build(node: Mapping[str, Any], *args: Any) -> Any:
    """Call what the node names with `args` by position and the node's other keys by name."""
    keys = {key: value for key, value in node.items() if key != "_target_"}
    target = resolve(node["_target_"])
    try:
        return target(*args, **keys)
    except (TypeError, ValueError) as error:
        if _is_ours(target):
            raise
        raise Refusal(node["_target_"], f"it does not take what it is given: {error}") from None


def check_node(node: Mapping[str, Any], where: str) -> None:
    """Refuse a node whose target may not be named, or whose keys or values its signature does not take.

    In this package what the user declares is keyword-only and annotated with its range; what the pipeline supplies
    (shapes, parameters) comes by position.

    Raises:
        Refusal: as above, with the dotted key.
    """
    if "_target_" not in node:
        raise Refusal(f"{where}._target_", "is missing", allowed="the dotted path of a class or function")
    target = resolve(node["_target_"], f"{where}._target_")
    keys = {key: value for key, value in node.items() if key != "_target_"}
    declared = _declared(target)
    if unknown := [key for key in keys if key not in declared]:
        raise unknown_key(f"{where}.{unknown[0]}", declared)
    if _is_ours(target):
        check(_section(target, declared), keys, prefix=where)


def _find(path: str, where: str) -> Any:
    if not isinstance(path, str) or not all(part.isidentifier() for part in path.split(".")):
        raise Refusal(where, f"{path!r} is no dotted path", example=f"{where}={PACKAGE}.models.mlp.MLP")
    module_name, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError):
        module = sys.modules.get(module_name)
        close = nearest(name, [each for each in vars(module) if not each.startswith("_")] if module else [])
        raise Refusal(where, f"there is no {path}", nearest=f"{module_name}.{close}" if close else "") from None


def _is_ours(found: Any) -> bool:
    """Public, a class or function, and standing under its own name in the module of ours that defines it."""
    if not (inspect.isclass(found) or inspect.isfunction(found)):
        return False
    home = sys.modules.get(found.__module__)
    inside = found.__module__.split(".")[0] == PACKAGE
    return inside and not found.__name__.startswith("_") and getattr(home, found.__qualname__, None) is found


def _is_torch_part(found: Any) -> bool:
    torch = sys.modules.get("torch")
    if torch is None or not inspect.isclass(found):
        return False
    return issubclass(found, (torch.nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler))


def _declared(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(target).parameters
    positional = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return {
        name: parameter
        for name, parameter in parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY or (parameter.kind is positional and not _is_ours(target))
    }


def _section(target: Callable[..., Any], declared: Mapping[str, inspect.Parameter]) -> type[Section]:
    hints = get_type_hints(target.__init__ if inspect.isclass(target) else target, include_extras=True)
    empty = inspect.Parameter.empty
    fields = {name: (hints[name], ... if p.default is empty else p.default) for name, p in declared.items()}
    return create_model(target.__name__, __base__=Section, **fields)  # type: ignore[call-overload]  # dynamic fields
