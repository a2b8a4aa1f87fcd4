#!/usr/bin/env bash
# Installs the servers that the tests need and that are missing here, from Debian's packages, and DynamoDB Local by
# Maven into a folder of the user's cache. Safe to repeat.
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
    [default-jre-headless]='command -v java'
    [maven]='command -v mvn'
)
# As adapters/tests/dynamodb_server.py has it.
dynamodb_version=2.6.1
dynamodb_folder=${XDG_CACHE_HOME:-$HOME/.cache}/threadkeep-test-servers/dynamodb-local-$dynamodb_version
wanted=("$@")
[ ${#wanted[@]} -gt 0 ] || wanted=(postgresql redis-server pgbouncer dynamodb)

# What Maven needs comes from Debian's packages, and only where Maven has something to do.
install_dynamodb() {
    if [ -e "$dynamodb_folder/DynamoDBLocal-$dynamodb_version.jar" ]; then
        echo "install_servers: dynamodb is there: $dynamodb_folder"
        return
    fi
    echo "install_servers: fetching dynamodb $dynamodb_version"
    local making
    making=$(mktemp -d)
    cat >"$making/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>threadkeep</groupId>
  <artifactId>dynamodb-local</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>com.amazonaws</groupId>
      <artifactId>DynamoDBLocal</artifactId>
      <version>$dynamodb_version</version>
    </dependency>
  </dependencies>
</project>
POM
    mvn --quiet --batch-mode --file "$making/pom.xml" dependency:copy-dependencies -DoutputDirectory="$making/lib"
    mkdir -p "$(dirname "$dynamodb_folder")"
    # Another run may have been faster; what it brought is the same.
    rm -rf "$dynamodb_folder"
    mv "$making/lib" "$dynamodb_folder"
    rm -rf "$making"
    echo "install_servers: dynamodb is there now: $dynamodb_folder"
}

fetch_dynamodb=
packages=()
for name in "${wanted[@]}"; do
    if [ "$name" = dynamodb ]; then
        fetch_dynamodb=yes
        packages+=(default-jre-headless)
        [ -e "$dynamodb_folder/DynamoDBLocal-$dynamodb_version.jar" ] || packages+=(maven)
    else
        packages+=("$name")
    fi
done
wanted=("${packages[@]}")

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
if [ ${#missing[@]} -eq 0 ]; then
    [ -z "$fetch_dynamodb" ] || install_dynamodb
    exit 0
fi

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
    sudo -n bash "$0" "${missing[@]}"
    [ -z "$fetch_dynamodb" ] || install_dynamodb
    exit 0
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
[ -z "$fetch_dynamodb" ] || install_dynamodb
