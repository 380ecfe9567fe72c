"""A computation graph as a picture and as lines: values in black, gradients in red."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from crucible.diagnosis.graph import Graph, Unit, Value

WIDE, HIGH, APART, ROW = 116, 46, 350, 112  # of a node, from column to column, from node to node in one; in pixels
NARROW = 180  # from the last layer to the answer, and from there to the loss
RED, GREY = "#c53030", "#718096"


def lines(graph: Graph) -> list[str]:
    """Return every number of a graph, in the order in which a pencil meets them: forward, then back."""
    found = [f"x{i + 1} = {_number(each.value)}" for i, each in enumerate(graph.inputs)]
    for layer, (column, function) in enumerate(zip(graph.columns, graph.functions, strict=True), 1):
        for unit in column:
            terms = " + ".join(
                f"{_number(w.value)} x {_number(x.value)}"
                for w, x in zip(unit.weights, _before(graph, layer), strict=True)
            )
            terms += f" + {_number(unit.bias.value)}" if unit.bias else ""
            given = f", {function}: {_number(unit.given.value)}" if unit.given else ""
            found.append(f"layer {layer}, unit {unit.name}: {terms} = {_number(unit.total.value)}{given}")
    said = ", ".join(f"{_number(each.value)} {_slope(each)}".strip() for each in graph.answer)
    found.append(f"answer {said}, wanted {graph.label}: loss {_number(graph.loss)}")
    for layer, column in reversed(list(enumerate(graph.columns, 1))):
        for unit in column:
            slopes = ", ".join(f"w{i + 1} {_slope(w)}" for i, w in enumerate(unit.weights))
            slopes += f", bias {_slope(unit.bias)}" if unit.bias else ""
            after = f"activation {_slope(unit.given)}, " if unit.given else ""
            found.append(f"back, layer {layer}, unit {unit.name}: {after}sum {_slope(unit.total)}, {slopes}")
    return found


def _before(graph: Graph, layer: int) -> Sequence[Value]:
    return graph.inputs if layer == 1 else [unit.out for unit in graph.columns[layer - 2]]


def picture(graph: Graph, title: str) -> str:
    """Return the SVG file: a column for the inputs, one for each layer, the answer and the loss; a weight stands on its edge."""
    tallest = max(len(graph.inputs), *(len(column) for column in graph.columns), 2)
    high, wide = tallest * ROW + 80, len(graph.columns) * APART + 2 * NARROW + WIDE + 40
    parts = _drawn(graph, _Layout(len(graph.columns), high - 40))
    head = f'<text x="20" y="24" font-size="14">{escape(title)}</text><text x="20" y="42" font-size="11" fill="{GREY}">black: values, forward; <tspan fill="{RED}">red: how the loss changes with them, back</tspan></text>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{high}" viewBox="0 0 {wide} {high}" font-family="sans-serif" '
        f'font-size="11"><rect width="100%" height="100%" fill="white"/>{head}{"".join(parts)}</svg>\n'
    )


@dataclass(frozen=True)
class _Layout:
    """Where nodes stand: so many layers, in so many pixels of height."""

    layers: int
    high: int

    def place(self, column: int, k: int, count: int) -> tuple[float, float]:
        """Return the upper left corner of node k of `count` in a column; the inputs are column 0."""
        x = 20 + min(column, self.layers) * APART + max(0, column - self.layers) * NARROW
        return x, 50 + (k + 0.5) * (self.high - 50) / count - HIGH / 2


def _drawn(graph: Graph, layout: _Layout) -> Iterator[str]:
    columns: list[Sequence[Unit | Value]] = [graph.inputs, *graph.columns]
    nodes: list[str] = []
    for c, column in enumerate(columns):
        for k, each in enumerate(column):
            x, y = layout.place(c, k, len(column))
            if isinstance(each, Unit):
                for i, w in enumerate(each.weights):
                    yield _edge(
                        layout.place(c - 1, i, len(each.weights)), (x, y), w, 0.12 + 0.7 * (k + 0.5) / len(column)
                    )
                nodes += _node(x, y, _in_words(each, graph.functions[c - 1]))
            else:
                nodes += _node(x, y, [(f"x{k + 1} = {_number(each.value)}", ""), (_slope(each), RED)])
    last = len(columns)
    for k, each in enumerate(graph.answer):
        x, y = layout.place(last, k, len(graph.answer))
        yield _edge(layout.place(last - 1, k, len(graph.columns[-1])), (x, y), None, 0)
        yield _edge((x, y), layout.place(last + 1, 0, 1), None, 0)
        slope = [(_slope(each), RED)] if each.gradient is not None else []
        nodes += _node(x, y, [(f"answer {_number(each.value)}", ""), *slope])
    nodes += _node(
        *layout.place(last + 1, 0, 1), [(f"loss {_number(graph.loss)}", ""), (f"wanted {graph.label}", GREY)]
    )
    yield from nodes


def _in_words(unit: Unit, function: str) -> list[tuple[str, str]]:
    bias = [(f"bias {_number(unit.bias.value)}", ""), (_slope(unit.bias), RED)] if unit.bias else []
    found = [*bias, (f"z = {_number(unit.total.value)}", ""), (_slope(unit.total), RED)]
    return found + ([(f"{function} {_number(unit.given.value)}", ""), (_slope(unit.given), RED)] if unit.given else [])


def _node(x: float, y: float, texts: Sequence[tuple[str, str]]) -> list[str]:
    tall = 14 * len(texts) + 12
    top = y + HIGH / 2 - tall / 2
    box = f'<rect x="{x:.0f}" y="{top:.0f}" width="{WIDE}" height="{tall}" rx="6" fill="#f7fafc" stroke="{GREY}"/>'
    rows = [
        f'<text x="{x + 8:.0f}" y="{top + 16 + 14 * i:.0f}" fill="{colour or "black"}">{escape(text)}</text>'
        for i, (text, colour) in enumerate(texts)
    ]
    return [box, *rows]


def _edge(start: tuple[float, float], end: tuple[float, float], weight: Value | None, share: float) -> str:
    """Return a line from one node to another, and on it a weight, at a share of its length."""
    (x0, y0), (x1, y1) = (start[0] + WIDE, start[1] + HIGH / 2), (end[0], end[1] + HIGH / 2)
    line = f'<line x1="{x0:.0f}" y1="{y0:.0f}" x2="{x1:.0f}" y2="{y1:.0f}" stroke="{GREY}"/>'
    if weight is None:
        return line
    x, y = x0 + share * (x1 - x0) - 22, y0 + share * (y1 - y0)
    value, slope = _number(weight.value), _slope(weight)
    back = f'<rect x="{x - 2:.0f}" y="{y - 13:.0f}" width="{6.6 * max(len(value), len(slope)) + 4:.0f}" height="25" fill="white"/>'
    return (
        f'{line}{back}<text x="{x:.0f}" y="{y - 3:.0f}">{value}</text>'
        f'<text x="{x:.0f}" y="{y + 9:.0f}" fill="{RED}">{slope}</text>'
    )


def _number(value: float) -> str:
    return f"{value:.4g}"


def _slope(found: Value | None) -> str:
    return "" if found is None or found.gradient is None else f"{found.gradient:+.4g}"
