# shellcheck shell=bash
# What the other scripts share: where the project is, words for the reader, and what must be on the machine.
# To be sourced, from scripts that have set -euo pipefail.

root_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export root_dir

say() {
    if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
        printf '\033[1m== %s\033[0m\n' "$*"
    else
        printf '== %s\n' "$*"
    fi
}

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# How to become root: nothing when we are, sudo when it lets us; otherwise false.
may_be_root() {
    [ "$(id -u)" -eq 0 ] || { command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; }
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# need_packages WHAT:PACKAGE ... installs the Debian packages whose WHAT (a program, or a file's full path) is missing.
need_packages() {
    local pair what missing=() packages=()
    PATH="$PATH:/usr/sbin:/sbin"
    for pair in "$@"; do
        what=${pair%%:*}
        if ! command -v "$what" >/dev/null && [ ! -e "$what" ]; then
            missing+=("$what")
            packages+=("${pair#*:}")
        fi
    done
    [ ${#packages[@]} -eq 0 ] && return

    local install="apt-get install --yes --no-install-recommends ${packages[*]}"
    command -v apt-get >/dev/null ||
        fail "missing on this machine: ${missing[*]}. There is no apt-get here; install what provides them (Debian calls the packages ${packages[*]}) and run this again"
    may_be_root ||
        fail "missing on this machine: ${missing[*]}. Installing needs root and sudo is not available; let an administrator run \`$install\`, then run this again"
    say "Installing ${packages[*]} (for: ${missing[*]})"
    # A machine that was never updated knows no packages; an up-to-date one is spared the download of the lists.
    apt-cache show "${packages[@]}" >/dev/null 2>&1 || apt_get update || true
    apt_get install --yes --no-install-recommends "${packages[@]}" ||
        { apt_get update && apt_get install --yes --no-install-recommends "${packages[@]}"; } ||
        fail "\`$install\` did not succeed: see above; without a network, bring these packages by another way and run this again"
}

apt_get() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get --quiet --quiet "$@" >/dev/null
}

# Makes sure that cargo is there and new enough for `rust-version` in Cargo.toml.
need_rust() {
    local wanted found
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root_dir/Cargo.toml")
    find_cargo
    if ! command -v cargo >/dev/null; then
        fail "Rust is missing (cargo $wanted or newer). $(rust_advice)"
    fi
    if ! found=$(cargo --version 2>/dev/null); then
        fail "cargo is installed but has no toolchain to run. Choose one with \`rustup default stable\`, then run this again"
    fi
    found=${found#cargo }
    found=${found%% *}
    if [ "$(printf '%s\n' "$wanted" "$found" | sort -V | head -n1)" != "$wanted" ]; then
        fail "cargo $found is too old, $wanted or newer is needed. $(rust_advice)"
    fi
}

# need_component SUBCOMMAND COMPONENT: makes sure of `cargo SUBCOMMAND`, which minimal toolchains leave out.
need_component() {
    cargo "$1" --version >/dev/null 2>&1 && return
    if command -v rustup >/dev/null; then
        rustup component add "$2" && return
    fi
    fail "\`cargo $1\` is missing: add the component $2 (\`rustup component add $2\`, or your distribution's package)"
}

# rustup puts cargo where neither root's nor a non-interactive PATH looks.
find_cargo() {
    command -v cargo >/dev/null && return
    local home
    for home in "$HOME" "$(getent passwd "${SUDO_USER:-}" 2>/dev/null | cut -d: -f6)"; do
        if [ -n "$home" ] && [ -x "$home/.cargo/bin/cargo" ]; then
            PATH="$home/.cargo/bin:$PATH"
            export PATH RUSTUP_HOME="${RUSTUP_HOME:-$home/.rustup}"
            return
        fi
    done
}

rust_advice() {
    if command -v rustup >/dev/null; then
        echo "rustup is here: run \`rustup update stable && rustup default stable\`, then run this again"
    else
        echo "Install it with rustup (https://rustup.rs): \`curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh\`, or from your distribution if its package is new enough; without a network, unpack a toolchain archive from https://forge.rust-lang.org/infra/other-installation-methods.html brought by another way. Then run this again"
    fi
}

# The system packages without which nothing builds or runs: a linker with C headers, certificates for downloads,
# and the kernel's network tools.
need_machine() {
    need_packages cc:gcc /usr/include/stdio.h:libc6-dev /etc/ssl/certs/ca-certificates.crt:ca-certificates \
        ip:iproute2 iptables-restore:iptables curl:curl
    need_rust
}
