# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Installs the program that mounts the disks of a container when libvirt itself starts it: when the host boots,
nothing of ours runs. It does what storage/mounted_disks.py does; what is mounted already stays as it is."""

from __future__ import annotations

from ...host import loop_devices
from ...storage import mounted_disks
from ..libvirt import domain_xml
from . import hooks

PROGRAM = hooks.Program(
    "nebula-provision-disks", "mounts the disks of containers before they start", mounted_disks.PLACE
)
STEPS = "prepare/begin"
_TEXT = """import ctypes, errno, fcntl, os, re, struct, subprocess, sys
from xml.etree import ElementTree

NAMESPACE, PLACE, KINDS = @NAMESPACE@, @PLACE@, @KINDS@
libc = ctypes.CDLL(None, use_errno=True)


def call(result, path):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return result


def table():
    with open("/proc/self/mountinfo", "rb") as file:
        rows = [line.split(b" ") for line in file.read().split(b"\\n") if line]
    return {os.fsdecode(row[4]): row[6:row.index(b"-")] for row in rows}


def make_place():
    os.makedirs(PLACE, 0o711, exist_ok=True)
    found = table()
    point = max((each for each in found if (PLACE + "/").startswith(each.rstrip("/") + "/")), key=len)
    if not any(word.startswith(b"shared:") for word in found[point]):
        call(libc.mount(os.fsencode(PLACE), os.fsencode(PLACE), None, ctypes.c_ulong(0x1000), None), PLACE)
        call(libc.mount(None, os.fsencode(PLACE), None, ctypes.c_ulong(0x100000), None), PLACE)


def user_namespace(start, count):
    words = ["unshare", "--user", "sh", "-c", "echo; read -r line"]
    holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        if not holder.stdout.read(1):
            raise OSError("no user namespace can be made")
        for kind in ("gid", "uid"):
            with open("/proc/%d/%s_map" % (holder.pid, kind), "w") as file:
                file.write("0 %d %d" % (start, count))
        return os.open("/proc/%d/ns/user" % holder.pid, os.O_RDONLY)
    finally:
        holder.stdin.close()
        holder.stdout.close()
        holder.wait()


def loop(file, readonly):
    mode = os.O_RDONLY if readonly else os.O_RDWR
    shown, control = os.open(file, mode), os.open("/dev/loop-control", os.O_RDWR)
    flags = 4 | (1 if readonly else 0)
    wanted = struct.pack(@CONFIGURATION@, shown, 0, flags, os.fsencode(file)[:63])
    for left in range(64, 0, -1):
        device = "/dev/loop%d" % fcntl.ioctl(control, 0x4C82)
        handle = os.open(device, mode)
        try:
            fcntl.ioctl(handle, 0x4C0A, wanted)
            return device
        except OSError as error:
            os.close(handle)
            if error.errno != errno.EBUSY or left == 1:
                raise


def show(file, point, start, count, readonly):
    file = os.path.realpath(file)
    for name in os.listdir("/sys/block"):
        try:
            with open("/sys/block/%s/loop/backing_file" % name) as shown:
                if shown.read().rstrip("\\n") == file:
                    sys.exit("%s: something on this host has it mounted" % file)
        except OSError:
            pass
    words = ["blkid", "--probe", "--usages", "filesystem", "--match-tag", "TYPE", "--output", "value", file]
    kind = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE).stdout.decode().strip()
    if kind not in KINDS:
        sys.exit("%s: it has no file system that containers have" % file)
    make_place()
    owned = os.path.dirname(point)
    os.makedirs(owned, 0o710, exist_ok=True)
    os.chown(owned, 0, start)
    os.chmod(owned, 0o710)
    if os.path.islink(point):
        sys.exit("%s: it is a link, which leads the container elsewhere" % point)
    os.makedirs(point, 0o700, exist_ok=True)
    device, namespace, flags = loop(file, readonly), user_namespace(start, count), 6 | (1 if readonly else 0)
    opened = call(libc.syscall(430, KINDS[kind].encode(), ctypes.c_uint(1)), kind)
    call(libc.syscall(431, opened, ctypes.c_uint(1), b"source", os.fsencode(device), 0), file)
    if readonly:
        call(libc.syscall(431, opened, ctypes.c_uint(0), b"ro", None, 0), file)
    call(libc.syscall(431, opened, ctypes.c_uint(6), None, None, 0), file)
    tree = call(libc.syscall(432, opened, ctypes.c_uint(1), ctypes.c_uint(flags)), file)
    attributes = (ctypes.c_uint64 * 4)(0x100000 | flags, 0, 0, namespace)
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    call(libc.syscall(442, tree, b"", ctypes.c_uint(0x1000), ctypes.byref(attributes), size), file)
    call(libc.syscall(429, tree, b"", -100, os.fsencode(point), ctypes.c_uint(4)), point)


def main():
    text = sys.stdin.buffer.read()
    domain = ElementTree.fromstring(text)
    mark, ids = domain.find("metadata/{%s}vm" % NAMESPACE), domain.find("idmap/uid")
    directory = mark.get("directory", "") if mark is not None else ""
    if ids is None or not os.path.isabs(directory) or not os.path.isdir(directory):
        return
    found = os.stat(directory)
    if found.st_uid != 0 or found.st_mode & 0o022:
        sys.exit("%s: others than root can write to it" % directory)
    for each in domain.iterfind("devices/filesystem"):
        source = each.find("source")
        point = source.get("dir", "") if source is not None else ""
        named = re.fullmatch(re.escape(PLACE) + "/[0-9a-f-]{36}/([0-9]{1,9})", point)
        if named and point not in table():
            file = os.path.join(directory, "disk." + named[1])
            show(file, point, int(ids.get("target")), int(ids.get("count")), each.find("readonly") is not None)


main()
"""


def text() -> str:
    """Return the program. It is one file, which depends on Python alone: this collection is not on the host."""
    words = {
        "NAMESPACE": repr(domain_xml.NAMESPACE),
        "PLACE": repr(mounted_disks.PLACE),
        "KINDS": repr(mounted_disks.KINDS),
        "CONFIGURATION": repr(loop_devices.CONFIGURATION.format),
    }
    found = _TEXT
    for name, value in words.items():
        found = found.replace(f"@{name}@", value)
    return hooks.text(PROGRAM, STEPS, found)
