"""The reference of every choice, made from conf/ and the signatures: python tests/reference.py > docs/reference.md."""

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import yaml  # noqa: E402

from crucible.app.overrides import load_choice  # noqa: E402
from crucible.app.quoting import GROUPS  # noqa: E402
from crucible.instantiate import PARTS, resolve, section_of  # noqa: E402

PLAIN = ("sweep", "experiment", "trainer")  # groups whose choices build nothing


NAMES = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
    "null": "null",
    "object": "mapping",
}
BOUNDS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}


def shown(schema: dict[str, Any], known: dict[str, Any]) -> str:
    """Return what a key takes, from its JSON schema."""
    if "$ref" in schema:
        return shown(known[schema["$ref"].rpartition("/")[2]], known)
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(shown(each, known) for each in schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{each}`" for each in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {shown(schema.get('items', {}), known)}"
    bounds = [
        f"{word} {schema[key]:g}" for key, word in BOUNDS.items() if key in schema and abs(schema[key]) < 2**31 - 1
    ]
    return " ".join([NAMES.get(schema.get("type", ""), "any value"), *bounds])


def about(group: str, choice: str) -> str:
    """Return the first comment of a choice's file, which says what it is."""
    lines = (ROOT / "conf" / group / f"{choice}.yaml").read_text(encoding="utf-8").splitlines()
    return next((line.lstrip("# ").strip() for line in lines if line.startswith("#") and "@package" not in line), "")


def keys(group: str, node: dict[str, Any]) -> list[str]:
    """Return a row for each key that a choice's signature declares: its default, and what it takes."""
    target = resolve(node["_target_"], group)
    if not target.__module__.startswith("crucible."):
        return []
    schema = section_of(target).model_json_schema()
    known, fields = schema.get("$defs", {}), schema.get("properties", {})
    return [f"| `{name}` | `{yaml_of(node.get(name))}` | {shown(field, known)} |" for name, field in fields.items()]


def yaml_of(value: Any) -> str:
    """Return a default as it stands in YAML."""
    return (
        {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else str(value)
    )


def page() -> str:
    """Return the page."""
    out = [
        "# Reference: every choice and key",
        "",
        "Made by `python tests/reference.py > docs/reference.md` from `conf/` and the signatures that check it; tests/test_docs.py holds them equal.",
        "",
    ]
    for group in GROUPS:
        out += [f"## {group}", ""]
        for file in sorted((ROOT / "conf" / group).glob("*.yaml")):
            if file.stem == "base":
                continue
            out += [f"### {group}={file.stem}", "", about(group, file.stem), ""]
            node = (
                load_choice(group, file.stem)
                if group not in PLAIN
                else yaml.safe_load(file.read_text(encoding="utf-8")) or {}
            )
            part = f"{group}.reader" if group == "data" else group
            if part in PARTS and (rows := keys(part, node["reader"] if group == "data" else node)):
                out += [
                    f"| key{' of data.reader' if group == 'data' else ''} | default | takes |",
                    "|---|---|---|",
                    *rows,
                    "",
                ]
    return "\n".join(out).rstrip() + "\n"


if __name__ == "__main__":
    print(page(), end="")
