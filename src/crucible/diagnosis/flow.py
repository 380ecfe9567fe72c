"""Gradients and activations that vanish or explode on their way through the layers (notes 000, part 4, section 6)."""

from collections.abc import Iterable, Mapping

LAG, FAR, FORGOTTEN = (
    "gradient_at_lag",
    32,
    1e6,
)  # steps back, and the factor by which a gradient is smaller or larger there
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
    found += _over_time({int(lag): size for lag, size in _named(values, LAG).items()})
    last = next(reversed(gradients.values()), 0.0)
    if len(gradients) < 2 or last < SMALLEST:
        return found
    for layer, size in list(gradients.items())[:-1]:
        if not last / FACTOR <= size <= last * FACTOR:
            verb = "vanish" if size < last else "explode"
            found.append(f"gradients {verb} in layer {layer} ({size:.1e}, in the last layer {last:.1e})")
    return found


def _over_time(sizes: Mapping[int, float]) -> list[str]:
    """Return a sentence about the gradient of the last output far back in time, where it vanishes or explodes."""
    now, before = sizes.get(0, 0.0), sizes.get(FAR, 0.0)
    if now < SMALLEST or FAR not in sizes or now / FORGOTTEN <= before <= now * FORGOTTEN:
        return []
    return [
        f"gradients {'vanish' if before < now else 'explode'} over time ({before:.1e} over {FAR} steps, {now:.1e} at the last)"
    ]


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
