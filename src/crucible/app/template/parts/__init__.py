"""Parts of this project: what pyproject.toml declares under an entry point may be named in conf/."""
