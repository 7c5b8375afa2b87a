#!/usr/bin/env python3
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for `vzctl`, `vzlist` and `vzcptcheck` of OpenVZ, which no distribution brings: no container runs.

Its grammar, what it prints, its exit codes and how it writes CTID.conf are those of vzctl 4.11 (vzctl(8), vzlist(8),
ctid.conf(5), and what it was seen to do). What runs is a word in a file. The same tests run against a real one by
`make test-openvz VZCTL=/path/to/vzctl`.

The steps of a live migration (`chkpnt --suspend`, `--dump`, `--resume`, `--kill`; `restore --undump`, `--resume`,
`--kill`; vzcptcheck(8)) are those by which vzmigrate(8) works, and what each of them refuses is taken from vzctl's
source (src/lib/cpt.c, src/lib/hooks_vz.c). No real one was tried: no kernel of this Debian has them.

    VZ_STAND_IN=/directory     what is /etc/vz to the real one
    VZ_STAND_IN_KERNEL=vz      a kernel of OpenVZ, of which vzlist tells; else it tells of nothing
    VZ_STAND_IN_FAILS=VERB:CODE,…   these verbs end so, and do nothing; a step of a migration is one (undump:17)
    VZ_STAND_IN_PAUSES=STEP:POINT  that step of a migration waits there (before or after) as long as CTID.pause is in
                           LOCKDIR, which it makes
    VZ_STAND_IN_MEMORY=BYTES  so much is in a dump besides
    VZ_STAND_IN_VERSION=NUMBER, VZ_STAND_IN_CAPS=NUMBER  what vzcptcheck says of kernel and processor
    VZ_STAND_IN_KILLED=VERB:POINT  the verb is killed (before it does anything, in the middle, or after all is done)
    VZ_STAND_IN_DEAF=1         what runs does not end by `stop` without --fast
    VZ_STAND_IN_LIES=1         `start` and `restore` end with 0, and nothing runs"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ETC = Path(os.environ.get("VZ_STAND_IN", "/etc/vz"))
PAGES = ("LOCKEDPAGES", "PRIVVMPAGES", "SHMPAGES", "PHYSPAGES", "SWAPPAGES", "VMGUARPAGES", "OOMGUARPAGES")
OTHERS = (
    "KMEMSIZE", "NUMPROC", "CPUUNITS", "CPULIMIT", "CPUS", "CPUMASK", "ONBOOT", "HOSTNAME", "NAMESERVER", "NAME",
    "SEARCHDOMAIN", "DISKSPACE", "DISKINODES", "DESCRIPTION",
)  # fmt: skip
UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "P": 4096}


class Ended(Exception):
    """With a code, and what is said of it."""


def values_of(path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").split("\n") if path.exists() else []:
        name, equals, value = line.strip().partition("=")
        if equals and not name.startswith("#"):
            if value.startswith('"') and '"' in value[1:]:
                value = value[1 : value.rindex('"')]
            found.setdefault(name, value)
    return found


class Container:
    def __init__(self, ctid: str) -> None:
        named = ETC / "names" / ctid
        if not ctid.isdigit() and named.is_symlink():
            ctid = Path(os.readlink(named)).stem
        if not ctid.isdigit():
            raise Ended(20, f"Bad CT ID {ctid}")
        self.ctid = ctid
        self.conf = ETC / "conf" / f"{ctid}.conf"
        self.settings = values_of(ETC / "vz.conf")
        if not self.settings:
            raise Ended(10, "Global configuration file vz.conf not found")
        self.state = Path(self.settings["LOCKDIR"]) / f"{ctid}.running"
        self.values = {**self.settings, **values_of(self.conf)}

    def path(self, key: str) -> Path:
        return Path(self.values[key].replace("$VEID", self.ctid))

    @property
    def running(self) -> bool:
        return self.state.exists()

    @property
    def held(self) -> Path:
        """What the kernel keeps of one that stands still: which of its two files keeps it."""
        return self.state.with_suffix(".held")

    @property
    def mounted(self) -> Path:
        """That its root is mounted, where it does not run."""
        return self.state.with_suffix(".mounted")

    def join(self, of: str) -> None:
        if not self.held.exists() or self.held.read_text(encoding="ascii") != of:
            raise Ended(16 if of == "cpt" else 17, f"Can not join cpt context {self.ctid}: No such file or directory")

    @property
    def exists(self) -> bool:
        return self.conf.exists() and self.path("VE_PRIVATE").is_dir()

    def save(self, **changed: str) -> None:
        """As vzctl does: a line of that key is replaced, another is appended, all else stays."""
        lines = self.conf.read_text(encoding="utf-8").split("\n")[:-1] if self.conf.exists() else []
        for key, value in changed.items():
            line = f'{key}="{value}"'
            place = next((n for n, each in enumerate(lines) if each.startswith(f"{key}=")), None)
            if place is None:
                lines.append(line)
            else:
                lines[place] = line
        self.conf.write_text("\n".join([*lines, ""]), encoding="utf-8")
        print(f"CT configuration saved to {self.conf}")

    def act(self, kind: str) -> None:
        """Its action script, where there is one."""
        script = ETC / "conf" / f"{self.ctid}.{kind}"
        if script.exists() and subprocess.run(["sh", str(script)], check=False).returncode != 0:
            raise Ended(79, f"Error executing {kind} script {script}")

    def require_conf(self) -> None:
        if not self.conf.exists():
            raise Ended(14, f"Container config file does not exist: {self.conf}")

    def require_running(self, code: int = 31) -> None:
        if not self.running:
            raise Ended(code, "Container is not running")


def killed(verb: str, point: str) -> None:
    """As by somebody's kill -9."""
    if os.environ.get("VZ_STAND_IN_KILLED") == f"{verb}:{point}":
        os.kill(os.getpid(), signal.SIGKILL)


def paused(container: Container, step: str, point: str) -> None:
    if os.environ.get("VZ_STAND_IN_PAUSES") != f"{step}:{point}":
        return
    pause = container.state.with_suffix(".pause")
    pause.touch()
    limit = time.monotonic() + 120
    while pause.exists() and time.monotonic() < limit:
        time.sleep(0.02)


def create(container: Container, words: list[str]) -> None:
    if container.path("VE_PRIVATE").exists():
        raise Ended(44, f"Private area already exists in {container.path('VE_PRIVATE')}")
    template = container.values.get("OSTEMPLATE", "")
    if not template:
        raise Ended(29, "OS template is not specified")
    cache = Path(container.settings["TEMPLATE"]) / "cache"
    tar = next((p for end in ("", ".gz", ".bz2", ".xz") if (p := cache / f"{template}.tar{end}").is_file()), None)
    if tar is None:
        raise Ended(91, f"Cached OS template {cache}/{template}.tar[.gz|.bz2|.xz] not found")
    private = container.path("VE_PRIVATE")
    private.mkdir(parents=True)
    unfinished = Path(f"{private}.tmp")
    unfinished.mkdir()
    print(f"Creating container private area ({template})")
    done = subprocess.run(["tar", "-C", str(unfinished), "--numeric-owner", "-Spxf", str(tar)], check=False)
    if done.returncode != 0:
        shutil.rmtree(unfinished)
        private.rmdir()
        raise Ended(48, f"Unpack {tar} failed")
    killed("create", "middle")
    private.rmdir()
    unfinished.rename(private)
    container.path("VE_ROOT").mkdir(parents=True, exist_ok=True)
    container.save(VE_LAYOUT="simfs")
    print("Container private area was created")


def start(container: Container, words: list[str]) -> None:
    container.require_conf()
    if container.running:
        raise Ended(32, "Container is already running")
    if not container.path("VE_PRIVATE").is_dir():
        raise Ended(43, f"Container private area {container.path('VE_PRIVATE')} does not exist")
    for other in (ETC / "conf").glob("*.conf"):
        there = set(values_of(other).get("IP_ADDRESS", "").split())
        state = container.state.with_name(f"{other.stem}.running")
        if state.exists() and there & set(container.values.get("IP_ADDRESS", "").split()):
            raise Ended(78, f"IP address is already in use by container {other.stem}")
    for interface in filter(None, container.values.get("NETIF", "").split(";")):
        fields = dict(field.split("=", 1) for field in interface.split(","))
        if len(fields.get("host_ifname", "")) > 15:
            raise Ended(130, "Unable to add veth device")
    print("Starting container...")
    container.act("mount")
    killed("start", "middle")
    if not os.environ.get("VZ_STAND_IN_LIES"):
        container.state.write_text(f"{time.time()}\n", encoding="ascii")
    print("Container start in progress...")


def stop(container: Container, words: list[str]) -> None:
    if not container.running:
        print("Unable to stop: container is not running", file=sys.stderr)
        return
    if container.held.exists():
        # Nothing of it hears a signal.
        raise Ended(33, "Unable to stop container: operation timed out")
    if os.environ.get("VZ_STAND_IN_DEAF") and "--fast" not in words:
        time.sleep(120)
    container.state.unlink()
    killed("stop", "middle")
    container.act("umount")
    print("Container was stopped")


def restart(container: Container, words: list[str]) -> None:
    stop(container, words)
    start(container, words)


def destroy(container: Container, words: list[str]) -> None:
    container.require_conf()
    if container.running:
        raise Ended(41, "Container is running -- stop it first")
    if container.mounted.exists():
        raise Ended(41, "Container is currently mounted (umount first)")
    private = container.path("VE_PRIVATE")
    print(f"Destroying container private area: {private}")
    shutil.rmtree(private, ignore_errors=True)
    killed("destroy", "middle")
    for each in (container.conf, *(container.conf.with_suffix(f".{kind}") for kind in ("mount", "umount"))):
        if each.exists():
            each.rename(f"{each}.destroyed")
    for name in (ETC / "names").iterdir():
        if name.is_symlink() and os.readlink(name) == str(container.conf):
            name.unlink()


def umount(container: Container, words: list[str]) -> None:
    if container.running:
        raise Ended(32, "Container is running -- stop it first")
    if not container.mounted.exists():
        raise Ended(40, "CT is not mounted")
    container.act("umount")
    container.mounted.unlink()
    print("Container is unmounted")


def change(container: Container, words: list[str]) -> None:
    container.require_conf()
    changed: dict[str, str] = {}
    rest = [word for word in words if word != "--save"]
    while rest:
        option = rest.pop(0)
        key = option[2:].upper()
        if key in ("IPADD", "IPDEL"):
            address = rest.pop(0)
            there = [each for each in container.values.get("IP_ADDRESS", "").split() if each != address]
            changed["IP_ADDRESS"] = " ".join([*there, *([address] if key == "IPADD" else [])])
        elif key in PAGES:
            changed[key] = ":".join(pages(part) for part in rest.pop(0).split(":"))
        elif option.startswith("--") and key in OTHERS and rest:
            changed[key] = rest.pop(0)
        else:
            raise Ended(20, f"Invalid option {option}")
    if ("PHYSPAGES" in changed) != ("SWAPPAGES" in changed):
        raise Ended(28, "Not all UBC parameters are set")
    for key in ("CPUUNITS", "CPULIMIT", "CPUS"):
        if key in changed and not changed[key].isdigit():
            raise Ended(21, f"Bad parameter for --{key.lower()}: {changed[key]}")
    if "NAME" in changed:
        link = ETC / "names" / changed["NAME"]
        if link.is_symlink() and os.readlink(link) != str(container.conf):
            raise Ended(131, f"Conflict: name {changed['NAME']} already used")
        link.unlink(missing_ok=True)
        link.symlink_to(container.conf)
        print(f"Name {changed['NAME']} assigned")
    if "--save" in words:
        container.save(**changed)
    elif not container.running:
        raise Ended(31, "Container is not running")


def pages(text: str) -> str:
    found = re.fullmatch(r"(\d+)([BKMGP]?)", text)
    if text == "unlimited" or found is None:
        return text
    return str(int(found[1]) if not found[2] else int(found[1]) * UNITS[found[2]] // 4096)


def status(container: Container, words: list[str]) -> None:
    mounted = "mounted" if container.running or container.mounted.exists() else "unmounted"
    running = "running" if container.running else "down"
    print(f"CTID {container.ctid} {'exist' if container.exists else 'deleted'} {mounted} {running}")


def execute(container: Container, words: list[str]) -> None:
    container.require_running(8)
    command = " ".join(words)
    if command.startswith("cat /proc/sys/kernel/hostname"):
        print(container.values.get("HOSTNAME", "localhost"))
    elif command.startswith("ip -o addr"):
        print("1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever")
        for address in container.values.get("IP_ADDRESS", "").split():
            kind = "inet6" if ":" in address else "inet"
            print(f"2: venet0    {kind} {address}/32 scope global venet0\\       valid_lft forever")
    else:
        raise Ended(8, f"{command}: not found")


def step_of(words: list[str], known: tuple[str, ...]) -> str:
    """Which step of a migration is asked for, "" for all of them at once."""
    rest, found = list(words), ""
    while rest:
        word = rest.pop(0)
        if word in ("--dumpfile", "--flags", "--context"):
            if not rest:
                raise Ended(20, f"option '{word}' requires an argument")
            rest.pop(0)
        elif word.startswith("--") and word[2:] in known:
            if found:
                raise Ended(20, "Invalid syntax: only one sub command may be used")
            found = word[2:]
        elif word != "--skip_arpdetect":
            raise Ended(20, f"unrecognized option '{word}'")
    if found and not os.environ.get("VZ_STAND_IN_KERNEL"):
        # CRIU is asked to save all of it, whatever the step was.
        return ""
    return found


def dump_file(container: Container, words: list[str], code: int, needed: bool) -> Path:
    if "--dumpfile" in words:
        return Path(words[words.index("--dumpfile") + 1])
    if needed:
        raise Ended(code, "Error: dumpfile is not specified.")
    return Path(container.settings["DUMPDIR"]) / f"Dump.{container.ctid}"


def checkpoint(container: Container, words: list[str]) -> None:
    step = step_of(words, ("suspend", "dump", "resume", "kill"))
    container.require_running()
    fail_as_asked(step)
    paused(container, step, "before")
    if step == "suspend":
        if container.held.exists():
            raise Ended(16, "Can not suspend container: Device or resource busy")
        container.held.write_text("cpt", encoding="ascii")
    elif step:
        container.join("cpt")
    if step in ("", "dump"):
        if not step and container.held.exists():
            raise Ended(16, "Can not suspend container: Device or resource busy")
        dump = dump_file(container, words, 16, bool(step))
        dump.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(dump, os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o600), "wb") as file:
            file.write(f"dump of {container.ctid}\n{container.state.read_text(encoding='ascii')}".encode())
            file.write(os.urandom(int(os.environ.get("VZ_STAND_IN_MEMORY", "0"))))
    if step == "resume":
        container.held.unlink()
    elif step == "kill":
        container.mounted.touch()
        container.state.unlink()
        container.held.unlink()
    elif not step:
        container.state.unlink()
        container.act("umount")
    paused(container, step, "after")
    print("Checkpointing completed successfully")


def restore(container: Container, words: list[str]) -> None:
    container.require_conf()
    step = step_of(words, ("undump", "resume", "kill"))
    if step in ("resume", "kill"):
        container.require_running()
        fail_as_asked(step)
        paused(container, step, "before")
        container.join("rst")
        if step == "kill":
            container.mounted.touch()
            container.state.unlink()
        container.held.unlink()
        paused(container, step, "after")
        return
    if container.running:
        raise Ended(32, "Unable to perform restore: container already running")
    dump = dump_file(container, words, 17, bool(step))
    begin = f"dump of {container.ctid}\n".encode()
    content = dump.read_bytes() if dump.is_file() else b""
    if not content.startswith(begin):
        raise Ended(17, f"Can not open dump file {dump}")
    if not container.path("VE_PRIVATE").is_dir():
        raise Ended(43, f"Container private area {container.path('VE_PRIVATE')} does not exist")
    fail_as_asked(step)
    paused(container, step, "before")
    container.act("mount")
    if not os.environ.get("VZ_STAND_IN_LIES"):
        if step:
            container.held.write_text("rst", encoding="ascii")
        # What ran goes on: it has begun when it had begun.
        container.state.write_bytes(content[len(begin) :].partition(b"\n")[0] + b"\n")
    if not step:
        dump.unlink()
    paused(container, step, "after")
    print("Restoring completed successfully")


VERBS = {
    "create": create, "start": start, "stop": stop, "restart": restart, "destroy": destroy, "umount": umount,
    "set": change, "status": status, "exec": execute, "exec2": execute, "chkpnt": checkpoint, "suspend": checkpoint,
    "restore": restore, "resume": restore,
}  # fmt: skip


def fail_as_asked(verb: str) -> None:
    for each in filter(None, os.environ.get("VZ_STAND_IN_FAILS", "").split(",")):
        name, _colon, code = each.partition(":")
        if name == verb:
            raise Ended(int(code), f"{verb} failed as it was told to")


def vzcptcheck(words: list[str]) -> None:
    version, caps = (int(os.environ.get(f"VZ_STAND_IN_{name}", "31")) for name in ("VERSION", "CAPS"))
    if not os.environ.get("VZ_STAND_IN_KERNEL"):
        raise Ended(1, "Can't open /proc/cpt: No such file or directory\nKernel module vzcpt not loaded")
    if words == ["version"]:
        print(version)
    elif words[:1] == ["version"] and len(words) == 2:
        if int(words[1]) > version:
            raise Ended(2, f"CPT version {words[1]} rejected: can't migrate")
    elif words == ["caps"]:
        print(caps)
    elif words[:1] == ["caps"] and len(words) in (2, 3):
        if caps & ~int(words[-1]):
            raise Ended(2, "Insufficient CPU capabilities: can't migrate")
    else:
        raise Ended(1, "Usage:	vzcptcheck <command> [argument ...]")


def vzctl(words: list[str]) -> None:
    if words[:1] == ["--version"]:
        print("vzctl version 4.11.1")
        return
    if len(words) < 2 or words[0] not in VERBS:
        raise Ended(20, f"Bad command {' '.join(words)}")
    if not os.environ.get("VZ_STAND_IN_KERNEL"):
        print("Directory /proc/vz not found, assuming non-OpenVZ kernel", file=sys.stderr)
    fail_as_asked(words[0])
    container = Container(words[1])
    lock = Path(container.settings["LOCKDIR"]) / f"{container.ctid}.lck"
    if words[0] not in ("status", "exec", "exec2") and lock.exists():
        raise Ended(9, "Container already locked")
    killed(words[0], "before")
    VERBS[words[0]](container, words[2:])
    sys.stdout.flush()
    killed(words[0], "after")


def vzlist(words: list[str]) -> None:
    if not os.environ.get("VZ_STAND_IN_KERNEL"):
        print("Unable to open /proc/vz/veinfo: No such file or directory", file=sys.stderr)
        return
    for path in sorted((ETC / "conf").glob("[1-9]*.conf")):
        container = Container(path.stem)
        print(f"{path.stem:>10} {'running' if container.running else 'stopped'}")


PROGRAMS = {"vzctl": vzctl, "vzlist": vzlist, "vzcptcheck": vzcptcheck}


def main() -> int:
    try:
        PROGRAMS[Path(sys.argv[0]).name](sys.argv[1:])
    except Ended as ended:
        print(ended.args[1], file=sys.stderr)
        return int(ended.args[0])
    return 0


def install(directory: Path) -> None:
    """Put it into a directory, under all of its names. A test starts it some twenty times: as a module it is compiled
    once, and it needs nothing of what an environment loads at its start."""
    directory.mkdir(parents=True, exist_ok=True)
    here = Path(__file__).resolve()
    found = f"import sys\n\nsys.path.append({str(here.parent)!r})\n"
    run = f"import {here.stem}\n\nsys.exit({here.stem}.main())\n"
    for name in PROGRAMS:
        program = directory / name
        program.write_text(f"#!{sys.executable} -IS\n{found}{run}", encoding="utf-8")
        program.chmod(0o755)


def furnish(etc: Path, place: Path) -> None:
    """What /etc/vz has of an installation that nobody has used yet, with all else below `place`."""
    for directory in (etc / "conf", etc / "names", etc / "dists", place / "lock", place / "template/cache"):
        directory.mkdir(parents=True, exist_ok=True)
    for name in ("default", "debian.conf", "centos.conf"):
        (etc / "dists" / name).touch()
    (etc / "vz.conf").write_text(
        f"LOCKDIR={place}/lock\nDUMPDIR={place}/dump\nTEMPLATE={place}/template\nVE_ROOT={place}/root/$VEID\n"
        f"VE_PRIVATE={place}/private/$VEID\nDISK_QUOTA=no\nLOGGING=no\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    sys.exit(main())
