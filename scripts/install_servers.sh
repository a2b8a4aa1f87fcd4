#!/usr/bin/env bash
# Installs the servers that the tests need and that are missing here: from Debian's packages, and by building or
# fetching those that have none. Safe to repeat.
#
#   scripts/install_servers.sh            all of them
#   scripts/install_servers.sh pgbouncer  some
#
# The newest ones stand beside those of this system: scripts/install_newest_servers.sh gets them.
# What is built goes to $THREADKEEP_SERVERS, or else to threadkeep/servers in $XDG_CACHE_HOME or ~/.cache.
# The packages' own services are kept from starting: the tests start servers of their own, on free ports.
set -euo pipefail

declare -A finds=(
    [postgresql]='ls /usr/lib/postgresql/*/bin/postgres'
    [redis-server]='command -v redis-server'
    [pgbouncer]='PATH=$PATH:/usr/sbin command -v pgbouncer'
    [faketime]='ls /usr/lib/*/faketime/libfaketime.so.1'
    [default-jdk-headless]='command -v javac'
    [maven]='command -v mvn'
)
sources=$(cd "$(dirname "$0")/../adapters/tests/common/servers_built" && pwd)
cache=${THREADKEEP_SERVERS:-${XDG_CACHE_HOME:-$HOME/.cache}/threadkeep/servers}

# Debian's packages without which a server cannot be built, nor run.
declare -A needs=(
    [ferretdb]=''
    [mongo-java-server]='default-jdk-headless maven'
    [dynamodb-local]='default-jdk-headless maven'
)

# What a server was built from is written beside it, so that a newer version is built anew.
source_of() {
    (cd "$sources/$1" && find . -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum)
}

is_built() {
    [ -e "$cache/$1/.source" ] && [ "$(cat "$cache/$1/.source")" = "$(source_of "$1")" ]
}

# FerretDB 1 on SQLite: a Go module of ours that embeds it.
build_ferretdb() {
    if ! command -v go >/dev/null; then
        echo "install_servers: Go is needed to build ferretdb, as new as ferretdb/go.mod says; see https://go.dev/dl" >&2
        exit 1
    fi
    cp "$sources"/ferretdb/* "$1"
    (cd "$1" && go build -mod=mod -o ferretdb .)
}

# mongo-java-server on H2: its libraries by Maven, and a main class of ours.
build_mongo-java-server() {
    libraries mongo-java-server "$1/lib"
    javac -cp "$1/lib/*" -d "$1" "$sources/mongo-java-server/src/main/java/Server.java"
}

# AWS's stand-in for tests, with all its libraries, by Maven.
build_dynamodb-local() {
    libraries dynamodb-local "$1"
}

libraries() {
    mvn -q -B -f "$sources/$1/pom.xml" dependency:copy-dependencies "-DoutputDirectory=$2"
}

wanted=("$@")
newest=(postgresql-18 redis-8 valkey-9)
if [ ${#wanted[@]} -eq 0 ]; then
    wanted=(postgresql redis-server pgbouncer faketime ferretdb mongo-java-server dynamodb-local "${newest[@]}")
fi

beside=()
unbuilt=()
packages=()
for name in "${wanted[@]}"; do
    if [[ " ${newest[*]} " == *" $name "* ]]; then
        beside+=("$name")
    elif [ -n "${needs[$name]+known}" ]; then
        if is_built "$name"; then
            echo "install_servers: $name is there: $cache/$name"
        else
            unbuilt+=("$name")
            for package in ${needs[$name]}; do
                [[ " ${packages[*]:-} " == *" $package "* ]] || packages+=("$package")
            done
        fi
    else
        packages+=("$name")
    fi
done

missing=()
for package in "${packages[@]}"; do
    if [ -z "${finds[$package]:-}" ]; then
        echo "install_servers: unknown server '$package'; known are: ${!finds[*]} ${!needs[*]}" \
            "${newest[*]}" >&2
        exit 2
    fi
    if found=$(eval "${finds[$package]}" 2>/dev/null); then
        echo "install_servers: $package is there: ${found%%$'\n'*}"
    elif [[ " ${missing[*]:-} " != *" $package "* ]]; then
        missing+=("$package")
    fi
done

install_packages() {
    if ! command -v apt-get >/dev/null; then
        echo "install_servers: missing: ${missing[*]}. This script knows Debian's packages only; install them by your" \
            "system's means, or give the tests URLs of running servers (adapters/tests/common/servers.py)" >&2
        exit 1
    fi
    if [ "$(id -u)" -ne 0 ]; then
        if ! sudo -n true 2>/dev/null; then
            echo "install_servers: missing: ${missing[*]}. Root is needed to install them: run" >&2
            echo "    sudo scripts/install_servers.sh ${missing[*]}" >&2
            exit 1
        fi
        sudo -n bash "$0" "${missing[@]}"
        return
    fi
    echo "install_servers: installing ${missing[*]}"
    # invoke-rc.d asks this script before it starts a service: 101 forbids it (deb-policy-rc.d).
    policy=/usr/sbin/policy-rc.d
    kept=
    if [ -e "$policy" ]; then
        kept=$(mktemp)
        cp -p "$policy" "$kept"
    fi
    trap restore EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"

    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    apt-get install -q -y --no-install-recommends "${missing[@]}"
    for package in "${missing[@]}"; do
        echo "install_servers: $package is there now: $(eval "${finds[$package]}" | head -n 1)"
    done
}

restore() {
    if [ -n "$kept" ]; then mv "$kept" "$policy"; else rm -f "$policy"; fi
}

[ ${#missing[@]} -eq 0 ] || install_packages

for name in "${unbuilt[@]}"; do
    echo "install_servers: building $name"
    mkdir -p "$cache"
    making=$(mktemp -d "$cache/$name.XXXXXX")
    "build_$name" "$making"
    source_of "$name" >"$making/.source"
    # Another run may have been faster; what it built is the same.
    rm -rf "${cache:?}/$name"
    mv "$making" "$cache/$name"
    echo "install_servers: $name is there now: $cache/$name"
done

[ ${#beside[@]} -eq 0 ] || "$(dirname "$0")/install_newest_servers.sh" "${beside[@]}"
