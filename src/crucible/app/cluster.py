"""Being part of a Ray cluster for a while, with the code and the configuration brought to its hosts."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crucible.app.identity import commit
from crucible.app.project import CHECKOUT, CONF, IN_CHECKOUT, PACKAGE, own_conf
from crucible.errors import Refusal


@contextmanager
def connected(engine: str, key: str = "hydra.sweeper.engine") -> Iterator[None]:
    """Be part of a cluster for a while; of this machine nothing needs to be said.

    Args:
        key: that asks for the engine.

    Raises:
        Refusal: Ray is not installed, or no cluster answers.
    """
    if engine == "local":
        yield
        return
    try:
        from crucible.search import ray
    except ModuleNotFoundError as error:
        raise Refusal(f"{key}=ray", f"there is no module {error.name} here", allowed="local; or Ray, on every host",
                      example="pip install 'crucible-dl[ray]'") from None  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="crucible-") as home:
        path = _staged(Path(home))
        with ray.connected(Path(home), path, CRUCIBLE_COMMIT=commit()):
            yield


def _staged(home: Path) -> str:
    """Copy code and configuration into a folder as a host is to have them; return where in it the packages are."""
    code, path = (CHECKOUT / "src", "src") if IN_CHECKOUT else (PACKAGE.parent, ".")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("crucible", "hydra_plugins"):
        shutil.copytree(code / name, home / path / name, ignore=ignored)
    if IN_CHECKOUT:
        shutil.copytree(CONF, home / "conf", ignore=ignored)
    elif (own := own_conf()) is not None:
        shutil.copytree(own, home / "conf", ignore=ignored)
    return path
