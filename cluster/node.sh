#!/usr/bin/env bash
# One node of a Ray cluster, and its keeper:
#   cluster/node.sh head [CONFIG]        the first machine; deploys CONFIG (serve_config.yaml)
#   cluster/node.sh worker HEAD:6379     each other one
# Starts Ray with cluster/ray.env, one process of it again where that is enough (cluster/ray_node.py), and all whenever it
# ends: a minute later all is deployed again. Runs until Ctrl-C or SIGTERM, so that systemd or Docker can keep the keeper.
# RAYDESK_RAY_OPTIONS has further options for `ray start`. RAY_AUTH_TOKEN_PATH is a file with the token that all nodes share,
# mode 0600; the head makes it where there is none.
set -euo pipefail
cd "$(dirname "$0")/.."
[ ! -d .venv/bin ] || PATH=$PWD/.venv/bin:$PATH

usage() {
    sed -n '2,4s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

role=${1:-}
case $role in
    head)
        config=${2:-serve_config.yaml}
        [ -r "$config" ] || { echo "There is no configuration $config." >&2; exit 2; }
        # What jobs on this cluster publish has to be of the service's encoder, and in its folder.
        export RAYDESK_SETTINGS=${RAYDESK_SETTINGS:-$(realpath "$config")}
        start=(--head "--dashboard-host=127.0.0.1" "--dashboard-port=${RAYDESK_DASHBOARD_PORT:=8265}")
        ;;
    worker)
        [ -n "${2:-}" ] || usage
        start=("--address=$2")
        ;;
    *) usage ;;
esac

export RAYDESK_HOME=$PWD PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
set -a
. cluster/ray.env
set +a
export RAY_AUTH_TOKEN_PATH=${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}
if [ ! -s "$RAY_AUTH_TOKEN_PATH" ]; then
    [ "$role" = head ] || { echo "Copy the head's token to $RAY_AUTH_TOKEN_PATH (mode 0600) first." >&2; exit 2; }
    (umask 077 && mkdir -p "$(dirname "$RAY_AUTH_TOKEN_PATH")" &&
        python -c 'import secrets; print(secrets.token_hex(32))' >"$RAY_AUTH_TOKEN_PATH")
fi

say() { printf '%s  %s\n' "$(date -u +%FT%TZ)" "$*"; }

children=()
end() {
    trap - INT TERM
    [ ${#children[@]} -eq 0 ] || kill "${children[@]}" 2>/dev/null || true
    wait
    exit 0
}
trap end INT TERM

# Until it is taken: the dashboard is up some seconds after Ray.
deploy() {
    until serve deploy "$config" --address "http://127.0.0.1:$RAYDESK_DASHBOARD_PORT" 2>&1 | tail -n 3; do
        sleep 5
    done
    say "$config is handed over; 'serve status' tells how far it is"
}

while true; do
    say "Ray starts"
    # shellcheck disable=SC2086  # several options
    python -m cluster.ray_node "${start[@]}" --disable-usage-stats ${RAYDESK_RAY_OPTIONS:-} &
    ray=$!
    children=("$ray")
    if [ "$role" = head ]; then
        deploy &
        children+=("$!")
    fi
    wait "$ray" || true
    kill "${children[@]}" 2>/dev/null || true
    say "Ray has ended; it is started again in 2 s"
    sleep 2
done
