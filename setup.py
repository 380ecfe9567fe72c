"""Puts conf/ and the digits into the wheel, where they are found without the repository; everything else is in pyproject.toml."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

BROUGHT = {"conf": "crucible/conf", "data/digits": "crucible/app/template/data/digits"}


class WithConfiguration(build_py):
    """Copies what the package brings and the repository keeps elsewhere."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for source, target in BROUGHT.items():
                for path in sorted(path for path in Path(source).rglob("*") if path.is_file()):
                    copy = Path(self.build_lib, target, path.relative_to(source))
                    self.mkpath(str(copy.parent))
                    self.copy_file(str(path), str(copy))


setup(cmdclass={"build_py": WithConfiguration})
