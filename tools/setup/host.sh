#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# `make setup`: the Debian packages and the Python environment that the other targets need.
# Plain sh, because it runs before anything is installed. Says what it installs; does nothing and is
# quick when all is there.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
build=$here/../../build
venv=$build/venv
stamp=$build/setup.stamp
# Checkers that Debian 12 has no recent version of.
wheels='ruff mypy types-PyYAML'

wanted=$(cat "$here/host.sh" "$here/packages.txt" | sha256sum)
if [ -x "$venv/bin/ruff" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
	exit 0
fi
mkdir -p "$build"

missing=
for package in $(grep -v '^#' "$here/packages.txt"); do
	status=$(dpkg-query --show --showformat='${Status}' "$package" 2>/dev/null || true)
	case $status in
	'install ok installed') ;;
	*) missing="$missing $package" ;;
	esac
done
if [ "$missing" ]; then
	echo "setup: installing Debian packages:$missing"
	if [ "$(id -u)" != 0 ]; then
		echo "setup: that needs root; or install them yourself and run this again" >&2
		exit 1
	fi
	install() {
		# shellcheck disable=SC2086  # a list of words
		DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends $missing
	}
	# The lists may be missing, or older than what the archive still has.
	install || { apt-get update --quiet && install; }
fi

if ! [ -x "$venv/bin/ruff" ] || ! [ -x "$venv/bin/mypy" ]; then
	echo "setup: making build/venv with: $wheels"
	# From Debian's Python, whose packages (bcc, pyroute2, ...) the tools use, whatever PATH says.
	/usr/bin/python3 -m venv --clear --system-site-packages "$venv"
	# shellcheck disable=SC2086  # a list of words
	"$venv/bin/pip" install --quiet --disable-pip-version-check $wheels
fi
echo "$wanted" >"$stamp"
echo "setup: done"
