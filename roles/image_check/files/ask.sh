#!/bin/sh
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# What a guest is asked by a live check of its image: the start script of its context. It says on the serial console, in
# lines `nebula-check: name=value`, what only a living guest knows. The machine is ended afterwards.
LC_ALL=C
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
# The comment of the key that the machine was told, and the size of its second disk in sectors (67 MiB).
mark=nebula-image-check
sectors=137216

{ exec > /dev/console; } 2> /dev/null || exec > /dev/ttyS0
echo
say() { echo "nebula-check: $*"; }

say begin
say "hostname=$(hostname)"
if [ -e /run/nebula-context ] || [ -e /var/run/nebula-context ]; then say context=nebula-context
elif [ -e /run/cloud-init ] || [ -e /var/lib/cloud/instance ]; then say context=cloud-init
else say "context=another program"
fi
say "root_kib=$(df -Pk / | sed -n '2s/^[^ ]* *\([0-9]*\).*/\1/p')"
[ ! -f /etc/nebula-check ] || say "file=$(head -n 1 /etc/nebula-check)"

# --- the second disk ---
storage=
for place in /sys/block/*; do
    [ "$(cat "$place/size" 2> /dev/null)" = "$sectors" ] || continue
    disk=/dev/${place##*/}
    word="$mark $(cat /proc/uptime)"
    printf '%s' "$word" | dd of="$disk" bs=512 seek=2048 conv=sync,fsync 2> /dev/null
    # So that it comes from the disk.
    echo 3 > /proc/sys/vm/drop_caches
    if [ "$(dd if="$disk" bs=512 skip=2048 count=1 2> /dev/null | tr -d '\0')" = "$word" ]; then
        storage="ok ${place##*/}"
    else
        storage="${place##*/} does not hold what was written to it"
    fi
done
say "storage=$storage"

# --- the key ---
user=
for home in /root /home/*; do
    # cloud-init gives root a line that only says whom to log in as.
    grep "$mark" "$home/.ssh/authorized_keys" 2> /dev/null | grep -qv 'command=' || continue
    user=${home##*/}
    break
done
say "key_user=$user"

# With a key of its own, which ends with the machine: nobody has the other half of the one that it was told.
login() {
    ssh-keygen -q -t ed25519 -N '' -f "$place/key" > /dev/null 2>&1 || { echo "ssh-keygen failed" && return; }
    cat "$place/key.pub" >> "$home/.ssh/authorized_keys"
    tries=0
    # sshd may still be on its way.
    until said=$(ssh -i "$place/key" -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
        -o LogLevel=ERROR -o ConnectTimeout=10 "$user@127.0.0.1" echo ok 2>&1 < /dev/null) || [ "$tries" -ge 30 ]; do
        tries=$((tries + 1))
        sleep 2
    done
    printf '%s\n' "$said" | tail -n 1
}
if [ -n "$user" ]; then
    if command -v ssh > /dev/null && command -v ssh-keygen > /dev/null; then
        place=$(mktemp -d)
        say "login=$(login)"
        rm -rf "$place"
    else
        say login=no_client
    fi
fi
say end
