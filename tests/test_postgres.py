"""The same search kept in a real PostgreSQL server: several main processes, kills, and the server itself away for a while."""

import os
import random
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from test_search import family, finished, kill, require_exact, start, trials_of

from crucible.errors import Stopped
from tests.toy_search import planned, searched

HOMES = [Path(path) for path in os.environ["PATH"].split(":")] + sorted(Path("/usr/lib/postgresql").glob("*/bin"))
BIN = next((home for home in HOMES if (home / "initdb").exists() and (home / "pg_ctl").exists()), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BIN is None, reason="there is no PostgreSQL server on this machine (apt install postgresql)"),
]


@dataclass
class Server:
    """A server in a folder of its own."""

    home: Path
    port: int

    @property
    def url(self) -> str:
        """Where it is."""
        return f"postgresql://crucible@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._do("pg_ctl", "-D", f"{self.home}/data", "-w", "-l", f"{self.home}/log", "-o",
                 f"-p {self.port} -k {self.home} -c listen_addresses=127.0.0.1 -c fsync=off", "start")  # fmt: skip

    def stop(self) -> None:
        """Stop it at once."""
        self._do("pg_ctl", "-D", f"{self.home}/data", "-w", "-m", "immediate", "stop")

    def make(self) -> None:
        """Make its files."""
        self._do("initdb", "-D", f"{self.home}/data", "-U", "crucible", "-A", "trust", "--no-sync")

    def _do(self, name: str, *args: str) -> None:
        assert BIN is not None
        user = {"user": "postgres"} if os.getuid() == 0 else {}  # the server refuses to be root's
        subprocess.run([BIN / name, *args], check=True, cwd=self.home, stdout=subprocess.DEVNULL, timeout=60, **user)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    home = Path(tempfile.mkdtemp(prefix="crucible-pg-"))
    if os.getuid() == 0:
        shutil.chown(home, "postgres")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    made = Server(home, port)
    made.make()
    made.start()
    yield made
    made.stop()
    shutil.rmtree(home)


@pytest.fixture
def url(server: Server) -> Iterator[str]:
    """Give an empty database."""
    import psycopg

    name = f"t{random.getrandbits(40)}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"create database {name}")
    yield server.url.replace("/postgres", f"/{name}")


def test_two_main_processes_share_one_search_exactly(url, tmp_path) -> None:
    mains = [start(url, tmp_path / name, 30, 2) for name in ("a", "b")]
    for each in mains:
        finished(each)
    require_exact(url, 18, 12)
    owners = {each.user_attrs["owner"]["folder"] for each in trials_of(url, "coarse")}
    assert len(owners) == 2  # both took part


@pytest.mark.parametrize("repetition", range(6))
def test_whatever_is_killed_the_count_is_exact(repetition: int, url: str, tmp_path: Path) -> None:
    draw = random.Random(repetition)
    what = ("main", "worker", "all")[repetition % 3]
    mains = [start(url, tmp_path / name, 24, 2) for name in ("a", "b")]
    time.sleep(draw.uniform(1.5, 4.0))
    if mains[0].poll() is None and family(mains[0]):
        kill(what, mains[0], draw)
    if what == "worker":
        finished(mains[0])
    else:
        mains[0].wait()
        mains[0].communicate()
    finished(mains[1])  # the other notices that the first is gone, and does its part
    require_exact(url, 14, 10)


def test_a_server_that_is_away_for_a_moment_is_waited_for(server, url, tmp_path) -> None:
    main = start(url, tmp_path / "w", 24, 2)
    time.sleep(2.0)
    server.stop()
    time.sleep(2.0)
    server.start()
    finished(main)
    require_exact(url, 14, 10)


def test_where_it_stays_away_the_search_stops_cleanly_and_can_go_on(server, url, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("tests.toy_search.PATIENCE", 1.0)
    threading.Timer(1.5, server.stop).start()
    try:
        with pytest.raises(Stopped, match="it cannot be reached"):
            searched(url, tmp_path / "w", planned(24, 1))
    finally:
        server.start()
    searched(url, tmp_path / "w", planned(24, 1))
    require_exact(url, 14, 10)
