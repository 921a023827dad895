# tidemark as a container: a static set of dependencies built once, one binary, nothing to log in to.
#   docker build --build-arg COMMIT=$(git rev-parse HEAD) -t tidemark .
# The base images can be replaced, for a mirror or a pinned digest: --build-arg BUILDER=… --build-arg RUNTIME=…

ARG BUILDER=rust:1.95.0-slim-bookworm
ARG RUNTIME=gcr.io/distroless/cc-debian12:nonroot

FROM ${BUILDER} AS build
WORKDIR /build
# The dependency list goes into the binary: `cargo audit bin tidemark` reads it.
RUN cargo install --locked --version 0.7.7 cargo-auditable
# Dependencies first, over empty sources: this layer stays until Cargo.lock changes.
COPY Cargo.toml Cargo.lock rust-toolchain.toml ./
COPY tests/devstack/Cargo.toml tests/devstack/
RUN mkdir -p src tests/it tests/devstack/src benches examples \
    && touch src/lib.rs tests/devstack/src/lib.rs \
    && for main in src/main.rs tests/it/main.rs benches/bars.rs; do echo 'fn main() {}' > "$main"; done \
    && cargo auditable build --locked --release --bin tidemark
COPY src src
COPY config config
COPY migrations migrations
ARG COMMIT=unknown
RUN touch src/lib.rs src/main.rs \
    && TIDEMARK_COMMIT="${COMMIT}" cargo auditable build --locked --release --bin tidemark \
    && cp target/release/tidemark /tidemark && strip /tidemark

# Recorders in place of Slack, Sentry and a heartbeat receiver, for docker-compose's profile "fakes".
FROM build AS fakes-build
COPY tests/devstack tests/devstack
RUN cargo build --locked --release -p devstack --bin fakes && cp target/release/fakes /fakes

FROM ${RUNTIME} AS fakes
COPY --from=fakes-build /fakes /fakes
ENTRYPOINT ["/fakes"]
CMD ["0.0.0.0:9500"]

FROM ${RUNTIME} AS tidemark
ARG COMMIT=unknown
LABEL org.opencontainers.image.title="tidemark" \
      org.opencontainers.image.description="Follows MongoDB collections through change streams and keeps Postgres tables equal to them" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.revision="${COMMIT}"
COPY --from=build /tidemark /tidemark
# config/<environment>.toml is looked for beside the working directory: mount it at /tidemark.d/config.
WORKDIR /tidemark.d
USER 65532:65532
# Inside a container the status address is reached from outside it.
ENV TIDEMARK__STATUS__LISTEN=0.0.0.0:9464 TIDEMARK__LOG__FORMAT=json
EXPOSE 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["/tidemark", "healthcheck"]
ENTRYPOINT ["/tidemark"]
CMD ["run"]
