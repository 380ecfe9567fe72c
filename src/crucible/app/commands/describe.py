"""Show a network layer by layer, without data: python src/describe.py model=vgg16 data.feature_shape=[3,224,224] data.num_classes=1000."""

from pathlib import Path

import torch

from crucible.app.compose import Job
from crucible.app.overrides import choices_of
from crucible.app.prepared import described, training_of_declared
from crucible.app.pretrained import resolve_source
from crucible.app.project import write_json
from crucible.instantiate import build
from crucible.models.profile import measure, savings
from crucible.report import architecture
from crucible.report.screen import lined
from crucible.tasks.task import build_network


def main(job: Job) -> None:
    """Print the table of layers, what bottlenecks save, and the sums; write the table and its picture."""
    job = resolve_source(job)
    card = described(job)
    with torch.device("meta"):
        model = build_network(job.cfg["model"], card, build("task", job.cfg["task"], card))
    rows = measure(model, card.feature_shape)
    name = choices_of(job.cfg)["model"]
    title = f"{name} on {'x'.join(map(str, card.feature_shape))}"
    picture = (Path("outputs/describe") if job.new_folder else job.folder) / f"{title.replace(' on ', '-')}.png"
    files = architecture.draw(title, rows, picture)
    totals = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "multiplications": sum(row.multiplications for row in rows),
    }
    facts = {"model": name, "feature_shape": card.feature_shape, **totals, "layers": [row.as_dict() for row in rows]}
    write_json(picture.with_suffix(".json"), facts)
    print(architecture.table(card.feature_shape, rows))
    found = [("saves", architecture.saved(each)) for each in savings(model, rows)]
    print(lined([*found, ("result", f"{title}: {_counted(model, **totals)}"), ("files", "  ".join(map(str, files))),
                 ("next", training_of_declared(job))]))  # fmt: skip


def _counted(model: torch.nn.Module, parameters: int, multiplications: int) -> str:
    return f"{parameters:,} parameters{_in_heads(model)}, {multiplications:,} multiplications an example"


def _in_heads(model: torch.nn.Module) -> str:
    count = sum(p.numel() for name, p in model.named_parameters() if name.startswith("heads."))
    return f" ({count:,} of them in heads that only training asks)" if count else ""
