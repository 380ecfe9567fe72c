"""The runs of this project, newest first: python src/runs.py [format=table|json|csv]."""

from crucible.app.cli import run_command

if __name__ == "__main__":
    run_command("runs")
