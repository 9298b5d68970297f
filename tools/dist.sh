#!/bin/sh
# Packs the sources as dist/safeupdate-VERSION.tar.gz, and says so: what is committed, with the time of that commit. In a
# directory that git does not know, as one that was unpacked from such a file: what lies here.
set -eu
cd "$(dirname "$0")/.."
umask 022

name=safeupdate-$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' safeupdate/__init__.py)
archive=dist/$name.tar.gz
mkdir -p dist
trap 'rm -f "$archive.new"' EXIT
if [ "$(git rev-parse --show-toplevel 2> /dev/null)" = "$(pwd -P)" ]; then
	git archive --format=tar --prefix="$name/" --output="$archive.new" HEAD
else
	tar --create --file="$archive.new" --exclude='./.git' --exclude='./.[!cg]*' --exclude=__pycache__ --exclude='*.egg-info' \
		--exclude='./dist' --exclude='./build' --sort=name --owner=0 --group=0 --numeric-owner --mode=go=rX,u+rw \
		--mtime="@${SOURCE_DATE_EPOCH:-$(stat --format=%Y safeupdate/__init__.py)}" --transform="s,^\.,$name," .
fi
gzip --no-name --best < "$archive.new" > "$archive"
echo "$archive"
