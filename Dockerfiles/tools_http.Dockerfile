# make image-tools-http
# docker run -p 127.0.0.1:8084:8084 hector-plugins/tools-http

ARG PYTHON=python:3.11-slim-bookworm

FROM ${PYTHON} AS build
RUN python3 -m venv --without-pip /venv
COPY Dockerfiles/locks/tools_http.txt /requirements.txt
RUN python3 -m pip --python /venv/bin/python --disable-pip-version-check --no-cache-dir install --require-hashes --only-binary :all: -r /requirements.txt
WORKDIR /app
COPY proto/*.py proto/
COPY shared shared
COPY plugins/__init__.py plugins/
COPY plugins/tools_http plugins/tools_http
RUN python3 -m compileall -q -j0 /app

FROM ${PYTHON}
ARG VERSION
LABEL org.opencontainers.image.title="hector-plugins/tools-http" \
      org.opencontainers.image.description="ToolProvider for Hector: HTTP and data tools with a policy" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /venv /venv
COPY --from=build /app /app
COPY LICENSE /app/
USER 10001:10001
WORKDIR /app
ENV PYTHONPATH=/app:/app/proto PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/app \
    TOOLS_HTTP__HOST=0.0.0.0 TOOLS_HTTP__INSECURE=true
EXPOSE 8084
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["/venv/bin/python", "-m", "plugins.tools_http", "--health"]
ENTRYPOINT ["/venv/bin/python", "-m", "plugins.tools_http"]
