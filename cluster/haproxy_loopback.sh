#!/bin/sh
# Stands in for the haproxy binary (RAY_SERVE_HAPROXY_BINARY_PATH). Ray Serve's configuration offers HAProxy's metrics
# and statistics on every network interface; this puts them on loopback, and then becomes the real HAProxy.
# RAYDESK_HAPROXY_BINARY is the real one. The configuration file is the argument after -f.
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
    sed -i -E 's/^([[:space:]]*bind[[:space:]]+)\*?:([0-9]+)/\1127.0.0.1:\2/' "$config"
fi

exec "$RAYDESK_HAPROXY_BINARY" "$@"
