# make image-vector_hnsw
# docker run -p 8082:8082 -v vectors:/data -e VECTOR_HNSW__TOKEN=… hector-plugins/vector_hnsw

# hnswlib comes as source, so a compiler is needed, but only here.
FROM python:3.11-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /src
RUN python3 -m venv /venv
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY proto proto
COPY shared shared
COPY host host
COPY plugins plugins
# Not for the processor at hand: the image may run on an older one.
ENV HNSWLIB_NO_NATIVE=1
RUN /venv/bin/pip install --no-cache-dir -c constraints.txt '.[vector-hnsw]'

FROM python:3.11-slim-bookworm
COPY --from=build /venv /venv
RUN useradd --uid 10001 --create-home plugin && install -d -o plugin /data
USER plugin
WORKDIR /home/plugin
VOLUME /data
ENV VECTOR_HNSW__DATA_DIR=/data VECTOR_HNSW__HOST=0.0.0.0 PYTHONUNBUFFERED=1
EXPOSE 8082
ENTRYPOINT ["/venv/bin/python", "-m", "plugins.vector_hnsw"]
