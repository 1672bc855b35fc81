# The process that visitors, experts and operators talk to. Build from the repository's root:
#   docker build --file docker/server.Dockerfile --tag amends-server .
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
    AMENDS_CACHE=/model \
    AMENDS_SERVER_HOST=0.0.0.0 \
    AMENDS_SERVER_PORT=8765
USER 10001
WORKDIR /data
VOLUME ["/data", "/model"]
EXPOSE 8765
# The first start fetches and converts the base model.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --retries=6 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8765/readyz', timeout=4)"]
CMD ["python", "-m", "server"]
