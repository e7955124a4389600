#!/bin/sh
# Stands in for the haproxy binary (RAY_SERVE_HAPROXY_BINARY_PATH): corrects the configuration that Ray Serve has
# written, and then becomes the real HAProxy (RAYDESK_HAPROXY_BINARY). The configuration file is the argument after -f.
#   - Metrics and statistics are offered on every network interface: they go to loopback. Customers' door stays as it is.
#   - haproxy_door.cfg: what the door itself decides, of headers and of questions that are too many.
#   - With spliced request bodies HAProxy 2.8 does not notice that a customer has left before the first byte of the answer:
#     the engine would write to its end for nobody. Bodies are small, so nothing is lost.
#   - Where no replica can be reached, Serve says 500 or 404: haproxy_503.http says that it is worth asking again.
#   - Where no replica is fit to be asked, Serve lets its own proxy ask it all the same: good while replicas are replaced, but
#     fifteen times slower, and customers waited there for half a minute when an overloaded replica had to be left alone.
#     So few may be there at once, and who comes to no place is told so soon.
#   - Two lines of log for each request, one to a syslog that mostly is not there, one that Serve's Python takes apart to count
#     what the ingresses count themselves (`raydesk_…`), cost a tenth of the answers. Who sets RAY_SERVE_HAPROXY_LOG_TARGET, or
#     RAY_SERVE_HAPROXY_METRICS_ENABLED=1, has them.
#   - Where a quarter of the connections that it may have are open, HAProxy keeps none to the replicas: it opens one for each
#     request, and a replica takes one of them a round of its loop. A crowd waited there for a replica that had time.
#   - A replica's socket holds 2,048 connections that it has not taken yet; who comes then is heard a second later, or three,
#     or seven. No more than it holds are opened to one: the others wait here, for a second at most.
#   - A door that is opened again knows no replica until Serve's controller has told it: it begins with those of before.
#   - A HAProxy whose manager was killed goes on with what it knew, on the same port: the next one takes over from it.
set -eu

config=
previous=
reloads=
for argument in "$@"; do
    [ "$previous" != -f ] || config=$argument
    [ "$argument" != -sf ] || reloads=yes
    previous=$argument
done

if [ -n "$config" ]; then
    # Written anew by Ray before each start, so this runs on a fresh file every time.
    if grep -q '^ *use_backend ' "$config"; then
        cp "$config" "$config.served"
    elif [ -z "$reloads" ] && [ -e "$config.served" ]; then
        cp "$config.served" "$config"
    fi
    here=$(dirname "$0")
    dropped='option splice-request'
    [ -n "${RAY_SERVE_HAPROXY_LOG_TARGET:-}" ] || dropped="$dropped|log .* local0 "
    [ "${RAY_SERVE_HAPROXY_METRICS_ENABLED:-}" = 1 ] || dropped="$dropped|log .* local1 "
    closed=$here/haproxy_503.http
    sed -i -E \
        -e 's/^global$/&\n    tune.pool-low-fd-ratio 90\n    tune.pool-high-fd-ratio 95/' \
        -e "/^[[:space:]]*($dropped)/d" \
        -e '/^frontend (http|grpc)_frontend/,/^[[:space:]]*bind/!s/^([[:space:]]*bind[[:space:]]+)\*?:([0-9]+)/\1127.0.0.1:\2/' \
        -e "/^frontend http_frontend/r $here/haproxy_door.cfg" \
        -e '/ backup$/!s/^[[:space:]]*server .* check .*/& maxconn 2000/' \
        -e 's/^([[:space:]]*)(server .*) backup$/\1timeout queue 1s\n\1\2 backup maxconn 100/' \
        -e "s|^([[:space:]]*errorfile 50[234]) .*|\1 $closed|" \
        -e "/^backend default_backend/,/return/s|return status 404 .*|return status 503 errorfile $closed|" \
        "$config"
    # What was read in is not edited by the same pass.
    sed -i "s|HERE/|$here/|" "$config"

    # By port: a node that was started again has another folder.
    door=$(sed -n '/^frontend http_frontend/,$s/^[[:space:]]*bind .*:\([0-9]*\).*/\1/p' "$config" | head -n 1)
    pid_file=$(dirname "$(dirname "$config")")/door-$door.pid
    left=$(cat "$pid_file" 2>/dev/null || true)
    if [ -z "$reloads" ] && [ -n "$left" ] && [ "/proc/$left/exe" -ef "$RAYDESK_HAPROXY_BINARY" ]; then
        set -- "$@" -sf "$left"
    fi
    echo $$ >"$pid_file"
fi

exec "$RAYDESK_HAPROXY_BINARY" "$@"
