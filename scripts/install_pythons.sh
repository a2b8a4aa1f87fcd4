#!/usr/bin/env bash
# Gets the Python versions that are missing here, from Debian's unstable suite, each into a folder of its own: nothing
# of the system is changed, and root is not needed. Safe to repeat. noxfile.py looks for interpreters there too.
#
#   scripts/install_pythons.sh       all that pyproject.toml names
#   scripts/install_pythons.sh 3.15  some
#
# They go to $THREADKEEP_PYTHONS, or else to threadkeep/pythons in $XDG_CACHE_HOME or ~/.cache: one that is there already
# is renewed by removing its folder. Debian's mirror is the one of this system's apt, or else $THREADKEEP_DEBIAN_MIRROR.
set -euo pipefail
# shellcheck source=scripts/debian_unstable.sh
. "$(dirname "$0")/debian_unstable.sh"

cache=${THREADKEEP_PYTHONS:-${XDG_CACHE_HOME:-$HOME/.cache}/threadkeep/pythons}

# A shim of pyenv has the name and does not run; a Python without these modules makes no environments.
runs() {
    [ "$("$1" -c 'import sys, venv, ensurepip; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = "$2" ]
}

# Prints an interpreter of a version: from the PATH, from where pyenv and uv put them, or from the folder of this script.
find_python() {
    local candidate
    while read -r candidate; do
        if runs "$candidate" "$1"; then
            echo "$candidate"
            return
        fi
    done < <(
        type -ap "python$1" || true
        compgen -G "${PYENV_ROOT:-$HOME/.pyenv}/versions/*/bin/python$1" || true
        compgen -G "${UV_PYTHON_INSTALL_DIR:-$HOME/.local/share/uv/python}/*/bin/python$1" || true
        echo "$cache/python$1/usr/bin/python$1"
    )
    return 1
}

# An interpreter from Debian's packages, in the folder of this script.
build() {
    local version=$1 folder=$2 tree=$apt/$1
    settle_programs "$tree" "$folder" "$tree/usr/bin/python$version"
    # What else is there would run with this system's libraries, and noxfile.py adds the folder to the PATH.
    find "$tree/usr/bin" ! -type d ! -name "python$version" -delete
    # ensurepip looks for pip where Debian puts it, and this system may hold another.
    grep -rlF /usr/share/python-wheels "$tree/usr/lib/python$version" --include='_sysconfig*' |
        xargs sed -i "s|/usr/share/python-wheels|$folder/usr/share/python-wheels|g"
    # Another run may have been faster; what it made is the same.
    rm -rf "$folder"
    mv "$tree" "$folder"
}

wanted=("$@")
if [ ${#wanted[@]} -eq 0 ]; then
    mapfile -t wanted < <(
        sed -n 's/^ *"Programming Language :: Python :: \(3\.[0-9]*\)",$/\1/p' "$(dirname "$0")/../pyproject.toml"
    )
fi

missing=()
for version in "${wanted[@]}"; do
    if found=$(find_python "$version"); then
        echo "install_pythons: Python $version is there: $found"
    else
        missing+=("$version")
    fi
done
[ ${#missing[@]} -gt 0 ] || exit 0

if ! from=$(debian_mirror); then
    echo "install_pythons: missing: Python ${missing[*]}. This script gets them from Debian, and finds no apt with a mirror" \
        "of Debian here (THREADKEEP_DEBIAN_MIRROR names one); install them by your system's means, pyenv or uv" >&2
    exit 1
fi

mkdir -p "$cache"
apt=$(mktemp -d "$cache/apt.XXXXXX")
trap 'rm -rf "$apt"' EXIT
begin_unstable "$apt" "$from"
for version in "${missing[@]}"; do
    if ! unpack_unstable "$apt/$version" "python$version" "python$version-venv"; then
        echo "install_pythons: Debian's unstable suite has no Python $version that can be installed; install it by your" \
            "system's means, pyenv or uv" >&2
        exit 1
    fi
    build "$version" "$cache/python$version"
    if ! found=$(find_python "$version"); then
        echo "install_pythons: Python $version was unpacked into $cache/python$version, and does not run:" >&2
        "$cache/python$version/usr/bin/python$version" -c 'import venv, ensurepip' >&2 || true
        exit 1
    fi
    echo "install_pythons: Python $version is there now: $found"
done
