# make image-reasoning_react
# docker run -p 8085:8085 -e REASONING_REACT__TOKEN=… -e REASONING_REACT__STATE_KEY=… \
#   -e REASONING_REACT__LLM=llm:8081 -e REASONING_REACT__TOOLS=tools:8084 hector-plugins/reasoning_react

FROM python:3.11-slim-bookworm
RUN python3 -m venv /venv && useradd --uid 10001 --create-home plugin
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY proto proto
COPY shared shared
COPY host host
COPY plugins plugins
RUN /venv/bin/pip install --no-cache-dir -c constraints.txt '.[reasoning-react]' && rm -rf /src
USER plugin
WORKDIR /home/plugin
ENV REASONING_REACT__HOST=0.0.0.0 PYTHONUNBUFFERED=1
EXPOSE 8085
ENTRYPOINT ["/venv/bin/python", "-m", "plugins.reasoning_react"]
