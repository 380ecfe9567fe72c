"""Write a finished run as an ONNX file: python src/export.py run=latest [out=model.onnx]; needs pip install 'crucible-dl[export]'."""

from crucible.app.cli import run_command

if __name__ == "__main__":
    run_command("export")
