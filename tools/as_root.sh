#!/bin/sh
# Runs a program as root, with the cache of the user who asked: the root trees hold files that only root may read.
set -eu
if [ "$(id -u)" = 0 ]; then
	exec "$@"
fi
cache=${SAFEUPDATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/safeupdate}
mkdir -p "$cache"
exec sudo -E env SAFEUPDATE_CACHE="$cache" HYPOTHESIS_STORAGE_DIRECTORY="$cache/hypothesis" PYTHONDONTWRITEBYTECODE=1 "$@"
