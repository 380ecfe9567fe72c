"""Does MLflow hold what a journal holds, point by point? And one mirroring, as a command that can be killed."""

import sys
from collections import Counter
from pathlib import Path

from tests.attacks.processes import Child, fork
from tests.attacks.promises import events

UPLOADED = {"config.yaml", "card.json", "curves.csv", "train.json", "weights.safetensors"}


def mirror(folder: Path, uri: str) -> Child:
    """Start `python -m crucible.tracking.mlflow FOLDER --uri URI` in a fork."""

    def work() -> None:
        from crucible.tracking.mlflow import main

        sys.argv = ["mlflow", str(folder), "--uri", uri]
        sys.exit(main())

    return fork(work, folder.parent)


def compared(folder: Path, uri: str) -> list[str]:
    """Return how MLflow and the journal differ, asked for in a process of its own."""
    end = fork(lambda: print("\n".join(_differences(folder, uri))), folder.parent).wait()
    return end.out.split("\n")[:-1] if end.out.strip() else end.problem("the comparison")


def _differences(folder: Path, uri: str) -> list[str]:
    import mlflow

    client, reported = mlflow.MlflowClient(uri), events(folder)
    experiment = client.get_experiment_by_name("crucible").experiment_id
    found = client.search_runs([experiment], f"tags.`crucible.journal` = '{reported[0]['journal']}'")
    if len(found) != 1:
        return [f"{len(found)} runs for this journal"]
    run = found[0]
    own = f"source_run_id = '{run.info.run_id}'"
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    return [
        *_points(client, run, reported),
        *([] if run.info.status == "FINISHED" else [f"its status is {run.info.status}"]),
        *(f"{name} is not there" for name in UPLOADED - files),
        *([] if run.data.params else ["there are no parameters"]),
        *([] if client.search_logged_models([experiment], filter_string=own) else ["there is no model"]),
    ]


def _points(client: object, run: object, reported: list[dict]) -> list[str]:
    wanted: dict[str, Counter[tuple[int, int, float]]] = {}
    for event in reported:
        if event["kind"] in ("metrics", "end", "evaluate"):
            for name, value in event["values"].items():
                wanted.setdefault(name, Counter())[event["step"], int(event["time"] * 1000), float(value)] += 1
    found = {}
    for name in {*run.data.metrics, *wanted}:
        points = client.get_metric_history(run.info.run_id, name)
        found[name] = Counter((each.step, each.timestamp, each.value) for each in points)
    return [
        f"{name}: {found[name].total()} points there, {own.total()} here"
        for name, own in wanted.items()
        if found[name] != own
    ] + [f"{name} is too many" for name in found.keys() - wanted.keys()]
