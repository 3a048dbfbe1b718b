# make image-vector-hnsw
# docker run -p 127.0.0.1:8082:8082 -v data:/data hector-plugins/vector-hnsw

ARG PYTHON=python:3.11-slim-bookworm

FROM ${PYTHON} AS build
# hnswlib comes as source, so a compiler is needed, but only here.
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv --without-pip /venv
COPY Dockerfiles/locks/vector_hnsw.txt /requirements.txt
# Not for the processor at hand: the image may run on an older one.
ENV HNSWLIB_NO_NATIVE=1
RUN python3 -m pip --python /venv/bin/python --disable-pip-version-check --no-cache-dir install --require-hashes -r /requirements.txt && strip /venv/lib/python3*/site-packages/hnswlib*.so
WORKDIR /app
COPY proto/*.py proto/
COPY shared shared
COPY plugins/__init__.py plugins/
COPY plugins/vector_hnsw plugins/vector_hnsw
RUN python3 -m compileall -q -j0 /app
RUN mkdir /data

FROM ${PYTHON}
ARG VERSION
LABEL org.opencontainers.image.title="hector-plugins/vector-hnsw" \
      org.opencontainers.image.description="DatabaseProvider for Hector on hnswlib, durable" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /venv /venv
COPY --from=build /app /app
COPY --from=build --chown=10001:10001 /data /data
COPY LICENSE /app/
USER 10001:10001
WORKDIR /app
# SQLite writes down what a large change replaces, and on a read-only root only the volume takes it.
ENV PYTHONPATH=/app:/app/proto PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/app SQLITE_TMPDIR=/data \
    VECTOR_HNSW__HOST=0.0.0.0 VECTOR_HNSW__INSECURE=true VECTOR_HNSW__DATA_DIR=/data
VOLUME /data
EXPOSE 8082
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["/venv/bin/python", "-m", "plugins.vector_hnsw", "--health"]
ENTRYPOINT ["/venv/bin/python", "-m", "plugins.vector_hnsw"]
