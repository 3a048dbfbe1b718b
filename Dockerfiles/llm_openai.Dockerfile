# make image-llm_openai
# docker run -p 8081:8081 -e LLM_OPENAI__TOKEN=… -e OPENAI_API_KEY=… hector-plugins/llm_openai

FROM python:3.11-slim-bookworm
RUN python3 -m venv /venv && useradd --uid 10001 --create-home plugin
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY proto proto
COPY shared shared
COPY host host
COPY plugins plugins
RUN /venv/bin/pip install --no-cache-dir -c constraints.txt '.[llm-openai]' && rm -rf /src
USER plugin
WORKDIR /home/plugin
ENV LLM_OPENAI__HOST=0.0.0.0 PYTHONUNBUFFERED=1
EXPOSE 8081
ENTRYPOINT ["/venv/bin/python", "-m", "plugins.llm_openai"]
