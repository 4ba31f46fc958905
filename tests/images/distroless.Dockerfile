# What stands for gcr.io/distroless/cc-debian12: the files of its packages, and no others.
ARG DEBIAN
FROM $DEBIAN AS debian
RUN apt-get update -q && apt-get install -q -y --no-install-recommends ca-certificates netbase tzdata libgcc-s1
RUN mkdir -p /out/usr/bin /out/usr/lib /out/usr/lib64 /out/usr/sbin && cp -a --parents /bin /lib /lib64 /sbin /etc/ssl/certs/ca-certificates.crt /out/ \
    && dpkg --listfiles base-files libc6 libgcc-s1 netbase tzdata | sort -u >/files \
    && tar --create --no-recursion --files-from=/files | tar --extract --directory=/out \
    && echo 'nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin' >/out/etc/passwd \
    && mkdir -p /out/home/nonroot && chown 65532:65532 /out/home/nonroot

FROM scratch
COPY --from=debian /out /
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 65532
WORKDIR /home/nonroot
