"""Text with coloured tokens."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

from crucible.plots.figures import save

CHARACTERS, LINES, ROW = 100, 5, 0.23  # of a text that is shown; inches
Token = tuple[str, Any]  # what stands there, and its colour
GREEN, ORANGE, RED, NONE = "#9ae6b4", "#fbd38d", "#feb2b2", "none"
SURE = 8.0  # nats from which a token is darkest


def surprise(texts: Sequence[Sequence[tuple[str, float]]], path: Path, unit: str) -> None:
    """Draw texts, each token darker the less likely it was.

    Args:
        texts: of each its tokens and their nats. unit: what a token is.
    """
    shades = mpl.colormaps["Oranges"]
    space = "" if unit == "character" else " "
    _written([[(token + space, shades(0.8 * min(1.0, nats / SURE))) for token, nats in text] for text in texts], path)


def names(sentences: Sequence[Sequence[tuple[str, str, str]]], path: Path) -> None:
    """Draw sentences of (token, tag, predicted tag): green where a name's tag is right, orange missed or other, red invented."""
    _written([[(f"{token} ", _colour(own, said)) for token, own, said in sentence] for sentence in sentences], path)


def _colour(own: str, said: str) -> str:
    if own == said:
        return NONE if own == "O" else GREEN
    return RED if own == "O" else ORANGE


def _written(texts: Sequence[Sequence[Token]], path: Path) -> None:
    """Write texts under each other, in lines of equally wide characters."""
    lines = [line for text in texts for line in [*_lines(text)[:LINES], []]]
    figure, axis = plt.subplots(figsize=(9.5, max(1.0, ROW * len(lines))))
    axis.axis("off")
    axis.set_xlim(0, CHARACTERS)
    axis.set_ylim(len(lines), 0)
    for row, line in enumerate(lines):
        column = 0
        for token, colour in line:
            if colour != NONE:
                axis.add_patch(
                    mpl.patches.Rectangle((column, row), len(token.rstrip()) or 1, 0.9, color=colour, linewidth=0)
                )
            shown = token.replace("$", r"\$")
            axis.text(column, row + 0.72, shown, family="DejaVu Sans Mono", fontsize=7.5)
            column += len(token)
    save(figure, path)


def _lines(text: Sequence[Token]) -> list[list[Token]]:
    """Break a text into lines; a newline is shown as a sign."""
    lines: list[list[Token]] = [[]]
    width = 0
    for token, colour in text:
        shown = token.replace("\n", "\u21b5").replace("\t", " ")
        if width + len(shown) > CHARACTERS and lines[-1]:
            lines.append([])
            width = 0
        lines[-1].append((shown[:CHARACTERS], colour))
        width += len(shown)
    return lines
