"""Write params.yaml from conf/ for the pipeline; `dvc exp run -S` writes it by itself, and is left alone."""

import os
from pathlib import Path

from omegaconf import OmegaConf

from crucible.app.compose import Job


def main(job: Job) -> None:
    """Write the composition exactly as DVC writes it."""
    if "DVC_EXP_NAME" in os.environ:
        print("params.yaml is this experiment's: keeping it")
        return
    Path("params.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(job.cfg)), encoding="utf-8")
    print("params.yaml is what conf/ says")
