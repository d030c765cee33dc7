# The head of a farm: `benchfarm head`, `up`, `exporter`, `grafana`, `backup`. No package of machine learning.
#   docker build -f deploy/docker/head.Dockerfile -t benchfarm-head:0.1.0 .
# Python must be the same, to its third number, on the head and on every host.
ARG PYTHON=3.11.13-slim-bookworm

FROM python:${PYTHON} AS build
# What fsspec needs for the store: s3fs, gcsfs; nothing for a folder.
ARG STORE_PACKAGES=
WORKDIR /src
COPY constraints.txt ./
RUN pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt uv \
 && python -m venv /opt/benchfarm
ENV VIRTUAL_ENV=/opt/benchfarm
# What others made changes seldom, so it is a layer of its own.
COPY pyproject.toml ./
RUN uv pip install --no-cache --compile-bytecode --constraint constraints.txt \
      --requirements pyproject.toml --extra postgres --extra grafana --extra report
COPY README.md ./
COPY benchfarm benchfarm
COPY dashboards dashboards
COPY device_registry device_registry
COPY exporters exporters
COPY scheduler scheduler
COPY workers workers
RUN uv pip install --no-cache --no-deps --compile-bytecode --constraint constraints.txt .
# Not by constraints.txt: they pin what botocore takes an older version of (python-dateutil).
RUN if [ -n "$STORE_PACKAGES" ]; then \
      grep '^fsspec==' constraints.txt >fsspec.txt \
      && uv pip install --no-cache --compile-bytecode --constraint fsspec.txt $STORE_PACKAGES; \
    fi

FROM python:${PYTHON}
# pg_dump for `benchfarm backup`: Debian bookworm has 15, the major version of the server in compose.yaml.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends postgresql-client-15 \
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
HEALTHCHECK --interval=15s --timeout=10s --start-period=100s --retries=3 CMD ["benchfarm-health", "farm"]
ENTRYPOINT ["benchfarm-entrypoint"]
CMD ["benchfarm", "up"]
