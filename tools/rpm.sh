#!/bin/sh
# Builds the packages for RHEL and Fedora below dist/, from what tools/dist.sh packs: on one of these for itself, elsewhere
# for each of them, or for those that are named (el9 el10 fc43), with rpm/macros for what is not there. What is committed
# makes the same bytes wherever it lies and whenever it is built.
set -eu
cd "$(dirname "$0")/.."
umask 022

if ! command -v rpmbuild > /dev/null; then
	if command -v dnf > /dev/null; then
		tools/as_root.sh dnf --assumeyes --quiet install rpm-build python3-devel systemd-rpm-macros
	else
		tools/as_root.sh apt-get -qq update
		tools/as_root.sh env DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends rpm
	fi
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
archive=$(tools/dist.sh)
mkdir "$work/source"
tar --extract --file="$archive" --directory="$work/source" --strip-components=1
SOURCE_DATE_EPOCH=$(stat --format=%Y "$work/source/rpm/safeupdate.spec")
export SOURCE_DATE_EPOCH

build() {
	if ! rpmbuild --quiet -bb --define "_topdir $work/rpmbuild" --define "_sourcedir $PWD/dist" --define "_rpmdir $work/made" \
		--define "_buildhost localhost" --define "use_source_date_epoch_as_buildtime 1" \
		--define "clamp_mtime_to_source_date_epoch 1" --define "source_date_epoch_from_changelog 0" \
		"$@" "$work/source/rpm/safeupdate.spec" > "$work/log" 2>&1; then
		cat "$work/log" >&2
		exit 1
	fi
}

for_other() {
	build --nodeps --load "$work/source/rpm/macros" --define "dist .$1" --define "$2" --define "python3_version $3"
}

if [ "$(rpm --eval '%{?_unitdir}')" ]; then
	build
else
	[ $# -gt 0 ] || set -- el9 el10 fc43
	for target; do
		case $target in
		el9) for_other el9 "rhel 9" 3.9 ;;
		el10) for_other el10 "rhel 10" 3.12 ;;
		fc43) for_other fc43 "fedora 43" 3.14 ;;
		*)
			echo "rpm: there is no $target, but el9, el10 and fc43" >&2
			exit 2
			;;
		esac
	done
fi
for package in "$work"/made/*/*.rpm; do
	mv "$package" dist/
	echo "dist/${package##*/}"
done
