"""Show a network layer by layer, without data: python src/describe.py model=vgg16 data.feature_shape=[3,224,224] data.num_classes=1000.

With graph=true: the values and the gradients of one example of train, on the graph of a small network that has not been trained.
"""

from pathlib import Path

import torch

from crucible.app.build import build_batches, build_model, build_task
from crucible.app.compose import Job
from crucible.app.overrides import choices_of, train_command
from crucible.app.prepared import described, training_of_declared
from crucible.app.pretrained import resolve_source
from crucible.app.project import write_json
from crucible.app.training import prepared_data
from crucible.data.seen import Seen
from crucible.diagnosis.graph import trace
from crucible.instantiate import build
from crucible.models.activations import ACTIVE
from crucible.models.profile import measure, savings
from crucible.report import architecture, graph
from crucible.report.screen import lined
from crucible.tasks.task import build_network
from crucible.tracking.folder import write_atomic


def main(job: Job) -> None:
    """Print the table of layers, what bottlenecks save, and the sums, and write the table and its picture; or the graph of an example."""
    job = resolve_source(job)
    if job.cfg["graph"]:
        _show_graph(job)
        return
    card = described(job)
    with torch.device("meta"):
        model = build_network(job.cfg["model"], card, build("task", job.cfg["task"], card))
    rows = measure(model, card.feature_shape)
    name = choices_of(job.cfg)["model"]
    title = f"{name} on {'x'.join(map(str, card.feature_shape))}"
    picture = (Path("outputs/describe") if job.new_folder else job.folder) / f"{title.replace(' on ', '-')}.png"
    files = architecture.draw(title, rows, picture)
    if functions := _functions(model):
        files.append(architecture.draw_activations(functions, picture.with_name(f"{picture.stem}-activations.png")))
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


def _functions(model: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """Return the activation functions of a network, each once."""
    return {type(each).__name__: each for each in model.modules() if isinstance(each, ACTIVE)}


def _show_graph(job: Job) -> None:
    """Print and draw what one example makes of the network as a training would start, forward and back."""
    data = prepared_data(job)
    task = build_task(job.cfg, data.card)
    model, _ = build_model(job.cfg, data, task)
    batches = build_batches(job.cfg, data.folder, data.card, data.device, Seen())
    found = trace(model, task, next(batches.evaluation("train", size=1)))
    name = f"{choices_of(job.cfg)['model']} on the first example of {data.card.name}"
    file = (Path("outputs/describe") if job.new_folder else job.folder) / f"graph-{name.replace(' ', '-')}.svg"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, graph.picture(found, name).encode())
    print("\n".join(graph.lines(found)))
    print(lined([("result", f"{name}: loss {found.loss:.4g}, every value forward, every gradient back"), ("files", str(file)),
                 ("next", train_command(job.cfg))]))  # fmt: skip


def _counted(model: torch.nn.Module, parameters: int, multiplications: int) -> str:
    return f"{parameters:,} parameters{_in_heads(model)}, {multiplications:,} multiplications an example"


def _in_heads(model: torch.nn.Module) -> str:
    count = sum(p.numel() for name, p in model.named_parameters() if name.startswith("heads."))
    return f" ({count:,} of them in heads that only training asks)" if count else ""
