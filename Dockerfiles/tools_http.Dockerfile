# make image-tools_http
# docker run -p 8084:8084 -e TOOLS_HTTP__TOKEN=… hector-plugins/tools_http

FROM python:3.11-slim-bookworm
RUN python3 -m venv /venv && useradd --uid 10001 --create-home plugin
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY proto proto
COPY shared shared
COPY host host
COPY plugins plugins
RUN /venv/bin/pip install --no-cache-dir -c constraints.txt '.[tools-http]' && rm -rf /src
USER plugin
WORKDIR /home/plugin
ENV TOOLS_HTTP__HOST=0.0.0.0 PYTHONUNBUFFERED=1
EXPOSE 8084
ENTRYPOINT ["/venv/bin/python", "-m", "plugins.tools_http"]
