#!/bin/sh
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# venv.sh DIRECTORY REQUIREMENTS: a virtual environment that holds these requirements, in the exact versions and files
# that exact/ beside them names by their hashes.
# Does nothing when it is there already: a stamp carries the hash of the requirements, the interpreter's version
# and the directory's own path (scripts of an environment name it, so a moved checkout needs a new one).
set -eu

directory=$(realpath -m "$1")
requirements=$2
exact=$(dirname "$requirements")/exact/$(basename "$requirements")
if [ ! -e "$exact" ]; then
    echo "venv.sh: $exact is not there: make constraints writes it" >&2
    exit 1
fi

# Usable: 3.11 or later, really starts (a version manager's shim may be there for a version that is not), and can
# make an environment (Debian keeps ensurepip in a package of its own). Prints the interpreter behind a shim.
probe='import sys, venv, ensurepip; sys.version_info >= (3, 11) or sys.exit(1); print(sys.executable)'

find_python() {
    for candidate in ${PYTHON:-} /usr/bin/python3 python3.14 python3.13 python3.12 python3.11 python3; do
        # An environment's own python passes too, and would make one that dies with it: ask for its base.
        if found=$("$candidate" -I -c "$probe" 2>/dev/null </dev/null); then
            "$found" -I -c 'import sys; print(getattr(sys, "_base_executable", None) or sys.executable)'
            return 0
        fi
    done
    return 1
}

if ! python=$(find_python); then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -q
        DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends python3 python3-venv
    fi
    python=$(find_python) || {
        echo "venv.sh: no Python 3.11 or later with the module venv was found (package python3-venv on Debian);" \
            "install one, or name it: make PYTHON=/path/to/python3 …" >&2
        exit 1
    }
fi

inputs=$(cat "$exact"; "$python" -V; echo "$directory")
stamp=$directory/.holds-$(basename "$requirements" .txt)-$(printf %s "$inputs" | sha256sum | cut -c 1-16)

# Two makes at once (a terminal and an editor's task) must not write the same environment.
exec 9>"$directory.lock"
flock 9

if [ -e "$stamp" ] && "$directory/bin/python" -c '' 2>/dev/null; then
    exit 0
fi

if ! "$directory/bin/python" -m pip --version >/dev/null 2>&1 ||
    [ "$(sed -n 's/^nebula-path = //p' "$directory/pyvenv.cfg")" != "$directory" ]; then
    echo "making $directory with $python ($("$python" -V))"
    rm -rf "$directory"
    "$python" -m venv "$directory"
    echo "nebula-path = $directory" >>"$directory/pyvenv.cfg"
fi
echo "installing $requirements into $directory"
"$directory/bin/python" -m pip install -qq --disable-pip-version-check --no-input \
    --require-hashes -r "$exact"
rm -f "$directory/.holds-$(basename "$requirements" .txt)-"*
touch "$stamp"
