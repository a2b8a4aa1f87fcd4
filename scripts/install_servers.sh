#!/usr/bin/env bash
# Installs the servers that the tests need and that are missing here: from Debian's packages, and by building those
# that have none. Safe to repeat.
#
#   scripts/install_servers.sh            all of them
#   scripts/install_servers.sh pgbouncer  some
#
# What is built goes to $THREADKEEP_SERVERS, or else to threadkeep/servers in $XDG_CACHE_HOME or ~/.cache.
# The packages' own services are kept from starting: the tests start servers of their own, on free ports.
set -euo pipefail

declare -A finds=(
    [postgresql]='ls /usr/lib/postgresql/*/bin/postgres'
    [redis-server]='command -v redis-server'
    [pgbouncer]='PATH=$PATH:/usr/sbin command -v pgbouncer'
)
sources=$(cd "$(dirname "$0")/../adapters/tests/mongo_servers" && pwd)
cache=${THREADKEEP_SERVERS:-${XDG_CACHE_HOME:-$HOME/.cache}/threadkeep/servers}

need() {
    if ! command -v "$1" >/dev/null; then
        echo "install_servers: $1 is needed to build $2; install it by your system's means" >&2
        exit 1
    fi
}

# FerretDB 1 on SQLite: a Go module of ours that embeds it.
build_ferretdb() {
    need go ferretdb
    local work
    work=$(mktemp -d)
    cp "$sources"/ferretdb/* "$work"
    (cd "$work" && go build -mod=mod -o ferretdb .)
    mkdir -p "$cache/ferretdb"
    mv "$work/ferretdb" "$cache/ferretdb/ferretdb"
    rm -rf "$work"
}

# mongo-java-server on H2: its libraries by Maven, and a main class of ours.
build_mongo-java-server() {
    need mvn mongo-java-server
    need javac mongo-java-server
    local target=$cache/mongo-java-server
    mkdir -p "$target/lib"
    mvn -q -B -f "$sources/mongo-java-server/pom.xml" dependency:copy-dependencies "-DoutputDirectory=$target/lib"
    javac -cp "$target/lib/*" -d "$target" "$sources/mongo-java-server/src/main/java/Server.java"
}

declare -A built=(
    [ferretdb]=$cache/ferretdb/ferretdb
    [mongo-java-server]=$cache/mongo-java-server/Server.class
)

wanted=("$@")
[ ${#wanted[@]} -gt 0 ] || wanted=(postgresql redis-server pgbouncer ferretdb mongo-java-server)

missing=()
for package in "${wanted[@]}"; do
    if [ -n "${built[$package]:-}" ]; then
        if [ -e "${built[$package]}" ]; then
            echo "install_servers: $package is there: ${built[$package]}"
        else
            echo "install_servers: building $package"
            "build_$package"
            echo "install_servers: $package is there now: ${built[$package]}"
        fi
        continue
    fi
    if [ -z "${finds[$package]:-}" ]; then
        echo "install_servers: unknown server '$package'; known are: ${!finds[*]} ${!built[*]}" >&2
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
