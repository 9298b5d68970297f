#!/bin/sh
# Runs outside the new root, as a customize hook of mmdebstrap: modules that are built on the machine.
# usage: modules.sh ROOT PACKAGE...   (environment: MMDEBSTRAP_APT_CONFIG)
set -eu
root=$1
shift
export LC_ALL=C.UTF-8

install() {
	APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get -o DPkg::Chroot-Directory="$root" \
		--yes --no-install-recommends install "$@"
}

# Not the metapackage: the archive may have a newer kernel by now than the base. The packages come after the headers,
# without which their scripts build nothing, and say so only on the screen.
for modules in "$root"/usr/lib/modules/*; do
	install "linux-headers-${modules##*/}"
done
install "$@"
