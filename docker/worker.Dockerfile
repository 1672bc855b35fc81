# The process that learns: both Celery workers under one supervisor. Build from the repository's root:
#   docker build --file docker/worker.Dockerfile --tag amends-worker .
FROM python:3.11-slim AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir torch==2.13.0 --extra-index-url "${TORCH_INDEX}"
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY amends amends
COPY server server
COPY worker worker
COPY simulator simulator
RUN /venv/bin/pip install --no-cache-dir .

FROM python:3.11-slim
RUN useradd --uid 10001 --create-home amends \
    && install --directory --owner amends /data /model
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    AMENDS_HOME=/data \
    AMENDS_CACHE=/model
USER 10001
WORKDIR /data
VOLUME ["/data", "/model"]
HEALTHCHECK --interval=60s --timeout=20s --start-period=10m --retries=3 \
    CMD ["celery", "--app", "worker.celery_app", "--quiet", "inspect", "--timeout", "10", "ping"]
CMD ["amends", "up", "--only", "workers"]
