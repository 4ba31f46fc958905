# What stands for docker.io/library/rust, with a toolchain as the folder that it is built in. It finds crates in /vendor.
ARG DEBIAN
FROM $DEBIAN
RUN apt-get update -q && apt-get install -q -y --no-install-recommends ca-certificates gcc libc6-dev
COPY . /usr/local/rust
ENV PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin CARGO_HOME=/usr/local/cargo
RUN mkdir /usr/local/cargo && printf '[source.crates-io]\nreplace-with = "vendored"\n[source.vendored]\ndirectory = "/vendor"\n' >/usr/local/cargo/config.toml
