# make image-llm-openai
# docker run -p 127.0.0.1:8081:8081 -e OPENAI_API_KEY hector-plugins/llm-openai

ARG PYTHON=python:3.11-slim-bookworm

FROM ${PYTHON} AS build
RUN python3 -m venv --without-pip /venv
COPY Dockerfiles/locks/llm_openai.txt /requirements.txt
RUN python3 -m pip --python /venv/bin/python --disable-pip-version-check --no-cache-dir install --require-hashes --only-binary :all: -r /requirements.txt
WORKDIR /app
COPY proto/*.py proto/
COPY shared shared
COPY plugins/__init__.py plugins/
COPY plugins/llm_openai plugins/llm_openai
RUN python3 -m compileall -q -j0 /app

FROM ${PYTHON}
ARG VERSION
LABEL org.opencontainers.image.title="hector-plugins/llm-openai" \
      org.opencontainers.image.description="LLMProvider for Hector on any OpenAI-compatible endpoint" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /venv /venv
COPY --from=build /app /app
COPY LICENSE /app/
USER 10001:10001
WORKDIR /app
ENV PYTHONPATH=/app:/app/proto PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/app \
    LLM_OPENAI__HOST=0.0.0.0 LLM_OPENAI__INSECURE=true
EXPOSE 8081
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["/venv/bin/python", "-m", "plugins.llm_openai", "--health"]
ENTRYPOINT ["/venv/bin/python", "-m", "plugins.llm_openai"]
