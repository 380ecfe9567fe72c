"""A network's layers as a table, and as a picture."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from crucible.models.profile import Row, Saving

COLUMNS = ("layer", "kind", "shape", "values", "parameters", "multiplications", "sees", "memory")


def table(feature_shape: Sequence[int], rows: Sequence[Row]) -> str:
    """Return a line for each layer; memory: the share of all values and parameters of one example's forward pass."""
    size = 1
    for n in feature_shape:
        size *= n
    total = sum(row.size + row.parameters for row in rows) + size
    cells = [COLUMNS, ("input", "", _shape(feature_shape), f"{size:,}", "", "", "1", f"{100 * size / total:.1f} %")]
    cells += [
        (row.name, row.kind, _shape(row.shape), f"{row.size:,}", f"{row.parameters:,}" if row.parameters else "",
         f"{row.multiplications:,}" if row.multiplications else "", _sees(row),
         f"{100 * (row.size + row.parameters) / total:.1f} %")
        for row in rows
    ]  # fmt: skip
    widths = [max(len(line[i]) for line in cells) for i in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i < 3 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in cells
    )


def saved(found: Saving) -> str:
    """Return a sentence about one bottleneck."""
    (less, more), (few, many) = found.multiplications, found.parameters
    return (
        f"{found.name}: {less / 1e6:,.2f} million multiplications, {more / 1e6:,.2f} without its 1x1; "
        f"{few:,} weights, {many:,} without"
    )


def draw(title: str, rows: Sequence[Row], path: Path) -> list[Path]:
    """Draw values, parameters and multiplications layer by layer; as .png and .svg. Return both."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    from crucible.plots import figures

    mpl.rcParams["svg.hashsalt"] = "crucible"
    shown = [row for row in rows if row.parameters or row.multiplications] or list(rows)
    figure, axes = plt.subplots(1, 3, figsize=(11, 1.2 + 0.22 * len(shown)), sharey=True)
    names = [f"{row.name}  {_shape(row.shape)}" for row in shown]
    for axis, what in zip(axes, ("size", "parameters", "multiplications"), strict=True):
        values = [getattr(row, what) for row in shown]
        axis.barh(range(len(shown)), values, color=figures.BLUE)
        axis.set_title({"size": "values"}.get(what, what) + f": {sum(values):,}", fontsize=9)
        axis.set_yticks(range(len(shown)), names, fontsize=7)
    axes[0].invert_yaxis()
    figure.suptitle(title, fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    files = [path.with_suffix(suffix) for suffix in (".png", ".svg")]
    figure.savefig(files[0], metadata=figures.PLAIN)
    figure.savefig(files[1], metadata={"Date": None})
    plt.close(figure)
    return files


def draw_activations(functions: Mapping[str, Callable[[Tensor], Tensor]], path: Path) -> Path:
    """Draw activation functions and their slopes (notes 000, part 2, section 3; 002, 3.2); a slope is what autograd says.

    Args:
        functions: name -> any shape to the same shape.
    """
    import matplotlib.pyplot as plt

    from crucible.plots import figures

    figure, axes = plt.subplots(1, 2, figsize=(7.5, 3), sharex=True)
    for i, (name, function) in enumerate(functions.items()):
        z = torch.linspace(-5, 5, 401, requires_grad=True)
        values = function(z)
        slopes = torch.autograd.grad(values.sum(), z)[0] if values.requires_grad else torch.zeros_like(z)
        for axis, y in zip(axes, (values, slopes), strict=True):
            axis.plot(z.detach(), y.detach(), color=f"C{i}", label=name)
    for axis, title in zip(axes, ("a = g(z)", "slope: da / dz"), strict=True):
        axis.axhline(0, color=figures.GREY, linewidth=0.6)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("z")
        axis.legend(frameon=False, fontsize=8)
    return figures.save(figure, path)


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _sees(row: Row) -> str:
    if row.receptive_field is None:
        return "all"
    same = len(set(row.receptive_field)) == 1
    return str(row.receptive_field[0]) if same else _shape(row.receptive_field)
