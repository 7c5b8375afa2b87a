# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Holds the demo guest: small texts for busybox, kept in Python because only module_utils reach a target.

The guest's word to the outside is its serial console, one fact a line, each read back from the system:

    nebula-guest: booting
    nebula-guest: context=<sha256 of context.sh>     (or: no context)
    nebula-guest: hostname=web-0
    nebula-guest: eth0 mac=02:00:0a:42:00:0a ip=10.66.0.10/24
    nebula-guest: gateway=10.66.0.1                  (and dns=, ssh_keys=, cpus=, memory_kib=, disk vda bytes=)
    nebula-guest: error init.sh exit 3               (none, when all went well)
    nebula-guest: ready

host/console/console_evidence.py reads these lines; a change here is a change there."""

from __future__ import annotations

# Debian's cloud kernel has neither AHCI nor e1000: virtio for disk and network, virtio-scsi or ide for the CD.
# scan=manual: virtio-scsi would ask 256 targets one after the other, which takes seconds when emulated (see BOOT).
KERNEL_MODULES: tuple[tuple[str, str], ...] = (
    ("virtio_pci", ""),
    ("scsi_mod", "scan=manual"),
    ("sr_mod", ""),
    ("sd_mod", ""),
    ("virtio_blk", ""),
    ("virtio_scsi", ""),
    ("ata_piix", ""),
    ("virtio_net", ""),
    # A machine of Xen has these in place of virtio's.
    ("xen_blkfront", ""),
    ("xen_netfront", ""),
    ("virtio_balloon", ""),
    ("isofs", ""),
    ("button", ""),
    ("evdev", ""),
)

# The last console= is /dev/console; a guest without a serial port falls back to the screen by itself. Linux panics
# where the timer that it tries is late, as it is below an emulated hypervisor whose host has much to do.
KERNEL_COMMAND_LINE = "console=tty0 console=ttyS0,115200 quiet loglevel=3 net.ifnames=0 mitigations=off no_timer_check"

# hvc0 is the console of a paravirtualised machine, which has no serial port.
INITTAB = """\
::sysinit:/etc/nebula/boot
::respawn:/etc/nebula/shell ttyS0
::respawn:/etc/nebula/shell hvc0
::respawn:/etc/nebula/shell tty1
::ctrlaltdel:/bin/reboot -f
"""

# On a terminal that is there; of one that is not, nothing is to be said each second. init has made it the leader of a
# session that has no terminal yet: the first that it opens becomes that.
SHELL = """\
#!/bin/sh
[ -c "/dev/$1" ] || exec sleep 2147483647
exec sh -l < "/dev/$1" > "/dev/$1" 2>&1
"""

PROFILE = r"""
export PATH=/bin HOME=/root
PS1='root@\h:\w# '
cd
[ "$(tty)" = /dev/tty1 ] && cat /run/report
echo 'This is a root shell, no password asked; the power button, or poweroff -f, ends this machine.'
"""

POWER_BUTTON = """\
#!/bin/sh
echo 'nebula-guest: powering off' > /dev/console
sync
exec /bin/poweroff -f
"""

_BEGINNING = r"""#!/bin/sh
# Whatever the context holds, this script gets to its last line: all that comes from outside runs in a shell of its own.
PATH=/bin
export PATH

say() { echo "nebula-guest: $*"; }
fault() { echo "$*" >> /run/faults; }
try() {
    message=$("$@" 2>&1) || fault "$* failed: $(echo "$message" | head -n 1)"
}
# A driver of what this machine does not have says so, and that is no fault.
load() {
    message=$(insmod "$@" 2>&1) && return 0
    case $message in *'No such device'*) ;; *) fault "insmod $* failed: $message" ;; esac
}

"""

_MACHINE = r"""# The targets that sda to sdz may sit on, and nothing but these.
scan_scsi() {
    for host in /sys/class/scsi_host/host*; do
        [ "$(cat "$host/proc_name" 2> /dev/null)" = virtio_scsi ] || continue
        for target in $(seq 0 25); do echo "0 $target -" > "$host/scan"; done
    done
}

start_system() {
    /bin/busybox --install -s /bin
    mkdir -p /proc /sys /dev /run /tmp /mnt /root
    mount -t proc proc /proc
    mount -t sysfs sysfs /sys
    mount -t devtmpfs dev /dev
    mkdir -p /dev/pts
    mount -t devpts devpts /dev/pts
    hostname localhost
    while read -r module options; do
        # shellcheck disable=SC2086
        load "/lib/modules/$module.ko" $options
    done < /lib/modules/order
    scan_scsi
    ip link set lo up
    acpid -l /run/acpid.log -p /run/acpid.pid
}

# --- the context ISO: found by its label, whatever bus it sits on

find_context() {
    for block in /sys/block/sr* /sys/block/xvd* /sys/block/vd* /sys/block/sd* /sys/block/hd*; do
        [ -e "$block" ] || continue
        device=/dev/${block##*/}
        # The volume label of ISO 9660: 32 bytes at 32808.
        label=$(dd if="$device" bs=8 skip=4101 count=4 2> /dev/null)
        [ "$(echo $label)" = CONTEXT ] && echo "$device" && return 0
    done
    return 1
}

mount_context() {
    tries=0
    until device=$(find_context); do
        # A slow drive reports its medium late; a guest without an ISO is up two seconds later for it.
        tries=$((tries + 1))
        [ "$tries" -gt 10 ] && return 1
        usleep 200000
    done
    try mount -t iso9660 -o ro "$device" /mnt
    if [ -r /mnt/context.sh ]; then
        cp /mnt/context.sh /run/context.sh
        chmod 0600 /run/context.sh
    else
        fault "$device has no context.sh"
    fi
}

"""

_CONTEXT = r"""# --- what the variables ask for

value() { eval "printf '%s\\n' \"\${$1:-}\""; }
words() { echo "$*" | tr ',' ' '; }
lower() { tr 'ABCDEFGHIJKLMNOPQRSTUVWXYZ' 'abcdefghijklmnopqrstuvwxyz'; }
numbered() { set | sed -n "s/^\($1[0-9][0-9]*\)_[A-Z0-9_]*=.*/\1/p" | sort -u; }

set_hostname() {
    name=${SET_HOSTNAME:-${HOSTNAME:-${NAME:-}}}
    [ -n "$name" ] || return 0
    try hostname "$name"
    echo "$name" > /etc/hostname
    printf '127.0.0.1\tlocalhost\n127.0.1.1\t%s %s\n::1\tlocalhost\n' "$name" "${name%%.*}" > /etc/hosts
}

device_of() {
    for interface in /sys/class/net/*; do
        [ "$(cat "$interface/address")" = "$1" ] && echo "${interface##*/}" && return 0
    done
    return 1
}

add_address4() {
    mask=${3:-255.255.255.0}
    prefix=$(ipcalc -p "$2" "$mask" 2> /dev/null)
    [ -n "$prefix" ] || { fault "$1: address $2 mask $mask is not valid"; return 0; }
    try ip addr add "$2/${prefix#PREFIX=}" dev "$1"
}

set_nic() {
    nic=$1
    index=${nic#ETH}
    mac=$(value "${nic}_MAC" | lower)
    if [ -n "$mac" ]; then
        device=$(device_of "$mac") || { fault "$nic: no interface has mac $mac"; return 0; }
    else
        device=eth$index
        [ -e "/sys/class/net/$device" ] || { fault "$nic: no interface $device"; return 0; }
    fi
    method=$(value "${nic}_METHOD" | lower)
    method=${method:-static}
    # What is not said of IPv6 is as it is said of the interface.
    method6=$(value "${nic}_IP6_METHOD" | lower)
    method6=${method6:-$method}
    case $method in
        static | skip) ;;
        *)
            fault "$nic: method $method is not known to this guest"
            [ "$method6" = "$method" ] && method6=skip
            method=skip
            ;;
    esac
    case $method6 in
        static | auto | disable | skip) ;;
        *) fault "$nic: IPv6 method $method6 is not known to this guest"; method6=skip ;;
    esac
    [ "$method" = skip ] && [ "$method6" = skip ] && return 0

    mtu=$(value "${nic}_MTU")
    [ -n "$mtu" ] && try ip link set dev "$device" mtu "$mtu"
    try ip link set dev "$device" up

    [ "$method" = static ] && set_nic4
    case $method6 in
        static) set_nic6 ;;
        # The kernel takes what a router says by itself.
        disable) try disable_ipv6 "$device" ;;
    esac
    value "${nic}_ROUTES" | tr ',' '\n' | while read -r network via router rest; do
        case $network in *:*) family=$method6 ;; *) family=$method ;; esac
        [ "$via" = via ] && [ "$family" = static ] && try ip route add "$network" via "$router" dev "$device"
    done
    return 0
}

set_nic4() {
    [ -n "$(value "${nic}_IP")" ] && add_address4 "$device" "$(value "${nic}_IP")" "$(value "${nic}_MASK")"
    for alias in $(numbered "${nic}_ALIAS"); do
        [ -n "$(value "${alias}_IP")" ] && add_address4 "$device" "$(value "${alias}_IP")" "$(value "${alias}_MASK")"
    done
    metric=$(value "${nic}_METRIC")
    gateway=$(value "${nic}_GATEWAY")
    [ -n "$gateway" ] && try ip route add default via "$gateway" dev "$device" metric "${metric:-$index}"
    return 0
}

set_nic6() {
    length=$(value "${nic}_IP6_PREFIX_LENGTH")
    for address in $(value "${nic}_IP6") $(value "${nic}_IP6_ULA"); do
        try ip -6 addr add "${address%%/*}/${length:-64}" dev "$device"
    done
    metric=$(value "${nic}_IP6_METRIC")
    metric=${metric:-$(value "${nic}_METRIC")}
    gateway=$(value "${nic}_IP6_GATEWAY")
    [ -n "$gateway" ] && try ip -6 route add default via "$gateway" dev "$device" metric "${metric:-$((index + 1))}"
    return 0
}

disable_ipv6() { echo 1 > "/proc/sys/net/ipv6/conf/$1/disable_ipv6"; }

set_resolver() {
    : > /etc/resolv.conf
    search=${SEARCH_DOMAIN:-}
    servers=${DNS:-}
    for nic in $(numbered ETH); do
        servers="$servers $(value "${nic}_DNS")"
        search="$search $(value "${nic}_SEARCH_DOMAIN")"
    done
    for server in $(words "$servers"); do
        grep -qxF "nameserver $server" /etc/resolv.conf || echo "nameserver $server" >> /etc/resolv.conf
    done
    search=$(echo $(words "$search"))
    [ -n "$search" ] && echo "search $search" >> /etc/resolv.conf
    return 0
}

set_keys() {
    [ -n "${SSH_PUBLIC_KEY:-}" ] || return 0
    mkdir -p /root/.ssh
    chmod 0700 /root/.ssh
    printf '%s\n' "$SSH_PUBLIC_KEY" > /root/.ssh/authorized_keys
    chmod 0600 /root/.ssh/authorized_keys
}

run_script() {
    interpreter=$(sed -n '1s/^#![ ]*\([^ ]*\).*/\1/p' "$2")
    # Scripts written for bash mostly run here too; there is only this one shell.
    if [ -n "$interpreter" ] && [ -x "$interpreter" ]; then
        (cd /mnt && exec "$2") < /dev/null
    else
        (cd /mnt && exec sh "$2") < /dev/null
    fi
    status=$?
    [ "$status" = 0 ] || fault "$1 exit $status"
}

run_scripts() {
    if [ -n "${START_SCRIPT_BASE64:-}" ]; then
        # busybox skips what is not base64.
        printf '%s' "$START_SCRIPT_BASE64" | base64 -d > /run/start_script 2> /dev/null
        [ -s /run/start_script ] || { fault "START_SCRIPT_BASE64 is not base64"; rm -f /run/start_script; }
    elif [ -n "${START_SCRIPT:-}" ]; then
        printf '%s\n' "$START_SCRIPT" > /run/start_script
    fi
    if [ -f /run/start_script ]; then
        chmod 0700 /run/start_script
        run_script START_SCRIPT /run/start_script
    fi

    scripts=${INIT_SCRIPTS:-}
    [ -z "$scripts" ] && [ -f /mnt/init.sh ] && scripts=init.sh
    for script in $scripts; do
        if [ -f "/mnt/$script" ]; then
            mkdir -p /run/scripts
            cp "/mnt/$script" "/run/scripts/${script##*/}"
            chmod 0700 "/run/scripts/${script##*/}"
            run_script "$script" "/run/scripts/${script##*/}"
        else
            fault "$script is not on the context ISO"
        fi
    done
}

contextualise() {
    # The shell has set this one itself.
    unset HOSTNAME
    set -a
    . /run/context.sh
    set +aeu
    # A context may hold any name; these three are this script's own.
    PATH=/bin
    unset IFS
    HOME=/root
    : > /run/context.read
    set_hostname
    for nic in $(numbered ETH); do set_nic "$nic"; done
    set_resolver
    set_keys
    run_scripts
}

# --- the report: every value is read back from the system

report() {
    if [ -f /run/context.sh ]; then
        say "context=$(sha256sum < /run/context.sh | cut -c 1-64)"
    else
        say 'no context'
    fi
    say "hostname=$(hostname)"
    for interface in /sys/class/net/*; do
        device=${interface##*/}
        [ "$device" = lo ] && continue
        addresses=$(ip -o addr show dev "$device" | awk '$3 ~ /^inet6?$/ && !/scope link/ { printf " ip=%s", $4 }')
        say "$device mac=$(cat "$interface/address")$addresses"
    done
    { ip route; ip -6 route; } 2> /dev/null | awk '$1 == "default" { print "nebula-guest: gateway=" $3 }'
    [ -f /etc/resolv.conf ] && awk '$1 == "nameserver" { print "nebula-guest: dns=" $2 }' /etc/resolv.conf
    [ -f /root/.ssh/authorized_keys ] && say "ssh_keys=$(grep -c . /root/.ssh/authorized_keys)"
    say "cpus=$(nproc)"
    say "memory_kib=$(awk '$1 == "MemTotal:" { print $2 }' /proc/meminfo)"
"""

_DISKS = r"""    for block in /sys/block/xvd* /sys/block/vd* /sys/block/sd* /sys/block/hd*; do
        [ -e "$block/size" ] && say "disk ${block##*/} bytes=$(($(cat "$block/size") * 512))"
    done
"""

_END = r"""    [ -f /run/faults ] && sed 's/^/nebula-guest: error /' /run/faults
    say ready
}

echo
say booting
start_system > /run/start.log 2>&1
if mount_context; then
    (contextualise)
    [ -f /run/context.read ] || fault 'context.sh cannot be read by the shell'
    umount /mnt 2> /dev/null
fi
report > /run/report
# A script may have left its last line open.
echo
cat /run/report
"""

# The root and the devices of a container are there when its init starts, and the disks that it sees are its host's.
_CONTAINER = r"""
start_system() {
    /bin/busybox --install -s /bin
    hostname localhost
    ip link set lo up
}

mount_context() {
    [ -r /context/context.sh ] || return 1
    try mount --bind /context /mnt
    cp /context/context.sh /run/context.sh
    chmod 0600 /run/context.sh
}

"""

BOOT = _BEGINNING + _MACHINE + _CONTEXT + _DISKS + _END
CONTAINER_BOOT = _BEGINNING + _CONTAINER.lstrip() + _CONTEXT + _END
CONTAINER_INITTAB = """\
::sysinit:/etc/nebula/boot
::respawn:/etc/nebula/shell console
::ctrlaltdel:/bin/reboot -f
"""
