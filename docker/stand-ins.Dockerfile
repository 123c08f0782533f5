# Servers for the Compose files where no registry can be pulled from. They understand the settings that
# our files use, and no others. Never tagged with a public name: see scripts/images.
ARG BASE_IMAGE=debian:bookworm-slim

FROM ${BASE_IMAGE} AS postgres
RUN apt-get update && \
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends postgresql && \
    rm -rf /var/lib/apt/lists/* /var/lib/postgresql && \
    ln -s /usr/lib/postgresql/*/bin/* /usr/local/bin/ && \
    install -d -o postgres -g postgres -m 700 /var/lib/postgresql/data && \
    install -d -o postgres -g postgres -m 775 /var/run/postgresql
COPY stand-ins/postgres /usr/local/bin/docker-entrypoint.sh
USER postgres
VOLUME /var/lib/postgresql/data
STOPSIGNAL SIGINT
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["postgres"]

FROM ${BASE_IMAGE} AS redis
RUN apt-get update && \
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends redis-server && \
    rm -rf /var/lib/apt/lists/* && \
    install -d -o redis -g redis /data
USER redis
WORKDIR /data
VOLUME /data
CMD ["redis-server", "--bind", "0.0.0.0"]

FROM ${BASE_IMAGE} AS haproxy
RUN apt-get update && \
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends haproxy && \
    rm -rf /var/lib/apt/lists/*
USER haproxy
# SIGUSR1 lets calls end.
STOPSIGNAL SIGUSR1
CMD ["haproxy", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]

FROM ${BASE_IMAGE} AS prometheus
RUN apt-get update && \
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends prometheus && \
    rm -rf /var/lib/apt/lists/* && \
    install -d -o nobody -g nogroup /prometheus
USER nobody
WORKDIR /prometheus
VOLUME /prometheus
ENTRYPOINT ["prometheus"]

FROM ${BASE_IMAGE} AS rotel
RUN apt-get update && \
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends python3-pip
# pip brings authorities of its own, and does not know those that the base image trusts.
RUN PIP_CERT=/etc/ssl/certs/ca-certificates.crt pip install --no-cache-dir --no-deps --target /rotel rotel==0.0.1a15

# The program is linked against Python's library, and uses nothing else of it.
FROM ${BASE_IMAGE} AS collector
RUN apt-get update && \
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends libpython3.11 && \
    rm -rf /var/lib/apt/lists/*
COPY --from=rotel /rotel/rotel/rotel-agent /usr/local/bin/rotel
COPY stand-ins/collector /otelcol
USER nobody
ENTRYPOINT ["/otelcol"]
