"""Train one model on one prepared data set: python src/train.py model=resnet optimizer=adam."""

from crucible.app.cli import run_command

if __name__ == "__main__":
    run_command("train")
