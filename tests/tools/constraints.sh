#!/bin/sh
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# constraints.sh OUTPUT LIST…: the exact versions pip chooses today for these lists together, and for what they bring.
set -eu

output=$1
shift
environment=$(mktemp -d)
trap 'rm -rf "$environment"' EXIT
.venv/bin/python -m venv "$environment"
for list in "$@"; do
    "$environment/bin/pip" install -qq --disable-pip-version-check -r "$list"
done
{
    echo "# Exact versions of everything the lists in this directory bring along: next year's run installs what was tested."
    echo "# Written by \`make constraints\`, after a change of a list."
    "$environment/bin/pip" freeze --disable-pip-version-check 2>/dev/null | LC_ALL=C sort -f
} >"$output"
