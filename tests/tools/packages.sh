#!/bin/sh
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# packages.sh LIST: install the Debian packages of LIST (one a line, # comments) that are missing. Needs root only then.
set -eu

missing=
for package in $(sed 's/#.*//' "$1"); do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || status=
    [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
    echo "packages.sh: these packages are missing, and installing them takes root: apt-get install$missing" >&2
    exit 1
fi
echo "installing$missing"
export DEBIAN_FRONTEND=noninteractive
# Another apt at work is waited for (a fresh machine often upgrades itself).
apt-get -q -o DPkg::Lock::Timeout=300 update
# shellcheck disable=SC2086  # words are meant to split
apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends $missing
