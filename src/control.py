"""Change a running training: python src/control.py RUN optimizer.lr=0.0003 (or trainer.total_epochs=80, stop, checkpoint, evaluate)."""

from crucible.app.cli import run_command

if __name__ == "__main__":
    run_command("control")
