"""Who is on a picture, and is it who they say: python src/faces.py enroll|verify|identify run=latest [name=ann] PICTURE..."""

from crucible.app.cli import run_command

if __name__ == "__main__":
    run_command("faces")
