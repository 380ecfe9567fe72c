"""A finished run as an ONNX file, checked against the run itself; the one door to onnx and onnxruntime."""

import io
import json
import logging
import tempfile
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from crucible.data.card import Card
from crucible.data.columns import columns_of, is_numeric
from crucible.errors import Refusal
from crucible.inference.saved_run import Predictor, Saved, input_dtype

LIMIT = 1e-5


def export(saved: Saved, examples: Tensor, path: Path) -> float:
    """Write `path`: `x`, stored values (N, ...) as float32 (wide numbers: float64), to `answers`, (N, K) probabilities or (N, 1) numbers.

    The classes, the shape and the task stand in the file's metadata. Any number of examples can be asked at once.

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
        model = onnx.load(draft)
        facts = {
            "classes": saved.card.classes,
            "feature_shape": saved.card.stored_shape,
            "columns": (saved.card.table or {}).get("columns"),
            "task": saved.task.kind.name,
        }
        onnx.helper.set_model_props(model, {key: json.dumps(value, ensure_ascii=False) for key, value in facts.items()})
        onnx.save(model, draft)
        session = onnxruntime.InferenceSession(str(draft), providers=["CPUExecutionProvider"])
        parts = [session.run(None, {"x": part.numpy()})[0] for part in (x[:1], x[1:])]
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
    for i, column in enumerate(columns_of(card.table) if card.table is not None else []):
        if not is_numeric(column):
            values[:, i] = torch.randint(-1, len(column.categories), (count,), generator=draw)
        if column.missing:
            values[0, i] = torch.nan
    return values


def _convert(predictor: torch.nn.Module, example: Tensor, path: Path) -> None:
    """Let torch write the file, quietly."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision, which nothing here uses
        try:
            torch.onnx.export(
                predictor, (example,), str(path), input_names=["x"], output_names=["answers"], dynamo=True,
                dynamic_shapes={"x": {0: torch.export.Dim("batch")}}, external_data=False,
            )  # fmt: skip
        except torch.onnx.OnnxExporterError as error:
            raise Refusal("export", f"this model cannot be written as ONNX: {str(error).splitlines()[0]}") from None
