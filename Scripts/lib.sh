# shellcheck shell=bash
# Shared by the scripts: sourced, never run.

project_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# A cache outside the checkout: build products and downloads survive a fresh clone. Optional.
REFORGE_SCRATCH=${REFORGE_SCRATCH:-${XDG_CACHE_HOME:-$HOME/.cache}/reforge}
export REFORGE_SCRATCH

# The debug build, used by the tests. Optimised: code that reads and compares millions of bytes takes a fifth of the
# time, all trapping checks remain, and building takes a third longer. A scratch folder must always be built with the
# same flags; otherwise it is rebuilt.
debug_flags=(--scratch-path "$REFORGE_SCRATCH/debug" -Xswiftc -O)

say() { printf '\n==> %s\n' "$*" >&2; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Installs the missing packages of Scripts/debian-packages without asking.
ensure_packages() {
    local missing=() name
    while read -r name _; do
        [[ -z $name || $name == \#* ]] && continue
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null) == installed ]] || missing+=("$name")
    done <"$project_root/Scripts/debian-packages"
    ((${#missing[@]} == 0)) && return 0
    [[ $EUID -eq 0 ]] || fail "missing packages: ${missing[*]}; run this as root, or install them"
    say "installing ${missing[*]}"
    apt-get update -q >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" >&2
}

# The toolchain is the only dependency that Debian does not package.
ensure_swift() {
    command -v swift >/dev/null || fail "swift 6.3 or newer is not on PATH: see https://www.swift.org/install/linux/"
}
