"""Write a finished run as an ONNX file: python src/export.py run=latest [out=model.onnx]; needs pip install 'crucible-dl[export]'."""

import shlex

import torch

from crucible.app.arguments import output_file, read_arguments
from crucible.app.unfinished import usable_run
from crucible.errors import Refusal
from crucible.inference.onnx import drawn, export
from crucible.inference.saved_run import load_run
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
    saved = load_run(folder, torch.device("cpu"))
    if saved.card.holds_symbols:
        raise Refusal(f"run={folder}", "ONNX files are written of networks that take numbers of one shape, this one reads text",
                      allowed="a run on images, tables or arrays", example="python src/predict.py run=latest input=lines.txt")  # fmt: skip
    example = "PICTURE" if saved.card.is_images else "FILE.npz" if saved.card.table is None else "FILE.csv"
    apart = export(saved, drawn(saved.card, CHECKED), path)
    size = f"{path.stat().st_size / 2**20:.1f} MB"
    result = f"{folder} as ONNX, {size}: x (N, {', '.join(map(str, saved.card.stored_shape))}), as stored, to answers"
    print(lined([("result", result), ("check", f"its answers and the run's differ by at most {apart:.1e}"), ("files", str(path)),
                 ("next", f"python src/predict.py run={shlex.quote(given['run'])} input={example}")]))  # fmt: skip
