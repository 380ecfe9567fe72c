"""Pages that anybody can open: one file, no link leaves it, and it can be mailed. Style and script stand beside this file."""

import base64
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from crucible.plots.charts import Part, as_data
from crucible.text import steady

HERE = Path(__file__).parent


def _shown(value: object) -> object:
    """Return what a page shows for a value; what is marked as safe stays."""
    return value if isinstance(value, Markup) else steady(value)


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(HERE), autoescape=True, finalize=_shown, trim_blocks=True, lstrip_blocks=True
    )


def rendered(template: str, parts: Mapping[str, Sequence[Part]], **values: Any) -> str:
    """Return a page: a template of this folder with its parts as data, which the script draws.

    Args:
        parts: by the place in the page where they are drawn.
    """
    data = {"parts": {place: [as_data(part) for part in own] for place, own in parts.items()}}
    text = json.dumps(data, ensure_ascii=True, allow_nan=False).replace(
        "<", "\\u003c"
    )  # no text of a file can end the script
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("style.css", "script.js"))
    return _environment().get_template(template).render(data=text, style=style, script=script, parts=parts, **values)


def embedded(path: Path) -> str:
    """Return a picture file as base64."""
    return base64.b64encode(path.read_bytes()).decode()
