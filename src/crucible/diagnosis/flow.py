"""Gradients and activations that vanish or explode on their way through the layers (notes 000, part 4, section 6)."""

from collections.abc import Iterable, Mapping

FACTOR = 1e3  # a layer this far from the others, or an activation this far from 1, is called out
SMALLEST = 1e-12  # gradients this small everywhere are a loss that is learned, not one that vanishes


def warnings(values: Mapping[str, float]) -> list[str]:
    """Return a sentence for each layer whose numbers vanish or explode.

    Args:
        values: of one epoch, among them `gradient/LAYER` (root mean square over the weights) and `activation/LAYER`
            (deviation over examples and units), in the order of the layers.
    """
    gradients, activations = (_named(values, kind) for kind in ("gradient", "activation"))
    activations = dict(list(activations.items())[:-1])  # the last layer's may be of any size: it answers
    found = [
        *(
            f"activations vanish in layer {layer} (deviation {size:.1e})"
            for layer, size in activations.items()
            if size < 1 / FACTOR
        ),
        *(
            f"activations explode in layer {layer} (deviation {size:.1e})"
            for layer, size in activations.items()
            if size > FACTOR
        ),
    ]
    last = next(reversed(gradients.values()), 0.0)
    if len(gradients) < 2 or last < SMALLEST:
        return found
    for layer, size in list(gradients.items())[:-1]:
        if not last / FACTOR <= size <= last * FACTOR:
            verb = "vanish" if size < last else "explode"
            found.append(f"gradients {verb} in layer {layer} ({size:.1e}, in the last layer {last:.1e})")
    return found


class Watch:
    """Says each warning of a layer once."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        self._known = {_about(each) for each in known}

    def __call__(self, values: Mapping[str, float]) -> list[str]:
        """Return the warnings about these values that were not given before."""
        new = [each for each in warnings(values) if _about(each) not in self._known]
        self._known |= {_about(each) for each in new}
        return new


def _about(warning: str) -> str:
    return warning.partition(" (")[0]


def _named(values: Mapping[str, float], kind: str) -> dict[str, float]:
    return {name.removeprefix(f"{kind}/"): value for name, value in values.items() if name.startswith(f"{kind}/")}
