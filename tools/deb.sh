#!/bin/sh
# Builds dist/safeupdate_VERSION_all.deb from what tools/dist.sh packs, with the distribution's own packages, which it
# installs where they are missing. What is committed makes the same bytes wherever it lies and whenever it is built.
set -eu
cd "$(dirname "$0")/.."
umask 022

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tar --extract --file="$(tools/dist.sh)" --directory="$work" --strip-components=1 --one-top-level=source

if ! command -v dpkg-buildpackage > /dev/null || ! (cd "$work/source" && dpkg-checkbuilddeps 2> /dev/null); then
	tools/as_root.sh apt-get -qq update
	tools/as_root.sh env DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends dpkg-dev
	tools/as_root.sh env DEBIAN_FRONTEND=noninteractive apt-get -qq build-dep --yes --no-install-recommends "$work/source"
fi
# Debian's own Python, whatever else is in front of it.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
if ! (cd "$work/source" && dpkg-buildpackage --unsigned-source --unsigned-changes --build=binary) > "$work/log" 2>&1; then
	cat "$work/log" >&2
	exit 1
fi
cp "$work"/*.deb dist/
for package in "$work"/*.deb; do
	echo "dist/${package##*/}"
done
