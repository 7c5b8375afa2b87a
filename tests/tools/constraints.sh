#!/bin/sh
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# constraints.sh [OPTION…]: for each list in requirements/, the exact versions of all that it brings, for each system and
# Python, with the hashes of every file of them: requirements/exact/LIST.txt. The newest versions that the lists allow;
# an option of uv's, as --constraint FILE, may keep some.
set -eu

cd "$(dirname "$0")/../../requirements"
environment=$(mktemp -d)
trap 'rm -rf "$environment"' EXIT
../.venv/bin/python -m venv "$environment"
"$environment/bin/pip" install -qq --disable-pip-version-check --no-input --require-hashes -r exact/lock.txt

# $1: Python from which on. $2: the file. The others: what is resolved.
resolve() {
    python=$1 output=$2
    shift 2
    "$environment/bin/uv" pip compile -q --no-config --universal --python-version "$python" --generate-hashes --no-header \
        --no-annotate --no-emit-index-url --no-emit-find-links -o "$environment/resolved" "$@"
    {
        echo "# Written by \`make constraints\`, after a change of a list: what is installed has one of these hashes."
        cat "$environment/resolved"
    } >"$environment/whole"
    mv "$environment/whole" "$output"
}

# One version of each for those that are installed together or beside each other.
resolve 3.11 "$environment/all.txt" test.txt bench.txt mutants.txt "$@"
sed -n 's/^\([^ #]*==[^ ]*\)\( ;.*\)\{0,1\} \\$/\1/p' "$environment/all.txt" >"$environment/versions.txt"
for list in run test bench mutants; do
    resolve 3.11 "exact/$list.txt" "$list.txt" --constraint "$environment/versions.txt"
done
resolve 3.11 exact/floor.txt floor.txt
resolve 3.12 exact/newest.txt newest.txt
resolve 3.11 exact/lock.txt lock.txt
