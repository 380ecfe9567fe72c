"""Write params.yaml from conf/ for the pipeline; `dvc exp run -S` writes it by itself, and is left alone."""

from crucible.app.cli import run_command

if __name__ == "__main__":
    run_command("compose")
