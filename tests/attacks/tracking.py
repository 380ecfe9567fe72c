"""A tracking server that fails in eight ways: training does not wait for it, and MLflow has each point once in the end?"""

import socket
import sys
import time
from functools import cache
from pathlib import Path
from random import Random
from uuid import uuid4

from tests.attacks.kills_train import COMMON, EVALUATE, undisturbed
from tests.attacks.processes import Child, command, kill, marked, program, wait_for
from tests.attacks.promises import differing, fresh, promised
from tests.attacks.results import Result, judged
from tests.attacks.stores import compared, mirror

TRAINING = ["trainer.total_epochs=20", "trainer.log_every=8"]
FAULTS = ("hang", "half", "after", "drop", "slow", "refused", "killed", "ok")
PATIENCE, FOLLOWED = 20.0, 8.0  # seconds that training may take longer, and that the mirror is left to itself
PROXY = str(Path(__file__).with_name("proxy.py"))


def attack(number: int, rng: Random, home: Path) -> Result:
    """Train beside a server with one fault, each in its turn."""
    import mlflow  # noqa: F401  (once: each fork has it then)

    wanted = undisturbed(home / "base", TRAINING)
    return _one(rng, home, FAULTS[number % len(FAULTS)], wanted.files, wanted.train)


def _one(rng: Random, home: Path, fault: str, wanted: dict[str, str], seconds: float) -> Result:
    server, port, mark, folder = _server(home), _free_port(), uuid4().hex, fresh(home / "try")
    uri, run = f"http://127.0.0.1:{port}", folder / "run"
    proxy = _proxy(port, server, "ok" if fault in ("killed", "refused") else fault, rng, home)
    if fault == "refused":
        proxy.kill()
    start = time.monotonic()
    lost = (
        command("train", [*TRAINING, COMMON[0], COMMON[2], f"tracking.uri={uri}"], folder, mark).wait().problem("train")
    )
    took = time.monotonic() - start
    lost += [f"training took {took:.0f} s, without a server {seconds:.0f} s"] if took > seconds + PATIENCE else []
    _leave(proxy, mark, rng.uniform(1, 6) if fault == "killed" else FOLLOWED)
    kill(marked(mark))
    proxy.kill()
    healed = _proxy(port, server, "ok", rng, home)
    lost += mirror(run, uri).wait().problem("the mirror when the server was well again")
    lost += lost or compared(run, uri)
    healed.kill()
    lost += command("evaluate", EVALUATE, folder).wait().problem("evaluate")
    return judged(1, [fault], lost=lost, silent=[] if lost else differing(wanted, promised(run)))


def _leave(proxy: Child, mark: str, seconds: float) -> None:
    """Leave the mirror to itself for a time; then its server dies."""
    wait_for(lambda: not marked(mark), seconds)
    proxy.kill()


@cache
def _server(home: Path) -> int:
    """Return the port of a good server, started once."""
    port, folder = _free_port(), fresh(home / "server")
    words = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    child = program(
        [*words, "--backend-store-uri", f"sqlite:///{folder}/m.db", "--artifacts-destination", str(folder)], folder
    )
    _await(child, port, 120)
    return port


def _proxy(port: int, target: int, fault: str, rng: Random, home: Path) -> Child:
    child = program([sys.executable, PROXY, str(port), str(target), fault, str(rng.randrange(10**6))], home)
    _await(child, port, 20)
    return child


def _await(child: Child, port: int, seconds: float) -> None:
    if not child.sleep(seconds, until=lambda: _listens(port)):
        raise RuntimeError(child.wait().err[-500:])


def _listens(port: int) -> bool:
    with socket.socket() as link:
        return link.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as link:
        link.bind(("127.0.0.1", 0))
        return link.getsockname()[1]
