# The serving image: app, the network definitions and models_store; no training loop, no test tool.
#
#   docker build -t genserve .                         for CPUs: ONNX Runtime, no PyTorch
#   docker build -t genserve --build-arg TORCH=cuda .  with PyTorch for GPUs, several GB larger
#   docker run --rm -p 127.0.0.1:8000:8000 --read-only --cap-drop ALL genserve
#
# A release names the base by its digest, and says what it is: docs/how-to/release.md.

ARG BASE=python:3.11-slim
FROM ${BASE} AS build

# uv installs the dependency list of pyproject.toml as it stands. pip would want the project as
# well, and then app would be in the image twice.
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore \
    UV_COMPILE_BYTECODE=1 \
    UV_NO_CACHE=1 \
    UV_SYSTEM_CERTS=1

# none; cuda = PyTorch as the package index has it for Linux; cpu = its CPU build, for checkpoints
# without exported graphs; or a build for an older driver, as uv names them: cu126.
ARG TORCH=none
# Instead of PyTorch's own index: a folder (mounted into the build) or page of wheels. What it
# holds decides which torch is taken.
ARG PIP_FIND_LINKS=""
# Indexes beside the default one, such as a company's own.
ARG PIP_EXTRA_INDEX_URL=""

WORKDIR /build
COPY pyproject.toml constraints.txt ./
# Pinned like `make serve`. pip reads the two PIP_ variables itself; uv has its own names for them,
# and by default stops at the first index that knows a package.
RUN python -m venv --without-pip /opt/venv \
 && pip install --no-cache-dir --constraint constraints.txt uv \
 && if [ -n "$PIP_FIND_LINKS" ]; then export UV_FIND_LINKS="$PIP_FIND_LINKS"; \
    elif [ "$TORCH" != cuda ] && [ "$TORCH" != none ]; then export UV_TORCH_BACKEND="$TORCH"; fi \
 && if [ -n "$PIP_EXTRA_INDEX_URL" ]; then \
      export UV_EXTRA_INDEX_URL="$PIP_EXTRA_INDEX_URL" UV_INDEX_STRATEGY=unsafe-best-match; fi \
 && if [ "$TORCH" = none ]; then set --; else set -- --extra torch; fi \
 && uv pip install --python /opt/venv/bin/python \
      --constraint constraints.txt --requirement pyproject.toml --extra otel "$@"
# The bill of materials: every Python package, its version and licence, in CycloneDX.
RUN pip install --no-cache-dir cyclonedx-bom==7.5.0 \
 && cyclonedx-py environment --output-reproducible --output-file /opt/sbom.cdx.json \
      /opt/venv/bin/python


FROM ${BASE}

# A fixed number, so that Kubernetes' runAsNonRoot and file permissions can rely on it.
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin genserve

# Log lines at once. No bytecode is written when it runs: the file system is meant to be read-only.
ENV PATH=/opt/venv/bin:$PATH \
    GENSERVE_HOST=0.0.0.0 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1

# From what changes least to what changes most. All of it belongs to root: the service can read
# its code and models, and change neither.
COPY --from=build /opt/venv /opt/venv
WORKDIR /srv
COPY LICENSE ./
COPY --from=build /opt/sbom.cdx.json ./
COPY training/__init__.py training/
COPY training/networks training/networks
COPY models_store models_store
COPY app app
RUN python -m compileall -q app training

USER 10001:10001
EXPOSE 8000

# Alive, not ready: a draining or busy service must not be restarted.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-m", "app.process.healthcheck"]

# Last, so that another revision finds all layers.
ARG BASE
ARG VERSION=""
ARG REVISION=""
LABEL org.opencontainers.image.title="Genserve" \
      org.opencontainers.image.description="Serves trained image generators over HTTP" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="$BASE" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"

# Exec form: python is process 1 and gets SIGTERM itself, which starts the drain.
CMD ["python", "-m", "app"]
