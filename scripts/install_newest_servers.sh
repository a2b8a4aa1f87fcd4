#!/usr/bin/env bash
# Gets the newest servers that the tests need and that are missing here, from Debian's unstable suite, each into a folder
# of its own: nothing of the system is changed, and root is not needed. Safe to repeat.
#
#   scripts/install_newest_servers.sh          all of them
#   scripts/install_newest_servers.sh redis-8  some
#
# They go to $THREADKEEP_SERVERS, or else to threadkeep/servers in $XDG_CACHE_HOME or ~/.cache, and for root to
# /var/cache/threadkeep/servers: PostgreSQL runs as another user, who cannot look into root's home. One that is there already
# is renewed by removing its folder. Debian's mirror is the one of this system's apt, or else $THREADKEEP_DEBIAN_MIRROR.
# Where there is none, a Docker engine serves: the tests take images of the same versions.
set -euo pipefail
# shellcheck source=scripts/debian_unstable.sh
. "$(dirname "$0")/debian_unstable.sh"

# The package, and its programs that the tests start; the first of them tells its version.
declare -A packages=([postgresql-18]=postgresql-18 [redis-8]=redis-server [valkey-9]=valkey-server)
declare -A programs=(
    [postgresql-18]='usr/lib/postgresql/18/bin/postgres usr/lib/postgresql/18/bin/initdb'
    [redis-8]='usr/bin/redis-server'
    [valkey-9]='usr/bin/valkey-server'
)
# What the packages' installation would run, and no server does.
unneeded=(
    adduser base-passwd debconf libc-l10n locales netbase openssl passwd perl perl-base postgresql-client-common
    postgresql-common procps ssl-cert systemd sysvinit-utils ucf
)

if [ -n "${THREADKEEP_SERVERS:-}" ]; then
    cache=$THREADKEEP_SERVERS
elif [ "$(id -u)" -eq 0 ]; then
    cache=/var/cache/threadkeep/servers
else
    cache=${XDG_CACHE_HOME:-$HOME/.cache}/threadkeep/servers
fi

first_program() {
    echo "$cache/$1/${programs[$1]%% *}"
}

# "postgres (PostgreSQL) 18.6 (Debian ...)", "Redis server v=8.0.6 sha=...", "Valkey server v=9.1.2 sha=...".
runs() {
    "$(first_program "$1")" --version 2>/dev/null | grep -qE "(\) |v=)${1##*-}\."
}

wanted=("$@")
[ ${#wanted[@]} -gt 0 ] || wanted=(postgresql-18 redis-8 valkey-9)
missing=()
for name in "${wanted[@]}"; do
    if [ -z "${packages[$name]:-}" ]; then
        echo "install_newest_servers: unknown server '$name'; known are: ${!packages[*]}" >&2
        exit 2
    fi
    if runs "$name"; then
        echo "install_newest_servers: $name is there: $(first_program "$name")"
    else
        missing+=("$name")
    fi
done
[ ${#missing[@]} -gt 0 ] || exit 0

if ! from=$(debian_mirror); then
    if docker version >/dev/null 2>&1; then
        echo "install_newest_servers: the tests take images of ${missing[*]} by the Docker engine"
        exit 0
    fi
    echo "install_newest_servers: missing: ${missing[*]}. This script gets them from Debian, and finds no apt with a mirror" \
        "of Debian here (THREADKEEP_DEBIAN_MIRROR names one), nor a Docker engine for images of them; give one of these" >&2
    exit 1
fi

umask 022
mkdir -p "$cache"
apt=$(mktemp -d "$cache/apt.XXXXXX")
trap 'rm -rf "$apt"' EXIT
begin_unstable "$apt" "$from" "${unneeded[@]}"
for name in "${missing[@]}"; do
    tree=$apt/$name
    if ! unpack_unstable "$tree" "${packages[$name]}"; then
        echo "install_newest_servers: Debian's unstable suite has no ${packages[$name]} that can be installed" >&2
        exit 1
    fi
    # shellcheck disable=SC2086 # several programs
    (cd "$tree" && settle_programs "$tree" "$cache/$name" ${programs[$name]})
    # Another run may have been faster; what it made is the same.
    rm -rf "${cache:?}/$name"
    mv "$tree" "$cache/$name"
    if ! runs "$name"; then
        echo "install_newest_servers: ${packages[$name]} was unpacked into $cache/$name, and is not version ${name##*-}, or" \
            "does not run:" >&2
        "$(first_program "$name")" --version >&2 || true
        exit 1
    fi
    echo "install_newest_servers: $name is there now: $(first_program "$name")"
done
