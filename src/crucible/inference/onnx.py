"""A finished run as an ONNX file, checked against the run itself; the one door to onnx and onnxruntime.

The file of a run on a table takes an input (N, 1) for each column, by its name: text where the column is a category, or yes or no; else
numbers, of a date the days since 1970. An empty cell is "" or NaN.
"""

import io
import json
import logging
import tempfile
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crucible.data.card import Card
from crucible.data.columns import Column, columns_of, is_numeric
from crucible.data.readers.source import Array
from crucible.errors import Refusal
from crucible.inference.saved_run import Predictor, Saved, input_dtype

LIMIT = 1e-5
ANSWERS = "answers"
CELLS, NETWORK = "cells/", "network/"  # how the names of the parts of a table's file begin
NUMBERS = f"{CELLS}stored"


def export(saved: Saved, examples: Tensor, path: Path) -> float:
    """Write `path`: `x`, stored values (N, ...) as float32 (wide numbers: float64), to `answers`, (N, K) probabilities or (N, 1) numbers.

    Of a table the inputs are its columns. The classes, the shape and the task stand in the file's metadata. Any number of examples can be
    asked at once.

    Args:
        examples: stored values (N, ...), N at least 3, to check with.

    Returns:
        The largest difference between the file's answers and the run's, as a share of the largest answer where that is
        above 1.

    Raises:
        Refusal: onnx is not installed, the model cannot be expressed, or answers differ by more than 1e-5; nothing is left.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  (torch's exporter needs it)
    except ImportError as error:
        raise Refusal("export", f"{error.name} is not installed", allowed="pip install 'crucible-dl[export]'") from None
    predictor = Predictor(saved, settled=False).eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # torch's stub lacks it
    x = examples.to(input_dtype(saved.card))
    with torch.inference_mode():
        wanted = predictor(x).numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".exporting-") as home:
        draft = Path(home) / path.name
        _convert(predictor, x[:2], draft)
        model = onnx.load(draft) if saved.card.table is None else _of_cells(onnx.load(draft), saved.card)
        facts = {
            "classes": saved.card.classes,
            "feature_shape": saved.card.stored_shape,
            "columns": (saved.card.table or {}).get("columns"),
            "task": saved.task.kind.name,
        }
        onnx.helper.set_model_props(model, {key: json.dumps(value, ensure_ascii=False) for key, value in facts.items()})
        onnx.save(model, draft)
        session = onnxruntime.InferenceSession(str(draft), providers=["CPUExecutionProvider"])
        parts = [session.run(None, inputs_of(part.numpy(), saved.card))[0] for part in (x[:1], x[1:])]
        apart = float(np.abs(np.concatenate(parts) - wanted).max() / max(1.0, np.abs(wanted).max()))
        if not apart <= LIMIT:
            raise Refusal("export", f"the file's answers differ by {apart:.1e}", allowed=f"at most {LIMIT:g}")
        draft.replace(path)
    return apart


def drawn(card: Card, count: int) -> Tensor:
    """Return stored values (count, ...) like those of the data, drawn: of a table with empty cells and with unseen categories."""
    draw = torch.Generator().manual_seed(0)
    mean, std = (
        torch.tensor(card.normalize[key]).view(-1, *(1 for _ in card.stored_shape[1:])) for key in ("mean", "std")
    )
    values = mean + std * torch.randn(count, *card.stored_shape, generator=draw)
    for i, column in enumerate(columns_of(card.table)):
        if not is_numeric(column) or column.kind == "boolean":
            low, high = (0, 2) if is_numeric(column) else (-1, len(column.categories))
            values[:, i] = torch.randint(low, high, (count,), generator=draw)
        if column.missing:
            values[0, i] = torch.nan
    return values


def inputs_of(values: Array, card: Card) -> dict[str, Array]:
    """Return what a file takes for stored values (N, ...): `x`, or the cells (N, 1) of each column of a table."""
    if card.table is None:
        return {"x": values}
    return {each.name: _cells(each, values[:, [i]]) for i, each in enumerate(columns_of(card.table))}


def _cells(column: Column, values: Array) -> Array:
    """Return the cells (N, 1) that are stored as some values (N, 1)."""
    if column.kind not in ("category", "boolean"):
        return values
    said = (
        {float(i): name for i, name in enumerate(column.categories)}
        if column.kind == "category"
        else {0.0: "no", 1.0: "yes"}
    )
    unseen = "".join(column.categories) + "?"
    return np.array(
        [["" if np.isnan(value) else said.get(float(value), unseen)] for value in values[:, 0]], dtype=object
    )


def _of_cells(model: Any, card: Card) -> Any:
    """Return a model that takes the cells of a table in place of the numbers that stand for them."""
    import onnx
    from onnx import TensorProto, helper

    from crucible.data.cells import MISSING, said_of

    columns, number = columns_of(card.table), model.graph.input[0].type.tensor_type.elem_type
    if taken := next(
        (each.name for each in columns if each.name == ANSWERS or each.name.startswith((CELLS, NETWORK))), ""
    ):
        raise Refusal(
            "export", f"a column is called '{taken}', as a part of the file is", allowed="another name for this column"
        )
    empty = dict.fromkeys([*MISSING, *card.recipe["reader"]["missing"]], float("nan"))
    inputs, nodes, parts = list[Any](), list[Any](), list[str]()
    for i, each in enumerate(columns):
        words = said_of(each)
        inputs.append(helper.make_tensor_value_info(each.name, TensorProto.STRING if words else number, ["batch", 1]))
        parts.append(f"{CELLS}column/{i}" if words else each.name)
        if words:
            known = empty | words
            nodes += [
                helper.make_node("LabelEncoder", [each.name], [f"{CELLS}place/{i}"], domain="ai.onnx.ml", keys_strings=list(known),
                                 values_floats=list(known.values()), default_float=-1.0 if each.kind == "category" else float("nan")),
                helper.make_node("Cast", [f"{CELLS}place/{i}"], [parts[-1]], to=number),
            ]  # fmt: skip
    nodes.append(helper.make_node("Concat", parts, [NUMBERS], axis=1))
    opsets = [*model.opset_import, helper.make_opsetid("ai.onnx.ml", 3)]
    shape: list[str | int | None] = ["batch", len(columns)]
    graph = helper.make_graph(nodes, "cells", inputs, [helper.make_tensor_value_info(NUMBERS, number, shape)])
    cells = helper.make_model(graph, opset_imports=opsets, ir_version=model.ir_version)
    model.opset_import.append(opsets[-1])
    network = onnx.compose.add_prefix(model, NETWORK, rename_inputs=True, rename_outputs=False)
    return onnx.compose.merge_models(cells, network, io_map=[(NUMBERS, f"{NETWORK}x")])


def _convert(predictor: torch.nn.Module, example: Tensor, path: Path) -> None:
    """Let torch write the file, quietly."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision, which nothing here uses
        try:
            torch.onnx.export(
                predictor, (example,), str(path), input_names=["x"], output_names=[ANSWERS], dynamo=True,
                dynamic_shapes={"x": {0: torch.export.Dim("batch")}}, external_data=False,
            )  # fmt: skip
        except torch.onnx.OnnxExporterError as error:
            raise Refusal("export", f"this model cannot be written as ONNX: {str(error).splitlines()[0]}") from None
