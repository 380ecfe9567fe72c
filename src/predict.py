"""Ask a finished run about new examples: python src/predict.py run=latest input=picture.png [format=table|json|csv] [out=FILE]."""

from crucible.app.cli import run_command

if __name__ == "__main__":
    run_command("predict")
