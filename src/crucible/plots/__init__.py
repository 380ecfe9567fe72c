"""Pictures: what matplotlib draws, each function one file."""
