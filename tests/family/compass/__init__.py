"""A task family of another package: directions in degrees, predicted from series of different lengths. Crucible knows nothing of it."""
