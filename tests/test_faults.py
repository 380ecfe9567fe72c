"""The planted faults: each names a line that is there, so that it can be planted (tests/faults/tool.py runs them)."""

import json

import pytest
from conftest import ROOT

LISTS = sorted((ROOT / "tests" / "faults").glob("*.json"))


@pytest.mark.parametrize("path", LISTS, ids=[path.stem for path in LISTS])
def test_every_fault_can_be_planted(path) -> None:
    for fault in json.loads(path.read_text()):
        lines = (ROOT / "src" / "crucible" / fault["part"]).read_text(encoding="utf-8").splitlines()
        assert any(fault["old"] in line for line in lines), fault
        assert fault["old"] != fault["new"]
