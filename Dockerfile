# The image of immuproxy: locked packages with their hashes, no build tools, no pip, not root.
# BASE may be any image with Python 3.11 or later and its venv module.
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
WORKDIR /src
RUN python3 -m venv /opt/build && python3 -m venv --without-pip /opt/immuproxy
COPY requirements.lock requirements-build.lock ./
RUN /opt/build/bin/pip install --no-cache-dir --no-deps --require-hashes -r requirements-build.lock \
    && /opt/build/bin/pip --python /opt/immuproxy/bin/python install \
        --no-cache-dir --no-deps --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY immuproxy ./immuproxy
RUN /opt/build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /opt/build/wheels . \
    && /opt/build/bin/pip --python /opt/immuproxy/bin/python install --no-deps --no-index /opt/build/wheels/*.whl

FROM ${BASE}
LABEL org.opencontainers.image.title="immuproxy" \
      org.opencontainers.image.description="A registry proxy that makes tags immutable and records every push" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/immuproxy /opt/immuproxy
# for the index of the audit: mount a volume there, or it is kept in memory where the file system is read-only
RUN mkdir -m 700 /var/lib/immuproxy && chown 10001:10001 /var/lib/immuproxy
ENV PATH=/opt/immuproxy/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 STATE_DIRECTORY=/var/lib/immuproxy \
    IMMUPROXY_CONFIG=/etc/immuproxy/immuproxy.yml IMMUPROXY_HEALTH_URL=http://127.0.0.1:8080/healthz
# by number, so that it needs no entry in /etc/passwd and Kubernetes can see that it is not root
USER 10001:10001
EXPOSE 5000 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python3", "-c", "import os, urllib.request; urllib.request.urlopen(os.environ['IMMUPROXY_HEALTH_URL'], timeout=2)"]
ENTRYPOINT ["immuproxy"]
CMD ["serve"]
