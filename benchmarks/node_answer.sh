#!/bin/sh
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# A node's Python as the control node sees it: it reads the module that it is sent to its end, and answers what the file
# of the module's name beside it says. A module that is not expected is an error. On the control node nothing differs.
place=$(dirname "$0")
name=$(grep -ao -e "module_fqn='[a-z._]*'" -)
name=${name#module_fqn=\'}
name=${name%%\'*}
exec cat "$place/$name.json"
