# shellcheck shell=bash
# Programs from Debian's unstable suite, each in a folder of its own with the loader and the libraries it needs. Nothing of
# the system is changed, and root is not needed. For scripts, which source it.
#
# Debian's mirror is the one of this system's apt, or else $THREADKEEP_DEBIAN_MIRROR.

# Prints the mirror; fails where there is no apt with one of Debian.
debian_mirror() {
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
    if [ -n "${THREADKEEP_DEBIAN_MIRROR:-}" ]; then
        echo "$THREADKEEP_DEBIAN_MIRROR"
    else
        apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | grep -m 1 -E '/debian/?$'
    fi
}

# Reads the lists of a mirror into a folder, whose name is in $apt then. Packages named after these two count as installed.
begin_unstable() {
    apt=$1
    mkdir -p "$apt/lists/partial"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $2 unstable main" >"$apt/sources.list"
    : >"$apt/status"
    for package in "${@:3}"; do
        printf 'Package: %s\nStatus: install ok installed\nArchitecture: all\nMulti-Arch: foreign\nVersion: 99:0\n\n' \
            "$package" >>"$apt/status"
    done
    unstable update
}

# apt-get with lists and archives of its own. It takes almost nothing as installed, so that it also fetches libc and all
# other libraries: those of this system may be older.
unstable() {
    apt-get -q -y \
        -o "Dir::Etc::SourceList=$apt/sources.list" -o Dir::Etc::SourceParts=- \
        -o "Dir::State=$apt" -o "Dir::State::Status=$apt/status" -o "Dir::Cache=$apt" -o APT::Sandbox::User= \
        -o APT::Install-Recommends=false -o APT::Get::Download-Only=true \
        -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false "$@"
}

# Unpacks packages, with all that they need, into a folder that is made.
unpack_unstable() {
    local tree=$1 package
    rm -rf "$apt/archives"
    mkdir -p "$apt/archives/partial" "$tree"
    unstable install "${@:2}" patchelf || return 1
    for package in "$apt"/archives/*.deb; do
        dpkg-deb -x "$package" "$tree" || return 1
    done
}

# Of what was unpacked, the programs alone are changed: they load the loader and the libraries that came with them, from
# the folder in which the tree will be.
settle_programs() {
    local tree=$1 folder=$2 libraries loader program change
    libraries=$(dirname "$(compgen -G "$tree/usr/lib/*/libc.so.6")")
    loader=$(compgen -G "$libraries/ld-linux*.so.*")
    for program in "${@:3}"; do
        # Two calls, in this order: patchelf 0.18 breaks the program when it does both in one.
        for change in "--force-rpath --set-rpath ${libraries/#$tree/$folder}" "--set-interpreter ${loader/#$tree/$folder}"; do
            # shellcheck disable=SC2086 # an option and its values
            "$loader" --library-path "$libraries" "$tree/usr/bin/patchelf" $change "$program"
        done
    done
}
