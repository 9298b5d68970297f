#!/bin/sh
# Installs what is missing to run, test and check this program: packages of the system (apt-get or dnf), and .venv,
# which sees the system's own Python modules. Does nothing when this was done before and nothing has changed since.
set -eu
cd "$(dirname "$0")/.."

python=/usr/bin/python3
stamp() {
	key=$({ cat tools/setup.sh pyproject.toml && readlink -f "$python" && pwd; } | sha256sum | cut -c 1-16)
	echo ".venv/setup-$key"
}
if [ -e "$(stamp)" ]; then
	exit 0
fi

if [ "$(id -u)" = 0 ]; then
	as_root() { "$@"; }
elif command -v sudo > /dev/null; then
	as_root() { sudo "$@"; }
else
	as_root() {
		echo "setup: $* needs root, and there is no sudo" >&2
		exit 1
	}
fi

# mmdebstrap, the keyring, e2fsprogs and mount build the root trees of machines/. What is in `better` makes or holds
# what some tests and the lab need, and is not in every release.
with_apt() {
	wanted="python3-venv python3-apt mmdebstrap debian-archive-keyring e2fsprogs mount zstd xz-utils bzip2"
	better="shellcheck lz4 lzop squashfs-tools binutils systemd-boot-efi systemd-journal-remote rpm strace"
	better="$better sbsigntool openssl ovmf dosfstools kmod qemu-system-x86 qemu-utils xfsprogs btrfs-progs"
	better="$better snapper dbus-daemon debhelper dh-python pybuild-plugin-pyproject python3-wheel"
	better="$better mandoc zsh fish"
	missing=
	for package in $wanted $better; do
		case $(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2> /dev/null) in
		ii*) ;;
		*) missing="$missing $package" ;;
		esac
	done
	if [ -z "$missing" ]; then
		return
	fi
	echo "setup: installing$missing"
	as_root apt-get -qq update || echo "setup: apt-get update had errors; going on with what there is" >&2
	for package in $better; do
		if [ -z "$(apt-cache --names-only search "^$package\$")" ]; then
			echo "setup: there is no $package here" >&2
			missing=$(echo "$missing" | sed "s/ $package\\>//")
		fi
	done
	# shellcheck disable=SC2086 # a list of words
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends $missing
}

with_dnf() {
	echo "setup: installing packages"
	as_root dnf --assumeyes --quiet install python3 python3-pip python3-dnf zstd e2fsprogs util-linux
	# Not in every repository (EPEL, Fedora): for the root trees, make lint and some tests.
	for package in mmdebstrap debian-keyring ShellCheck lz4 lzop squashfs-tools binutils systemd-boot-unsigned \
		systemd-journal-remote rpm-build strace sbsigntools openssl dosfstools qemu-system-x86-core qemu-img \
		edk2-ovmf xfsprogs btrfs-progs snapper; do
		as_root dnf --assumeyes --quiet install "$package" || echo "setup: there is no $package here" >&2
	done
}

if command -v apt-get > /dev/null; then
	with_apt
elif command -v dnf > /dev/null; then
	with_dnf
else
	echo "setup: neither apt-get nor dnf is here; see tools/setup.sh for the packages" >&2
fi

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 9))' || {
	echo "setup: $python is older than Python 3.9" >&2
	exit 1
}
echo "setup: making .venv"
rm -rf .venv
"$python" -m venv --system-site-packages .venv
# Compat mode is a plain .pth file; the other kinds load a module finder at every start, 20 ms.
.venv/bin/pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat \
	--editable '.[zstd,dev]'
: > "$(stamp)"
