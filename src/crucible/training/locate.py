"""Where a number stopped being finite: the first layer in the forward pass, else the first gradient."""

from typing import Any

from torch import Tensor, nn

from crucible.data.batches import Batch
from crucible.tasks.task import Task, total_of


def locate_nonfinite(model: nn.Module, task: Task, batch: Batch) -> str:
    """Return which layer's output, which loss or which parameter's gradient is not finite for this batch."""
    found: list[str] = []
    model._compiled_call_impl = None  # compiled code calls no hooks

    def look(name: str) -> Any:
        def hook(layer: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and not output.isfinite().all():
                found.append(f"the output of layer '{name}'")

        return hook

    leaves = [(name, layer) for name, layer in model.named_modules() if not list(layer.children())]
    hooks = [layer.register_forward_hook(look(name)) for name, layer in leaves]
    model.zero_grad()
    losses = task.losses(model, batch)
    for hook in hooks:
        hook.remove()
    total_of(losses).backward()
    found += [f"the term '{name}' of the loss" for name, loss in losses.items() if not loss.isfinite()]
    gradients = [(name, p.grad) for name, p in model.named_parameters() if p.grad is not None]
    found += [f"the gradient of '{name}'" for name, gradient in gradients if not gradient.isfinite().all()]
    return found[0] if found else "a number that a second look finds finite (a rare dropout mask?)"
