#!/usr/bin/env bash
# Installs the servers that the tests need and that are missing here, from Debian's packages. Safe to repeat.
#
#   scripts/install_servers.sh            all of them
#   scripts/install_servers.sh pgbouncer  some
#
# The packages' own services are kept from starting: the tests start servers of their own, on free ports.
set -euo pipefail

declare -A finds=(
    [postgresql]='ls /usr/lib/postgresql/*/bin/postgres'
    [redis-server]='command -v redis-server'
    [pgbouncer]='PATH=$PATH:/usr/sbin command -v pgbouncer'
)
wanted=("$@")
[ ${#wanted[@]} -gt 0 ] || wanted=(postgresql redis-server pgbouncer)

missing=()
for package in "${wanted[@]}"; do
    if [ -z "${finds[$package]:-}" ]; then
        echo "install_servers: unknown server '$package'; known are: ${!finds[*]}" >&2
        exit 2
    fi
    if found=$(eval "${finds[$package]}" 2>/dev/null); then
        echo "install_servers: $package is there: ${found%%$'\n'*}"
    else
        missing+=("$package")
    fi
done
[ ${#missing[@]} -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "install_servers: missing: ${missing[*]}. This script knows Debian's packages only; install them by your" \
        "system's means, or give the tests URLs of running servers (adapters/tests/servers.py)" >&2
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    if ! sudo -n true 2>/dev/null; then
        echo "install_servers: missing: ${missing[*]}. Root is needed to install them: run" >&2
        echo "    sudo scripts/install_servers.sh ${missing[*]}" >&2
        exit 1
    fi
    exec sudo -n bash "$0" "${missing[@]}"
fi

echo "install_servers: installing ${missing[*]}"
# invoke-rc.d asks this script before it starts a service: 101 forbids it (deb-policy-rc.d).
policy=/usr/sbin/policy-rc.d
kept=
if [ -e "$policy" ]; then
    kept=$(mktemp)
    cp -p "$policy" "$kept"
fi
restore() {
    if [ -n "$kept" ]; then mv "$kept" "$policy"; else rm -f "$policy"; fi
}
trap restore EXIT
printf '#!/bin/sh\nexit 101\n' >"$policy"
chmod 755 "$policy"

export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q -y --no-install-recommends "${missing[@]}"
for package in "${missing[@]}"; do
    echo "install_servers: $package is there now: $(eval "${finds[$package]}" | head -n 1)"
done
