# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Installs the program that libvirt calls whenever it starts a container, also when the host boots and nothing of ours
runs: before the start it mounts what the container's directory says, after the start it has the console read.

It reads `*.layers/layers.json` of a root that shows its image (storage/root_overlay.py). What is mounted already stays
as it is."""

from __future__ import annotations

from ...host.console import console_log
from ...model.container_user_ids import BASES
from ...storage import root_overlay
from ..libvirt import domain_xml
from . import console_logger, hooks

PROGRAM = hooks.Program(
    "nebula-provision-roots", "mounts the root file systems of containers before they start", domain_xml.NAMESPACE
)
STEPS = "prepare/begin | started/begin"
_TEXT = """import ctypes, fcntl, json, os, subprocess, sys
from xml.etree import ElementTree

NAMESPACE, BASES = {namespace!r}, {bases}
OPTIONS, LOG, LIMIT, KEPT = {options!r}, {log!r}, {limit!r}, {kept!r}
READER = {reader!r}
libc = ctypes.CDLL(None, use_errno=True)


def call(result, path):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return result


def mounted(path):
    with open("/proc/self/mounts", "rb") as table:
        points = [line.split(b" ")[1] for line in table.read().split(b"\\n") if line]
    name = os.fsencode(os.path.realpath(path))
    for sign in (b"\\\\", b" ", b"\\t", b"\\n"):
        name = name.replace(sign, b"\\\\%03o" % ord(sign))
    return name in points


def mapped(source, target, shown, count):
    arguments = ["unshare", "--user", "sh", "-c", "echo; read -r line"]
    holder = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        if not holder.stdout.read(1):
            raise OSError("no user namespace can be made")
        for kind in ("gid", "uid"):
            with open("/proc/%d/%s_map" % (holder.pid, kind), "w") as file:
                file.write("%d %d %d" % (BASES, shown, count))
        namespace = os.open("/proc/%d/ns/user" % holder.pid, os.O_RDONLY)
    finally:
        holder.stdin.close()
        holder.stdout.close()
        holder.wait()
    tree = call(libc.syscall(428, -100, os.fsencode(source), ctypes.c_uint(0o2000001)), source)
    attributes = (ctypes.c_uint64 * 4)(0x100005, 0, 0, namespace)
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    call(libc.syscall(442, tree, b"", ctypes.c_uint(0x1000), ctypes.byref(attributes), size), source)
    call(libc.syscall(429, tree, b"", -100, os.fsencode(target), ctypes.c_uint(4)), target)
    os.close(tree)
    os.close(namespace)


def show(place):
    directory = place[:-len(".layers")]
    try:
        with open(os.path.join(place, "layers.json"), "rb") as file:
            layers = json.load(file)
    except FileNotFoundError:
        return  # A run was killed that made it: the machine has no root yet.
    fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        if mounted(directory):
            return
        lower, upper, work = (os.path.join(place, name) for name in ("lower", "upper", "work"))
        while mounted(lower):
            call(libc.umount2(os.fsencode(lower), 8), lower)
        mapped(layers["base"], lower, layers["start"], layers["count"])
        try:
            named = (("lowerdir", lower), ("upperdir", upper), ("workdir", work))
            options = [name + "=" + "".join("\\\\" + c if c in "\\\\:," else c for c in path) for name, path in named]
            text = os.fsencode(",".join(options + [OPTIONS]))
            done = libc.mount(b"nebula-root", os.fsencode(directory), b"overlay", ctypes.c_ulong(4), text)
            call(done, directory)
        finally:
            call(libc.umount2(os.fsencode(lower), 8), lower)
    finally:
        os.close(fd)


def show_all(directory):
    for name in sorted(os.listdir(directory)):
        if name.endswith(".layers"):
            show(os.path.join(directory, name))


def read_console(domain, directory):
    console = domain.find("devices/console")
    terminal = console.get("tty") if console is not None else None
    if terminal:
        words = ["-c", READER, terminal, os.path.join(directory, LOG), LIMIT, KEPT]
        streams = {{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}}
        reader = subprocess.Popen([sys.executable, "-I", "-S", *words], cwd="/", start_new_session=True, **streams)
        reader.stdout.readline()


def main():
    text, step = sys.stdin.buffer.read(), sys.argv[2]
    domain = ElementTree.fromstring(text)
    mark = domain.find("metadata/{{%s}}vm" % NAMESPACE)
    directory = mark.get("directory", "") if mark is not None else ""
    if not os.path.isabs(directory) or not os.path.isdir(directory):
        return
    found = os.stat(directory)
    if found.st_uid != 0 or found.st_mode & 0o022:
        sys.exit("%s: others than root can write to it" % directory)
    if step == "prepare":
        show_all(directory)
    else:
        try:
            read_console(domain, directory)
        except OSError:
            pass  # It runs, and that is worth more than its log.


main()
"""


def text() -> str:
    """Return the program. It is one file, which depends on Python alone: this collection is not on the host."""
    body = _TEXT.format(
        namespace=domain_xml.NAMESPACE,
        bases=BASES.start,
        options=root_overlay.OPTIONS,
        log=console_log.NAME,
        limit=str(console_logger.LIMIT),
        kept=str(console_logger.KEPT),
        reader=console_logger.PROGRAM,
    )
    return hooks.text(PROGRAM, STEPS, body)
