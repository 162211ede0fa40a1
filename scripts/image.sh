#!/bin/sh
# Build the Dockerfile for real on a Debian machine that has no container engine, as root: buildah with chroot isolation
# on a base made by debootstrap in the place of python:3.11-slim. Needs `apt-get install buildah debootstrap`.
#
#   sh scripts/image.sh --build-arg TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu"
#   sh scripts/image.sh run --env SPACE_ID=me/intern --volume /some/disk:/data     # the page on port 7860, as the image's own user
#
# What else is given goes to `buildah bud` or `buildah run`: --volume /etc/pip.conf:/etc/pip.conf:ro for an index of your own.
# Each layer is a whole copy (vfs), some 12 GB without CUDA; STORAGE_DRIVER=overlay takes a fifth, where overlays can be mounted.
set -eu
cd "$(dirname "$0")/.."
export STORAGE_DRIVER="${STORAGE_DRIVER:-vfs}" BUILDAH_ISOLATION=chroot
base=docker.io/library/python:3.11-slim

if [ "${1:-}" = run ]; then
    shift
    container=$(buildah from --pull-never ml-intern)
    trap 'buildah rm "$container" >/dev/null' EXIT
    buildah run "$@" "$container" -- python app.py
    exit
fi

if ! buildah inspect --type image "$base" >/dev/null 2>&1; then
    root=$(mktemp -d)
    mirror=$(sed -n 's/^URIs: *//p; s/^deb \([^ ]*\).*/\1/p' /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | head -n 1)
    debootstrap --variant=minbase --include=python3-dev,python3-venv,python3-pip,ca-certificates bookworm "$root" "$mirror"
    # as in the real one, nothing that apt downloads or caches stays, now or in later steps
    rm -f "$root"/var/cache/apt/*.bin "$root"/var/cache/apt/archives/*.deb
    cat >"$root/etc/apt/apt.conf.d/docker-clean" <<'END'
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb || true"; };
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
END
    container=$(buildah from scratch)
    buildah add -q "$container" "$root" /
    buildah config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
    buildah commit -q --rm "$container" "$base"
    rm -rf "$root"
fi
buildah bud --pull-never --layers -t ml-intern "$@" .
buildah images ml-intern
