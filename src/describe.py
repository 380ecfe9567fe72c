"""Show a network layer by layer, without data: python src/describe.py model=vgg16 data.feature_shape=[3,224,224] data.num_classes=1000."""

from crucible.app.cli import run_command

if __name__ == "__main__":
    run_command("describe")
