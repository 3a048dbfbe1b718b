# make image-vector-pg
# docker run -p 127.0.0.1:8082:8082 -e DATABASE_URL hector-plugins/vector-pg

ARG PYTHON=python:3.11-slim-bookworm

FROM ${PYTHON} AS build
RUN python3 -m venv --without-pip /venv
COPY Dockerfiles/locks/vector_pg.txt /requirements.txt
RUN python3 -m pip --python /venv/bin/python --disable-pip-version-check --no-cache-dir install --require-hashes --only-binary :all: -r /requirements.txt
WORKDIR /app
COPY proto/*.py proto/
COPY shared shared
COPY plugins/__init__.py plugins/
COPY plugins/vector_pg plugins/vector_pg
RUN python3 -m compileall -q -j0 /app

FROM ${PYTHON}
ARG VERSION
LABEL org.opencontainers.image.title="hector-plugins/vector-pg" \
      org.opencontainers.image.description="DatabaseProvider for Hector on PostgreSQL with pgvector" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /venv /venv
COPY --from=build /app /app
COPY LICENSE /app/
USER 10001:10001
WORKDIR /app
ENV PYTHONPATH=/app:/app/proto PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/app \
    VECTOR_PG__HOST=0.0.0.0 VECTOR_PG__INSECURE=true
EXPOSE 8082
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["/venv/bin/python", "-m", "plugins.vector_pg", "--health"]
ENTRYPOINT ["/venv/bin/python", "-m", "plugins.vector_pg"]
