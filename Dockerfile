# tidemark as a container: one binary, the libraries it loads, the public certificate authorities, and nothing else.
#   docker build --build-arg COMMIT=$(git rev-parse HEAD) -t tidemark .
# The image it is built on is named by digest (deploy/pin-images.sh writes it); a mirror: --build-arg BUILDER=…

ARG BUILDER=rust:1.95.0-slim-bookworm@sha256:d7482085ff5b415f84dba5647ae71606650bdef00db7aeb69f4b3d170c3e4082

FROM ${BUILDER} AS build
WORKDIR /build
# The dependency list goes into the binary: `cargo audit bin tidemark` reads it.
RUN cargo install --locked --version 0.7.7 cargo-auditable
# Dependencies first, over empty sources: this layer stays until Cargo.lock changes.
COPY Cargo.toml Cargo.lock rust-toolchain.toml ./
COPY tests/devstack/Cargo.toml tests/devstack/
COPY vendor vendor
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
# What runs: no shell, no package manager. The C library answers DNS by itself.
RUN mkdir -p /rootfs/etc/ssl/certs /rootfs/tidemark.d \
    && for library in $(ldd /tidemark | awk '/=> \//{print $3} /^\t\/lib/{print $1}'); do cp --parents -L "$library" /rootfs; done \
    && cp -L /etc/ssl/certs/ca-certificates.crt /rootfs/etc/ssl/certs/ \
    && echo 'tidemark:x:65532:65532::/:/none' > /rootfs/etc/passwd \
    && cp /tidemark /rootfs/tidemark

# Recorders in place of Slack, Sentry and a heartbeat receiver, for docker-compose's profile "fakes".
FROM build AS fakes-build
COPY tests/devstack tests/devstack
RUN cargo build --locked --release -p devstack --bin fakes && cp target/release/fakes /fakes

FROM scratch AS fakes
COPY --from=build /rootfs /
COPY --from=fakes-build /fakes /fakes
USER 65532:65532
ENTRYPOINT ["/fakes"]
CMD ["0.0.0.0:9500"]

FROM scratch AS tidemark
ARG COMMIT=unknown
LABEL org.opencontainers.image.title="tidemark" \
      org.opencontainers.image.description="Follows MongoDB collections through change streams and keeps Postgres tables equal to them" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.revision="${COMMIT}"
COPY --from=build /rootfs /
# config/<environment>.toml is looked for beside the working directory: mount it at /tidemark.d/config.
WORKDIR /tidemark.d
USER 65532:65532
# Inside a container the status address is reached from outside it: set TIDEMARK__STATUS__TOKEN_FILE where others can, and
# TIDEMARK__STATUS__HOSTS to the names it is asked under; its IP addresses need none.
# The C library's allocator keeps a pool of freed memory for each of so many arenas.
ENV TIDEMARK__STATUS__LISTEN=0.0.0.0:9464 TIDEMARK__LOG__FORMAT=json MALLOC_ARENA_MAX=2
EXPOSE 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["/tidemark", "healthcheck"]
ENTRYPOINT ["/tidemark"]
CMD ["run"]
