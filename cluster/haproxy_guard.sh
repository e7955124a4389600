#!/bin/sh
# Stands in for the haproxy binary (RAY_SERVE_HAPROXY_BINARY_PATH): corrects the configuration that Ray Serve has
# written, and then becomes the real HAProxy (RAYDESK_HAPROXY_BINARY). The configuration file is the argument after -f.
#   - Metrics and statistics are offered on every network interface: they go to loopback. Customers' door stays as it is.
#   - Two request headers let a client switch off Serve's time limit and its notice of disconnects: they go.
#   - With spliced request bodies HAProxy 2.8 does not notice that a customer has left before the first byte of the answer:
#     the engine would write to its end for nobody. Bodies are small, so nothing is lost.
#   - A request id is echoed whatever it holds: only plain ones pass, or Serve makes one.
set -eu

config=
previous=
for argument in "$@"; do
    if [ "$previous" = "-f" ]; then
        config=$argument
    fi
    previous=$argument
done

if [ -n "$config" ]; then
    # Written anew by Ray before each start, so this runs on a fresh file every time.
    sed -i -E \
        -e '/^[[:space:]]*option splice-request/d' \
        -e '/^frontend (http|grpc)_frontend/,/^[[:space:]]*bind/!s/^([[:space:]]*bind[[:space:]]+)\*?:([0-9]+)/\1127.0.0.1:\2/' \
        -e '/^frontend http_frontend/a\
    http-request del-header x-request-timeout-seconds\
    http-request del-header x-request-disconnect-disabled\
    http-request del-header x-request-id unless { req.hdr(x-request-id) -m reg ^[A-Za-z0-9._-]{1,64}$ }' \
        "$config"
fi

exec "$RAYDESK_HAPROXY_BINARY" "$@"
