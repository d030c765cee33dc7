# A host that converts, and measures its CPU: `benchfarm join`. Run it with --network host and without a CPU limit.
#   docker build -f deploy/docker/cpu-worker.Dockerfile -t benchfarm-cpu-worker:0.1.0 .
# Python must be the same, to its third number, on the head and on every host.
ARG PYTHON=3.11.13-slim-bookworm

FROM python:${PYTHON} AS build
# What this host serves: extras of pyproject.toml.
ARG EXTRAS=torch,onnx,litert,openvino,executorch,tensorflow
# "cpu" takes torch's CPU build from PyTorch's own index; as it is, PyPI's, which is built for CUDA.
ARG TORCH_BACKEND=
# What fsspec needs for the store: s3fs, gcsfs; nothing for a folder.
ARG STORE_PACKAGES=
WORKDIR /src
COPY constraints.txt ./
RUN pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt uv \
 && python -m venv /opt/benchfarm
ENV VIRTUAL_ENV=/opt/benchfarm
COPY pyproject.toml README.md ./
COPY benchfarm benchfarm
COPY dashboards dashboards
COPY device_registry device_registry
COPY exporters exporters
COPY scheduler scheduler
COPY workers workers
RUN uv pip install --no-cache --compile-bytecode --constraint constraints.txt \
      ${TORCH_BACKEND:+--torch-backend "$TORCH_BACKEND"} ".[$EXTRAS]"
# Not by constraints.txt: they pin what botocore takes an older version of (python-dateutil).
RUN if [ -n "$STORE_PACKAGES" ]; then \
      grep '^fsspec==' constraints.txt >fsspec.txt \
      && uv pip install --no-cache --compile-bytecode --constraint fsspec.txt $STORE_PACKAGES; \
    fi

FROM python:${PYTHON}
# torch.compile builds C++.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends g++ \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 benchfarm \
 && useradd --uid 10001 --gid 10001 --home-dir /var/lib/benchfarm --shell /usr/sbin/nologin benchfarm \
 && install --directory --owner=10001 --group=10001 --mode=0700 /var/lib/benchfarm /srv/benchfarm/artifacts \
 && ln -s /opt/benchfarm/bin/ray /usr/local/bin/ray
COPY --from=build /opt/benchfarm /opt/benchfarm
COPY --chmod=0555 deploy/docker/entrypoint.sh /usr/local/bin/benchfarm-entrypoint
COPY --chmod=0555 deploy/docker/health.py /usr/local/bin/benchfarm-health
ENV PATH=/opt/benchfarm/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    BENCHFARM_HOME=/var/lib/benchfarm
USER 10001:10001
WORKDIR /var/lib/benchfarm
HEALTHCHECK --interval=15s --timeout=10s --start-period=100s --retries=3 CMD ["benchfarm-health", "host"]
ENTRYPOINT ["benchfarm-entrypoint"]
# Arguments are the host's own: docker run ... benchfarm join 10.0.0.1:6379 --name lab-3
CMD ["benchfarm", "join", "--help"]
