#!/bin/sh
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# A peer: machines are shut down and started, so many at a time; each has to say on its console that it is ready before
# the next ones are shut down. No line of ours.
# usage: rolling_restart.sh BATCH DIRECTORY DOMAIN …     (DIRECTORY/N/console.log is the console of domain one-N)
set -eu
batch=$1 directory=$2
shift 2
virsh="virsh -q -c qemu:///system"

lines() { grep -c 'nebula-guest: ready' "$directory/${1#one-}/console.log" || true; }

restart() {
    ready=$(lines "$1")
    $virsh shutdown "$1"
    while [ "$($virsh domstate "$1")" != "shut off" ]; do sleep 0.1; done
    $virsh start "$1"
    while [ "$(lines "$1")" -le "$ready" ]; do sleep 0.1; done
}

while [ $# -gt 0 ]; do
    pids='' count=0
    while [ $# -gt 0 ] && [ "$count" -lt "$batch" ]; do
        restart "$1" & pids="$pids $!"
        shift
        count=$((count + 1))
    done
    for pid in $pids; do wait "$pid"; done
done
