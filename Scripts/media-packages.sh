# shellcheck shell=bash
# Debian packages for the medium that are unpacked, never installed: kernel, signed boot loaders, firmware. Sourced by
# build-media after lib.sh.

# Two sets of package lists: `own`, the machine's, and `private`, which only this script uses: the machine's own
# archives with their backports, and with the component non-free-firmware unless $nonfree is `no`. The machine's source
# list is never changed.
apt_for() {
    local lists=$1 tool=$2
    shift 2
    if [[ $lists == own ]]; then "$tool" "$@"; else "$tool" "${private_apt[@]}" "$@"; fi
}

# One line for each release of Debian in the machine's lists, and one for the backports of the main one.
private_sources() {
    # shellcheck disable=SC2016  # apt's own variables
    apt-get indextargets --format '$(TARGET_OF) $(ORIGIN) $(COMPONENT) $(SITE) $(RELEASE)' 'Created-By: Packages' |
        awk -v options="$1" -v components="$2" '
            $1 == "deb" && $2 == "Debian" && $3 == "main" && $5 !~ /-backports/ {
                if ($5 !~ /-/) print "deb " options $4, $5 "-backports", components
                if (components != "main") print "deb " options $4, $5, "non-free-firmware"
            }' | sort -u
}

prepare_private_lists() {
    local folder=$REFORGE_SCRATCH/apt-$nonfree key=/usr/share/keyrings/debian-archive-keyring.gpg options='' components=main
    mkdir -p "$folder/lists/partial" "$folder/cache/archives/partial"
    [[ ! -f $key ]] || options="[signed-by=$key] "
    [[ $nonfree == no ]] || components='main non-free-firmware'
    private_sources "$options" "$components" >"$folder/sources.$$"
    if [[ ! -s $folder/sources.$$ ]]; then
        # A machine whose lists were never fetched, or are gone.
        update_lists own || true
        private_sources "$options" "$components" >"$folder/sources.$$"
    fi
    [[ -s $folder/sources.$$ ]] || say "apt has no list of Debian's archive: run apt-get update"
    # Kept where it is the same: the lists belong to it.
    if cmp -s "$folder/sources.$$" "$folder/sources.list"; then
        rm "$folder/sources.$$"
    else
        find "$folder/lists" -maxdepth 1 -type f -delete
        mv "$folder/sources.$$" "$folder/sources.list"
    fi
    # The newest firmware knows the newest cards; backports are not preferred by themselves.
    printf 'Package: *\nPin: release n=*-backports\nPin-Priority: 990\n' >"$folder/preferences"
    private_lists=$folder/lists
    private_apt=(
        -o "Dir::Etc::SourceList=$folder/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o "Dir::Etc::Preferences=$folder/preferences" -o Dir::Etc::PreferencesParts=/dev/null
        -o "Dir::State::Lists=$folder/lists" -o "Dir::Cache=$folder/cache" -o APT::Sandbox::User=root
    )
}

update_lists() {
    if [[ $1 == private ]]; then
        # Two builds at a time must not both write them.
        flock "$private_lists" apt-get "${private_apt[@]}" update -q >&2 || return 1
    else
        [[ $EUID -eq 0 ]] || return 1
        apt-get update -q >&2
    fi
}

# Prints the candidate version of a package; fails if the lists do not have it.
candidate() {
    local version
    version=$(apt_for "$1" apt-cache policy "$2" 2>/dev/null | awk '$1 == "Candidate:" {print $2}')
    [[ -n $version && $version != "(none)" ]] && printf '%s' "$version"
}

# fetch_package LISTS PACKAGE: unpacks it into $fetched_tree, and sets $fetched_spec to name=version. Fails if the lists
# do not have it. Downloads are kept: a second build needs no network.
fetch_package() {
    local lists=$1 name=$2 cache=$REFORGE_SCRATCH/kernel version download
    [[ $name == linux-image-* ]] || cache=$REFORGE_SCRATCH/media-packages
    version=$(candidate "$lists" "$name") || return 1
    fetched_spec=$name=$version
    fetched_tree=$cache/${fetched_spec//[^A-Za-z0-9.+-]/_}
    [[ ! -d $fetched_tree ]] || return 0
    mkdir -p "$cache"
    say "fetching $fetched_spec"
    download=$(mktemp -d "$cache/tmp.XXXXXX")
    if ! (cd "$download" && apt_for "$lists" apt-get download -q -o APT::Sandbox::User=root "$fetched_spec" >&2); then
        # The lists are older than the archive: it no longer has the named version.
        update_lists "$lists" || fail "could not download $fetched_spec: run apt-get update"
        version=$(candidate "$lists" "$name") || return 1
        fetched_spec=$name=$version
        fetched_tree=$cache/${fetched_spec//[^A-Za-z0-9.+-]/_}
        (cd "$download" && apt_for "$lists" apt-get download -q -o APT::Sandbox::User=root "$fetched_spec" >&2) ||
            fail "could not download $fetched_spec"
    fi
    dpkg -x "$download"/*.deb "$download/tree"
    if [[ $name == linux-image-* ]]; then unpack_modules "$download/tree"; fi
    # A concurrent build may have been faster: then its tree is kept.
    mv -T "$download/tree" "$fetched_tree" 2>/dev/null || [[ -d $fetched_tree ]]
    rm -rf "$download"
}

# Kernels from 6.12 on have xz-compressed modules. The initramfs is compressed as a whole, and better without them; the
# signature is part of the module, and stays.
unpack_modules() {
    find "$1/lib/modules" -name '*.ko.xz' -print0 | xargs -0 -r -P 2 -n 64 xz -d
    depmod -b "$1" "$(basename "$1/lib/modules"/*)"
}

# The versioned package that a kernel's metapackage depends on; fails unless it is at least 6.12.
kernel_behind() {
    local name
    name=$(apt_for "$1" apt-cache depends "$2" 2>/dev/null | awk '$1 == "Depends:" && $2 ~ /^linux-image-[0-9]/ {print $2; exit}')
    [[ -n $name ]] || return 1
    if [[ ${3:-} != any ]]; then
        [[ $(printf '%s\n' 6.12 "${name#linux-image-}" | sort -V | head -n 1) == 6.12 ]] || return 1
    fi
    printf '%s' "$name"
}

# The newest signed kernel with NTFS3 and drivers for new network cards: 6.12, from the security archive or from
# backports; else the release's own.
choose_kernel() {
    local lists meta
    for lists in own private; do
        for meta in linux-image-6.12-amd64 linux-image-amd64; do
            if kernel_name=$(kernel_behind "$lists" "$meta"); then kernel_lists=$lists; return 0; fi
        done
    done
    kernel_lists=own
    kernel_name=$(kernel_behind own linux-image-amd64 any)
}

fetch_kernel() {
    if ! choose_kernel; then
        update_lists own || true
        choose_kernel || fail "apt knows no linux-image-amd64: run apt-get update"
    fi
    fetch_package "$kernel_lists" "$kernel_name" || fail "apt has no $kernel_name"
    kernel_id=$fetched_spec kernel_tree=$fetched_tree
    kernel_version=$(basename "$kernel_tree/lib/modules"/*)
}

# Unpacks the packages of initramfs/firmware. A release without one of them is no error here: build-media fails where
# the listed firmware is found in none.
fetch_firmware() {
    local name
    firmware_trees=() firmware_specs=()
    [[ $nonfree == yes ]] || return 0
    for name in $(entries "$lists/firmware" | awk '{print $3}' | tr , '\n' | sort -u); do
        if fetch_package private "$name"; then
            firmware_trees+=("$fetched_tree/lib/firmware")
            firmware_specs+=("$fetched_spec")
        fi
    done
    ((${#firmware_trees[@]})) || fail "no firmware package was found: --no-nonfree builds a medium without firmware"
}

# Debian's signed boot loaders.
fetch_signed_loaders() {
    local name
    loader_specs=() loader_trees=()
    for name in shim-signed shim-helpers-amd64-signed grub-efi-amd64-signed; do
        fetch_package own "$name" || fail "apt knows no $name: run apt-get update"
        loader_specs+=("$fetched_spec")
        loader_trees+=("$fetched_tree")
    done
    shim=${loader_trees[0]}/usr/lib/shim/shimx64.efi.signed
    mok_manager=${loader_trees[1]}/usr/lib/shim/mmx64.efi.signed
    signed_grub=${loader_trees[2]}/usr/lib/grub/x86_64-efi-signed
    for name in "$shim" "$mok_manager" "$signed_grub"/grub{,net}x64.efi.signed; do
        [[ -f $name ]] || fail "$name is missing: the packages of the signed loaders have changed"
    done
}
