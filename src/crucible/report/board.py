"""The view of a running search: trials by state, the best so far, the time left, who is at work."""

import sys
from collections.abc import Callable
from typing import Any

from crucible.search.search import SearchState
from crucible.search.trials import Trial
from crucible.text import clock

View = Callable[[SearchState, Trial | None], None]


def board(metric: str) -> View:
    """Return the function to call with (standing, the trial that has ended or None): a live view, or a line a trial in a file."""
    if not sys.stderr.isatty():
        return lambda standing, ended: _line(standing, ended, metric)
    from rich.console import Console
    from rich.live import Live

    live = Live(console=Console(stderr=True), refresh_per_second=4, transient=True)

    def tell(standing: SearchState, ended: Trial | None) -> None:
        live.start()
        if ended is not None:
            live.console.print(trial_line(ended, metric), highlight=False)
        live.update(table(standing, metric))
        if not standing.workers[0]:  # nobody works: what is printed next has the screen for itself
            live.stop()

    return tell


def table(standing: SearchState, metric: str) -> Any:
    """Return the view as a table of one row."""
    from rich.table import Table

    best = standing.best
    view = Table(box=None, pad_edge=False)
    row = {
        "trials": f"{standing.done} of {standing.n_trials}",
        "running": str(standing.workers[0]),
        "complete": str(standing.count("complete")),
        "pruned": str(standing.count("pruned")),
        "failed": str(standing.count("failed")),
        f"best {metric}": "-" if best is None or best.value is None else f"{best.value:.4f}",
        "left": "-" if standing.seconds_left is None else clock(standing.seconds_left),
        "workers busy": f"{standing.workers[0]}/{standing.workers[1]}, {standing.busy:.0%}",
    }
    for name in row:
        view.add_column(name, justify="right")
    view.add_row(*row.values())
    return view


def trial_line(trial: Trial, metric: str) -> str:
    """Return a line about a trial that has ended."""
    end = f"{metric} {trial.value:.4f}" if trial.value is not None else f"{trial.state}: {_why(trial)}"
    words = " ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in trial.values.items()
    )
    return f"{trial.stage} {trial.number}: {end}; {words}"


def _why(trial: Trial) -> str:
    cause = f"{trial.facts['cause']}, " if "cause" in trial.facts else ""
    return f"{cause}{trial.facts.get('why', '')}"


def _line(standing: SearchState, ended: Trial | None, metric: str) -> None:
    if ended is not None:
        print(f"[{standing.done}/{standing.n_trials}] {trial_line(ended, metric)}", file=sys.stderr, flush=True)
