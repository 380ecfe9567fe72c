"""Let a classifier look at every window of a picture: python src/slide.py run=latest input=picture.png [score=0.9] [overlap=0.3]."""

from crucible.app.cli import run_command

if __name__ == "__main__":
    run_command("slide")
