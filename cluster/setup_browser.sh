#!/usr/bin/env bash
# The chat page is tested in a real Chromium: finds one, or installs Debian's.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly LOG=.raydesk/logs/setup.log

for browser in chromium chromium-browser google-chrome google-chrome-stable; do
    command -v "$browser" >/dev/null && exit 0
done

fail() {
    printf '\n%s\n' "The tests of the chat page need Chromium, and it could not be installed: $1" \
        "  - Install it by hand: package 'chromium' (Debian, Fedora, Arch), or Google Chrome; then run 'make test' again." \
        "  - Or leave those tests out: .venv/bin/python -m pytest tests/unit tests/conformance tests/integration" >&2
    exit 1
}

command -v apt-get >/dev/null || fail "there is no apt-get here."
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || fail "that takes root, and there is no sudo here."
    as_root=(sudo)
    echo "Chromium is missing; installing it takes root (sudo apt-get install chromium)."
    sudo -v || fail "sudo was refused."
fi

mkdir -p .raydesk/logs
echo "  Chromium is being installed, about a minute … (log: $LOG)"
begin=$SECONDS
{
    "${as_root[@]}" apt-get update -q &&
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
            chromium fonts-noto-cjk
} >>"$LOG" 2>&1 || {
    tail -n 8 "$LOG" | sed 's/^/    /' >&2
    fail "apt-get failed; the lines above say why."
}
echo "  Chromium: $((SECONDS - begin)) s"
