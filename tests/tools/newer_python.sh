#!/bin/sh
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# newer_python.sh: prints an interpreter of Python 3.12 or later, which the newest ansible-core wants; none is an error.
# NEWER_PYTHON names one; else those on the PATH are tried, then those of a version manager.
set -eu

probe='import sys, venv, ensurepip; sys.version_info >= (3, 12) or sys.exit(1); print(sys.executable)'

for candidate in ${NEWER_PYTHON:-} python3.14 python3.13 python3.12 python3 \
    "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[2-9]*/bin/python; do
    # A version manager's shim may be there for a version that is not.
    if "$candidate" -I -c "$probe" 2>/dev/null </dev/null; then
        exit 0
    fi
done
echo "newer_python.sh: no Python 3.12 or later with the module venv was found; name one: NEWER_PYTHON=/path/to/python" >&2
exit 1
