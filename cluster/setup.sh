#!/usr/bin/env bash
# Prepares .venv with the pinned dependencies; a second run only compares two checksums. DEV=1 adds what testing needs.
# PYTHON=... chooses the interpreter. pip's own settings (index, proxy, certificates) are respected.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly FRESH_DISK_MB=6000 UPDATE_DISK_MB=2000 INSTALL_MEMORY_MB=1500
readonly TORCH_INDEX=https://download.pytorch.org/whl/cpu
readonly STAMP=.venv/.raydesk-setup LOG=.raydesk/logs/setup.log

fail() {
    printf '\n%s\n' "$@" >&2
    exit 1
}

# --- what is wanted, and whether it is there ---------------------------------------------------------------------

# Kept apart for both locks: the one for testing holds everything of the other.
fingerprint() { printf '%s %s\n' "$1" "$(cat "requirements/$1.lock" pyproject.toml | sha256sum | cut -d ' ' -f 1)"; }

is_current() {
    [ -x .venv/bin/raydesk ] && grep -qxF "$(fingerprint "$1")" "$STAMP" 2>/dev/null
}

# --- progress -----------------------------------------------------------------------------------------------------

# Runs a command with its output in the log; shows what it is at and for how long, once that takes over two seconds.
step() {
    local title=$1 begin=$SECONDS shown=-15 status=0 first_line pid
    shift
    first_line=$(($(wc -l <"$LOG") + 1))
    "$@" >>"$LOG" 2>&1 &
    pid=$!
    trap 'kill "$pid" 2>/dev/null; wait "$pid" 2>/dev/null; printf "\n" >&2; exit 130' INT TERM
    while kill -0 "$pid" 2>/dev/null; do
        sleep 0.2
        local elapsed=$((SECONDS - begin))
        [ "$elapsed" -ge 2 ] || continue
        if [ -t 1 ]; then
            printf '\r\033[K  %s … %d s%s' "$title" "$elapsed" "$(pip_progress "$first_line")"
        elif [ $((elapsed - shown)) -ge 15 ]; then
            shown=$elapsed
            printf '  %s … %d s%s\n' "$title" "$elapsed" "$(pip_progress "$first_line")"
        fi
    done
    wait "$pid" || status=$?
    trap - INT TERM
    [ ! -t 1 ] || printf '\r\033[K'
    [ "$status" -ne 0 ] || [ $((SECONDS - begin)) -lt 2 ] || printf '  %s: %d s\n' "$title" $((SECONDS - begin))
    return "$status"
}

pip_progress() {
    local seen last
    seen=$(tail -n "+$1" "$LOG" | grep -cE '^(Collecting|Processing|Requirement already satisfied)' || true)
    [ "$seen" -gt 1 ] || return 0
    last=$(tail -n "+$1" "$LOG" | grep -E '^(Collecting|Installing collected)' | tail -n 1 | cut -d ' ' -f 1-2)
    printf ' (%d of %d packages; %s)' "$seen" "$(grep -cE '^[A-Za-z0-9].*==' "$lock")" "${last% collected}"
}

# --- checks -------------------------------------------------------------------------------------------------------

find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3.11 python3 python; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    fail "Python 3.11 with its venv module is needed, and was not found." \
        "  - Debian 12:        sudo apt-get install python3.11 python3.11-venv" \
        "  - Ubuntu:           sudo add-apt-repository ppa:deadsnakes/ppa && sudo apt-get install python3.11 python3.11-venv" \
        "  - Fedora, RHEL:     sudo dnf install python3.11" \
        "  - anywhere:         pyenv install 3.11    or    uv python install 3.11" \
        "  - somewhere else:   PYTHON=/path/to/python3.11 make serve"
}

check_machine() {
    local wanted=$UPDATE_DISK_MB free memory
    [ -d .venv ] || wanted=$FRESH_DISK_MB
    free=$(df -Pm . | awk 'NR == 2 { print $4 }')
    [ "$free" -ge "$wanted" ] || fail "$free MB are free on the disk of $PWD; the installation needs $wanted MB." \
        "  - Free some space ('df -h' shows the disks), or put this folder on another disk."
    memory=$(awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo)
    [ "${memory:-$INSTALL_MEMORY_MB}" -ge "$INSTALL_MEMORY_MB" ] ||
        fail "$memory MB of memory are available; the installation needs $INSTALL_MEMORY_MB MB: close other programs."
}

explain_failure() {
    printf '\nThe installation failed. The last lines of %s:\n\n' "$LOG" >&2
    tail -n 12 "$LOG" | cut -c 1-300 | sed 's/^/    /' >&2
    fail "What to do:" \
        "  - Network or package index: can this machine reach pypi.org and download.pytorch.org? Behind a proxy set" \
        "    HTTPS_PROXY; for a mirror of your own PIP_INDEX_URL or PIP_EXTRA_INDEX_URL. Then run the same command again:" \
        "    what was downloaded is kept." \
        "  - 'No space left on device': free some space here or in ${TMPDIR:-/tmp}, or set TMPDIR to another disk." \
        "  - 'THESE PACKAGES DO NOT MATCH THE HASHES': the index offers other files than the lock names. Do not go on." \
        "  - To begin anew: rm -rf .venv"
}

# --- installation -------------------------------------------------------------------------------------------------

pip_install() { .venv/bin/python -m pip install --disable-pip-version-check --no-input --progress-bar off "$@"; }

# First and alone: the CPU build of torch is on an index of its own, and it shows in a second whether that is needed.
install_torch() {
    local pinned
    pinned=$(mktemp)
    awk '/^torch==/ { inside = 1 } inside { print } inside && !/\\$/ { exit }' "$lock" >"$pinned"
    pip_install --no-deps --require-hashes -r "$pinned" ||
        pip_install --no-deps --require-hashes --extra-index-url "$TORCH_INDEX" -r "$pinned"
    local status=$?
    rm -f "$pinned"
    return "$status"
}

install() {
    local python
    python=$(find_python)
    check_machine
    [ -x .venv/bin/python ] || step "Virtual environment" "$python" -m venv .venv || explain_failure
    .venv/bin/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' ||
        fail ".venv has another Python than 3.11. Begin anew: rm -rf .venv"
    rm -f "$STAMP"
    step "PyTorch" install_torch || explain_failure
    step "Dependencies" pip_install --no-deps --require-hashes -r "$lock" || explain_failure
    step "Raydesk" pip_install --no-deps --no-build-isolation -e . || explain_failure
    if [ "$name" = dev ]; then fingerprint embedded; fi >"$STAMP"
    fingerprint "$name" >>"$STAMP"
}

name=embedded
[ -z "${DEV:-}" ] || [ "${DEV:-}" = 0 ] || name=dev
lock=requirements/$name.lock
is_current "$name" && exit 0

mkdir -p .raydesk/logs
touch "$LOG"
# One installation at a time: two terminals may begin in the same moment.
exec 9>.raydesk/setup.lock
if command -v flock >/dev/null && ! flock -n 9; then
    echo "Another setup is at work in this folder; waiting for it."
    flock 9
    is_current "$name" && exit 0
fi
echo "Setting up .venv from $lock (the first time takes some minutes; log: $LOG)"
printf '\n=== %s %s\n' "$(date '+%F %T')" "$lock" >>"$LOG"
install
