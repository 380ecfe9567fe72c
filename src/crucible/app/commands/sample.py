"""Let a language model write: python src/sample.py run=latest [prefix="to be"] [length=500] [temperature=1] [seed=0]."""

import shlex
import time
from itertools import islice
from math import isfinite

from crucible.app.arguments import read_arguments, whole_number
from crucible.app.commands.score import language_model
from crucible.app.unfinished import usable_run
from crucible.errors import Refusal, printable
from crucible.inference.language import samples
from crucible.inference.saved_run import Saved
from crucible.labels.texts import unit_of
from crucible.report.screen import lined

KEYS = {"run": "latest", "prefix": "", "length": "500", "temperature": "1", "seed": "0", "count": ""}
EXAMPLE = 'python src/sample.py run=latest prefix="to be" temperature=0.8'
LINES = 10


def main(words: list[str]) -> None:
    """Write tokens to the terminal as they are drawn, until <EOS> or the longest length; of a model of lines `count` of them."""
    given = read_arguments(words, KEYS, example=EXAMPLE)
    length, seed = whole_number("length", given["length"], least=1), whole_number("seed", given["seed"])
    count = whole_number("count", given["count"], least=1) if given["count"] else 0
    temperature = _temperature(given["temperature"])
    folder = usable_run(given["run"])
    saved = language_model(folder)
    by_line = saved.card.recipe["reader"].get("item") == "line"
    start, written = time.perf_counter(), 0
    count = count or (LINES if by_line else 1)
    for i in range(count):
        written += _streamed(saved, given["prefix"], length, temperature, seed + i)
    seconds = time.perf_counter() - start
    unit = "characters" if unit_of(saved.card) == "character" else "tokens"
    print(lined([("result", f"{written:,} {unit}, {written / seconds:,.0f} a second, temperature {temperature:g}, seed {seed}"),
                 ("files", str(folder)),
                 ("next", f"python src/sample.py run={shlex.quote(given['run'])} temperature={0.5 if temperature >= 1 else 1} seed={seed + count}")]))  # fmt: skip


def _temperature(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not (isfinite(number) and number >= 0):
        raise Refusal(f"temperature={value}", "it is no number from 0", allowed="0: the likeliest token; 1: as the model says; above: wilder",
                      example="temperature=0.8")  # fmt: skip
    return number


def _streamed(saved: Saved, prefix: str, length: int, temperature: float, seed: int) -> int:
    """Write one text as it comes; return its tokens."""
    space = "" if unit_of(saved.card) == "character" else " "
    _write(prefix + (space if prefix else ""))
    written = 0
    for token in islice(samples(saved, prefix, temperature=temperature, seed=seed), length):
        _write(token + space)
        written += 1
    print()
    return written


def _write(text: str) -> None:
    """Write a part of a text at once; what would steer a terminal stands as an escape, but for a new line."""
    print("\n".join(printable(line) for line in text.split("\n")), end="", flush=True)
