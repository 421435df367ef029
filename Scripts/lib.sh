# shellcheck shell=bash
# Shared by the scripts: sourced, never run.

project_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# A cache outside the checkout: build products and downloads survive a fresh clone. Never required to be there.
REFORGE_SCRATCH=${REFORGE_SCRATCH:-${XDG_CACHE_HOME:-$HOME/.cache}/reforge}
export REFORGE_SCRATCH

# The debug build, that of the tests. Optimised: what reads and compares millions of bytes takes a fifth of the time, all checks
# that trap stay, and building takes a third more. One scratch is always built with the same flags, or it is built anew.
debug_flags=(--scratch-path "$REFORGE_SCRATCH/debug" -Xswiftc -O)

say() { printf '\n==> %s\n' "$*" >&2; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Installs whichever packages of Scripts/debian-packages are missing. Never asks.
ensure_packages() {
    local missing=() name
    while read -r name _; do
        [[ -z $name || $name == \#* ]] && continue
        dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null | grep -qx installed || missing+=("$name")
    done <"$project_root/Scripts/debian-packages"
    ((${#missing[@]} == 0)) && return 0
    [[ $EUID -eq 0 ]] || fail "missing packages: ${missing[*]}; run this as root, or install them"
    say "installing ${missing[*]}"
    apt-get update -q >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" >&2
}

# The toolchain is the one thing that Debian does not package.
ensure_swift() {
    command -v swift >/dev/null || fail "swift 6.3 or newer is not on PATH: see https://www.swift.org/install/linux/"
}
