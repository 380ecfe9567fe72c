"""A run on a table as MLflow serves it: rows with the cells that people have, text and empty ones among them.

MLflow keeps this file beside the run's own and runs it where the model is loaded; nothing is pickled.
"""

from pathlib import Path
from typing import Any

import torch
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from crucible.inference.predict import examples_of
from crucible.inference.saved_run import Predictor, input_dtype, load_run

RUN = "run"  # the artifact: the folder with the run's files


class ServedTable(PythonModel):
    """The run's network, its columns found by name as `predict.py` finds them."""

    def load_context(self, context: Any) -> None:
        """Load the run that was logged along."""
        self.saved = load_run(Path(context.artifacts[RUN]), torch.device("cpu"))
        self.predictor = Predictor(self.saved).eval()

    def predict(self, context: Any, model_input: Any, params: dict[str, Any] | None = None) -> Any:
        """Return the answers (N, K): a probability for each class, in the order of the card, or numbers."""
        kind = input_dtype(self.saved.card)
        with torch.inference_mode():
            parts = [self.predictor(torch.from_numpy(x).to(kind)) for _, x, _ in examples_of(model_input, self.saved)]
        return torch.cat(parts).numpy()


set_model(ServedTable())
