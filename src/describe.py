"""Show a network layer by layer, without data: python src/describe.py model=vgg16 data.feature_shape=[3,224,224] data.num_classes=1000."""

from pathlib import Path

import torch

import declared
import entry
import finish
import starting
from crucible.models.measure import measure, savings
from crucible.report import architecture
from crucible.report.screen import lined
from crucible.targets import build
from overrides import choices_of


def main(job: entry.Job) -> None:
    """Print the table of layers, what bottlenecks save, and the sums; write the table and its picture."""
    job = starting.pinned(job)
    card = declared.described(job)
    with torch.device("meta"):
        model = build("model", job.cfg["model"], card.feature_shape, build("task", job.cfg["task"], card).num_outputs)
    rows = measure(model, card.feature_shape)
    name = choices_of(job.cfg)["model"]
    title = f"{name} on {'x'.join(map(str, card.feature_shape))}"
    parameters, multiplications = sum(p.numel() for p in model.parameters()), sum(row.multiplications for row in rows)
    picture = (Path("outputs/describe") if job.new_folder else job.folder) / f"{title.replace(' on ', '-')}.png"
    files = architecture.draw(title, rows, picture)
    totals = {
        "model": name,
        "feature_shape": card.feature_shape,
        "parameters": parameters,
        "multiplications": multiplications,
    }
    finish.write_json(picture.with_suffix(".json"), totals | {"layers": [row.told() for row in rows]})
    print(architecture.table(card.feature_shape, rows))
    found = [("saves", architecture.saved(each)) for each in savings(model, rows)]
    result = f"{title}: {parameters:,} parameters{_in_heads(model)}, {multiplications:,} multiplications an example"
    print(lined([*found, ("result", result), ("files", "  ".join(map(str, files))), ("next", declared.following(job))]))


def _in_heads(model: torch.nn.Module) -> str:
    count = sum(p.numel() for name, p in model.named_parameters() if name.startswith("heads."))
    return f" ({count:,} of them in heads that only training asks)" if count else ""


if __name__ == "__main__":
    entry.run(main)
