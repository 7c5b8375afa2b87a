#!/bin/sh
# In the place of libvirt_lxc, on a host that has no systemd: each container gets a group of its own among those of
# systemd, as systemd-machined gives it one. libvirt makes none there, so that the first container with systemd would
# have the group of libvirtd for itself, and no other could start.
#
#   own_group.sh install        have libvirtd of these namespaces start this, and with it the program that was there
#
# usage otherwise: that of libvirt_lxc
program=/usr/lib/libvirt/libvirt_lxc
real=/run/libvirt_lxc
if [ "$1" = install ]; then
    [ ! -e "$real" ] || exit 0
    cp "$program" "$real"
    cp "$0" /run/own_group.sh
    chmod 0755 /run/own_group.sh
    exec mount --bind /run/own_group.sh "$program"
fi
parent=/sys/fs/cgroup/systemd$(sed -n 's/^[0-9]*:name=systemd://p' /proc/self/cgroup)
mkdir "$parent/container-$$"
echo $$ > "$parent/container-$$/cgroup.procs"
exec "$real" "$@"
