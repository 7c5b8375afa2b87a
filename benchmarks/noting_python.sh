#!/bin/sh
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# A host's Python, which notes beside itself what modules computed there, and the last answer of each.
place=$(dirname "$0")
cat >"$place/module"
name=$(grep -ao -e "module_fqn='[a-z._]*'" "$place/module")
name=${name#module_fqn=\'}
name=${name%%\'*}
/usr/bin/python3 "$@" <"$place/module" >"$place/$name.json"
code=$?
times >>"$place/times"
cat "$place/$name.json"
exit $code
