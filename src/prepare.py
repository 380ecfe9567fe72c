"""Prepare a data set: python src/prepare.py data=signs data.path=~/signs."""

from crucible.app.cli import run_command

if __name__ == "__main__":
    run_command("prepare")
