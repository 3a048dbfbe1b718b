# make image-reasoning-react
# docker run -p 127.0.0.1:8085:8085 -e REASONING_REACT__LLM=llm:8081 -e REASONING_REACT__TOOLS=tools:8084 \
#   -e REASONING_REACT__STATE_KEY hector-plugins/reasoning-react

ARG PYTHON=python:3.11-slim-bookworm

FROM ${PYTHON} AS build
RUN python3 -m venv --without-pip /venv
COPY Dockerfiles/locks/reasoning_react.txt /requirements.txt
RUN python3 -m pip --python /venv/bin/python --disable-pip-version-check --no-cache-dir install --require-hashes --only-binary :all: -r /requirements.txt
WORKDIR /app
COPY proto/*.py proto/
COPY shared shared
COPY plugins/__init__.py plugins/
COPY plugins/reasoning_react plugins/reasoning_react
RUN python3 -m compileall -q -j0 /app

FROM ${PYTHON}
ARG VERSION
LABEL org.opencontainers.image.title="hector-plugins/reasoning-react" \
      org.opencontainers.image.description="ReasoningStrategy for Hector: ReAct" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /venv /venv
COPY --from=build /app /app
COPY LICENSE /app/
USER 10001:10001
WORKDIR /app
ENV PYTHONPATH=/app:/app/proto PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/app \
    REASONING_REACT__HOST=0.0.0.0 REASONING_REACT__INSECURE=true
EXPOSE 8085
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["/venv/bin/python", "-m", "plugins.reasoning_react", "--health"]
ENTRYPOINT ["/venv/bin/python", "-m", "plugins.reasoning_react"]
