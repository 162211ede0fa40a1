# syntax=docker/dockerfile:1
# A Docker Space, on a GPU or without one. No secret is needed, or read, while building.
FROM python:3.11-slim AS compiled
# The one pinned package that has no wheel and wants a compiler: reasoning-gym's SAT solver.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev
COPY requirements.lock ./
RUN pip wheel --no-deps --wheel-dir /wheels "$(grep ^pycosat= requirements.lock)"

FROM python:3.11-slim

# What a Space's Dev Mode asks for: these programs beside make, and the code in /app, which belongs to uid 1000.
RUN apt-get update \
    && apt-get install -y --no-install-recommends bash curl git git-lfs make procps wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 user \
    && install --directory --owner=user /app
USER user
ENV HOME=/home/user \
    PATH=/app/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    ML_INTERN_HOST=0.0.0.0
WORKDIR /app

# The layers that change least come first: torch, then everything that is pinned, then our own files.
# On Linux x86-64 the index's default wheel is the CUDA build. For an image without a GPU build with
#   --build-arg TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu"
ARG TORCH="torch==2.13.0"
COPY --chown=user Makefile ./
RUN make .venv/torch TORCH="${TORCH}"
COPY --chown=user requirements.txt requirements-gym.txt requirements.lock ./
COPY --from=compiled /wheels /wheels
RUN PIP_FIND_LINKS=/wheels make .venv/ready TORCH="${TORCH}"
COPY --chown=user . .

EXPOSE 7860
CMD ["python", "app.py"]
