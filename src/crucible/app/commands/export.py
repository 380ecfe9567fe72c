"""Write a finished run as an ONNX file: python src/export.py run=latest [out=model.onnx]; needs pip install 'crucible-dl[export]'."""

import shlex

import torch

from crucible.app.arguments import output_file, read_arguments
from crucible.app.unfinished import usable_run
from crucible.data.card import Card
from crucible.data.columns import columns_of
from crucible.errors import Refusal, printable
from crucible.inference.onnx import drawn, export
from crucible.inference.saved_run import answering_run
from crucible.report.screen import lined

KEYS = {"run": "latest", "out": ""}
EXAMPLE = "python src/export.py run=latest"
CHECKED = 8


def main(words: list[str]) -> None:
    """Export, check the file's answers against the run's, and say how far they are apart."""
    given = read_arguments(words, KEYS, example=EXAMPLE)
    folder = usable_run(given["run"])
    path = output_file("out", given["out"] or str(folder / "model.onnx"))
    if path.suffix != ".onnx":
        raise Refusal(f"out={path}", "its name does not end in .onnx", example="out=model.onnx")
    saved = answering_run(folder, torch.device("cpu"))
    if saved.card.holds_symbols:
        raise Refusal(f"run={folder}", "ONNX files are written of networks that take numbers of one shape, this one reads text",
                      allowed="a run on images, tables or arrays", example="python src/predict.py run=latest input=lines.txt")  # fmt: skip
    example = "PICTURE" if saved.card.is_images else "FILE.npz" if saved.card.table is None else "FILE.csv"
    apart = export(saved, drawn(saved.card, CHECKED), path)
    size = f"{path.stat().st_size / 2**20:.1f} MB"
    print(lined([("result", f"{folder} as ONNX, {size}: {_inputs(saved.card)} to answers"), ("check", f"its answers and the run's differ by at most {apart:.1e}"), ("files", str(path)),
                 ("next", f"python src/predict.py run={shlex.quote(given['run'])} input={example}")]))  # fmt: skip


def _inputs(card: Card) -> str:
    """Say what the file takes."""
    if card.table is None:
        return f"x (N, {', '.join(map(str, card.stored_shape))}), as stored,"
    from crucible.data.cells import said_of  # polars: only where a table is read

    names = [f"'{printable(each.name)}'{' (text)' if said_of(each) else ''}" for each in columns_of(card.table)]
    return f"{', '.join(names)}, each (N, 1),"
