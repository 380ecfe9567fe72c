# The environment of requirements.lock, and the project in it.
#   docker build -t crucible .
#   docker run --rm -v "$PWD/outputs:/crucible/outputs" -v ~/pictures:/data crucible python src/train.py data=auto data.path=/data
# With a GPU: docker run --gpus all ...
FROM python:3.11-slim
RUN apt-get update && apt-get install --yes --no-install-recommends git make && rm -rf /var/lib/apt/lists/*
WORKDIR /crucible
COPY . .
RUN make environment
ENV PATH=/crucible/.venv/bin:$PATH
CMD ["python", "src/train.py"]
