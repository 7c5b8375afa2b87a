# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Words planted wherever people put secrets, runs that succeed, fail, are killed; then everything that keeps something
is searched: the words are only where the guest needs them, readable by nobody else."""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from auditor import assert_consistent_here
from canaries import Canaries, job_events, syslog, watched
from in_world import in_bare_world
from web_server import serve

from ansible_collections.nebula.provision.tests.integration.site_runs import HALTING, RUNNING, Case

PLACES = (
    "context_of_template", "context_of_vm", "start_script", "file", "raw", "url_user", "url_password", "url_query",
    "environment", "proxy", "another", "luks", "inject",
)  # fmt: skip
NEEDED = {"another", "context_of_template", "context_of_vm", "start_script"}
OURS, QEMUS = (
    {"root:root 0600"},
    {"libvirt-qemu:libvirt-qemu 0640", "libvirt-qemu:libvirt-qemu 0660", "root:kvm 0660", "root:kvm 0640"},
)
# Every kind of file that may be below nebula_root: owner, group and mode, and the words that it may hold.
KEPT: dict[str, tuple[set[str], set[str]]] = {
    r"|cache|files|datastores|datastores/[012]|datastores/0/\d+|datastores/1/uploads|ssh": (
        {"root:root 0711", "root:root 0700"},
        set(),
    ),
    r"cache/context-[0-9a-f]{64}": (OURS, {"file"}),
    r"nebula\.db(-wal|-shm)?": (OURS, NEEDED | {"raw", "vnc"}),
    r"nebula\.node": (OURS, set()),
    r"ssh/(id_ed25519(\.pub)?|known_hosts\.[^/]+)": (OURS, set()),
    r"datastores/1/\.nebula-catalog": ({"root:root 0444"}, set()),
    r"datastores/[12]/[0-9a-f]{32}": ({"root:kvm 0440"}, {"file"}),
    r"datastores/[12]/[0-9a-f]{32}\.part": (OURS, {"file"}),
    r"datastores/0/\d+/disk\.0": (QEMUS, set()),
    r"datastores/0/\d+/disk\.1": (QEMUS | {"root:root 0640"}, NEEDED | {"file"}),
    r"datastores/0/\d+/deployment\.\d+": (OURS, {"vnc", "raw"}),
    r"datastores/0/\d+/(vm\.json|console\.log)": (OURS, set()),
    r"datastores/0/\d+/vm\.log": ({"root:root 0640"}, set()),
}
# What others keep of a run on the same host.
LIBVIRT = {
    r"/etc/libvirt/qemu/one-\d+\.xml": {"vnc", "raw"},
    r"/run/libvirt/qemu/one-\d+\.xml": {"vnc", "raw"},
    r"/etc/libvirt/secrets/[0-9a-f-]{36}\.base64": {"luks"},
}


class Guarded(Case):
    """A site whose every secret is a canary, and what is looked at after each of its runs."""

    def __init__(self, url: str, canaries: Canaries) -> None:
        super().__init__()
        self.canaries = canaries
        self.url = url
        # What the test itself keeps, as a control node keeps its inventory.
        self.private = self.directory / "private"
        self.private.mkdir(mode=0o700)
        self.variables |= self.planted()
        self.runs = 0
        self.environment = {
            "ONE_PASSWORD": canaries.core("environment"),
            "http_proxy": f"http://{canaries.core('proxy')}:{canaries.core('proxy')}@{url}",
            "no_proxy": "127.0.0.1",
        }

    def inventory(self, **changes: Any) -> Path:
        return super().inventory(**changes).rename(self.private / "hosts.yml")

    def planted(self) -> dict[str, Any]:
        canaries = self.canaries
        file = self.private / "file.sh"
        file.write_text(f"# {canaries['file']}\n")
        template = {
            "CPU": "0.05",
            "MEMORY": 32,
            "DISK": {"IMAGE": "halt", "DEV_PREFIX": "vd"},
            "NIC": {"NETWORK": "Public"},
            "GRAPHICS": {"TYPE": "VNC", "LISTEN": "127.0.0.1", "PASSWD": canaries["vnc"]},
            "CONTEXT": {
                "NETWORK": "YES",
                "TOKEN": canaries["context_of_template"],
                "FILES_DS": '$FILE[IMAGE="script"]',
            },
            "RAW": {
                "TYPE": "kvm",
                "DATA": f"<devices><input type='tablet' bus='usb'/></devices><!-- {canaries.core('raw')} -->",
            },
        }
        return {
            "nebula_images": [
                {"name": "halt", "path": self.address("halt.raw")},
                {"name": "script", "type": "CONTEXT", "path": str(file)},
            ],
            "nebula_templates": [{"name": "web", "template": template}],
            "nebula_vms": [self.machine(name="web-%i", count=2)],
            "nebula_luks_secrets": [{"uuid": "9a3f5d0e-6a2f-4a57-8f2e-0d5d6f3f8a11", "passphrase": canaries["luks"]}],
        }

    def address(self, path: str) -> str:
        user, password = self.canaries.core("url_user"), self.canaries.core("url_password")
        return f"http://{user}:{password}@{self.url}/{path}?signature={self.canaries.core('url_query')}"

    def machine(self, **keys: Any) -> dict[str, Any]:
        context = {
            "PASSWORD": self.canaries["context_of_vm"],
            "START_SCRIPT": f"#!/bin/sh\necho {self.canaries['start_script']}\n",
        }
        return {"template": "web", "context": context, "hard": True, **keys}

    def look(self, *outputs: str) -> None:
        """Everything that a run said or left."""
        self.runs += 1
        for output in outputs:
            seen = self.canaries.seen(output)
            lines = [line[:400] for line in output.splitlines() if self.canaries.seen(line)]
            assert seen == {}, f"{seen} in\n" + "\n".join(lines[:20])
        self.look_below_the_root()
        elsewhere = [Path(path) for path in ("/etc/libvirt", "/run", "/var/log/libvirt", "/var/lib/libvirt")]
        mine = [path for path in self.directory.iterdir() if path not in (self.private, self.root)]
        places = elsewhere + [path for path in mine if path.name != "etc-libvirt"]
        for path, seen in self.canaries.files(*places).items():
            may = next((words for kind, words in LIBVIRT.items() if re.fullmatch(kind, str(path))), set())
            assert set(seen) <= may, f"{path} holds {seen}"
            assert ownership(path) == "root:root 0600", f"{path}: {ownership(path)}"
        self.look_as_anybody([self.root, *places])
        self.look_at_processes()

    def look_below_the_root(self) -> None:
        holders = self.canaries.files(self.root)
        for path in [self.root, *sorted(self.root.rglob("*"))]:
            name = (
                str(path.relative_to(self.root)).removeprefix(".")
                if path == self.root
                else str(path.relative_to(self.root))
            )
            kept = next((value for kind, value in KEPT.items() if re.fullmatch(kind, name)), None)
            assert kept is not None, f"{path}: no such file is known: what may it hold, and who may read it?"
            modes, words = kept
            assert ownership(path) in modes, f"{path}: {ownership(path)}"
            assert set(holders.get(path, ())) <= words, f"{path} holds {holders[path]}"

    def look_as_anybody(self, places: list[Path]) -> None:
        """What a user without any right can read, of files and of libvirt's read-only socket."""
        anybody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
        find = [*anybody, "find", *map(str, places), "-type", "f", "-readable", "-print0"]
        readable = subprocess.run(find, capture_output=True, check=False).stdout.split(b"\0")
        for path in readable[:-1]:
            assert self.canaries.seen(Path(os.fsdecode(path)).read_bytes()) == {}, path
        listing = subprocess.run([*anybody, "ls", str(self.root)], capture_output=True, check=False)
        assert listing.returncode != 0, "anybody can list nebula_root"
        virsh = [*anybody, "virsh", "--readonly", "--connect", "qemu:///system"]
        names = subprocess.run([*virsh, "list", "--all", "--name"], capture_output=True, text=True, check=False)
        for name in names.stdout.split():
            xml = subprocess.run([*virsh, "dumpxml", name], capture_output=True, check=True).stdout
            assert b"<domain" in xml and self.canaries.seen(xml) == {}, name
        # Root sees as much, unless it asks for what is secret.
        for name in names.stdout.split():
            xml = subprocess.run(["virsh", "dumpxml", name], capture_output=True, check=True).stdout
            assert self.canaries.seen(xml) == {}, name

    def look_at_processes(self) -> None:
        """Nothing that outlives the run has any of it, not even what the run had in its environment."""
        for process in Path("/proc").iterdir():
            if not process.name.isdigit() or int(process.name) == os.getpid():
                continue
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                line = (process / "cmdline").read_bytes()
                assert self.canaries.seen(line + (process / "environ").read_bytes()) == {}, line


def ownership(path: Path) -> str:
    return f"{path.owner()}:{path.group()} {stat.S_IMODE(path.stat().st_mode):04o}"


def kept_by_a_controller(site: Guarded) -> None:
    """ansible-runner's job events, a log, a fact cache, reports of callbacks, retry files; syslog of the node; command
    lines of whatever runs meanwhile."""
    kept = site.directory / "controller"
    kept.mkdir()
    site.environment |= {
        "ANSIBLE_LOG_PATH": str(kept / "ansible.log"),
        "ANSIBLE_RETRY_FILES_ENABLED": "true",
        "ANSIBLE_RETRY_FILES_SAVE_PATH": str(kept / "retry"),
        "ANSIBLE_CALLBACKS_ENABLED": "junit,profile_tasks",
        "JUNIT_OUTPUT_DIR": str(kept / "junit"),
        "PATH": f"{site.programs}:{os.environ['PATH']}",
    }
    place = kept / "runner"
    place.mkdir()
    runner = [str(site.programs / "ansible-runner"), "run", str(place), "--ident", "job"]
    runner += ["--project-dir", str(site.checkout), "--inventory", str(site.inventory())]
    runner += ["-p", "site.yml", "-vvvv", "--cmdline=--diff"]
    with syslog(site.directory) as (prefix, lines), watched(site.canaries, environ=False) as processes:
        _code, output = site.execute([*prefix, *runner])
    events = job_events(place / "artifacts")
    tasks = {event["event_data"].get("task_action") for event in events if event["event"].startswith("runner_on_")}
    invoked = [line for line in lines if "Invoked with" in line]
    # What nebula_call calls is in the node's log; the tasks around machines call their modules themselves, unlogged.
    for module in ("nebula_image", "nebula_template", "nebula_vm"):
        assert any(re.search(rf"\b{module}\b", line) for line in invoked), (module, lines)
    for module in ("nebula_call", "nebula_vm_round"):
        assert f"nebula.provision.{module}" in tasks, output
    for option in ("templates=", "images="):
        assert any(option in line for line in invoked), lines
    assert site.machines() == {"web-0": RUNNING, "web-1": RUNNING}, output
    for kind in ("ansible.log", "junit/*.xml", "runner/artifacts/job/stdout"):
        assert list(kept.glob(kind)), f"{kind} was not kept: nothing is proven by it"
    # ansible-runner keeps the environment of its job, as it was told to run it.
    given = place / "artifacts/job/command"
    assert set(site.canaries.seen(given.read_bytes())) == {"environment", "proxy"}
    given.unlink()
    site.look(output, "\n".join(lines))
    assert processes.seen == {} and processes.known > 50 and processes.looks > 50, processes


def images_that_fail(site: Guarded) -> None:
    """Addresses with credentials that lead nowhere, each in another way, without pipelining and as root by become."""
    canaries = site.canaries
    user, word = canaries.core("url_user"), canaries.core("url_password")
    bad = {
        "missing": site.address("nowhere.raw"),
        "refused": site.address("halt.raw").replace(user, f"{user}x"),
        "redirected": site.address("moved.raw"),
        "looping": site.address("loop.raw"),
        "proxied": f"http://{user}:{word}@proxied.invalid/x.raw?{canaries.core('url_query')}",
        "port": f"http://{user}:{word}@127.0.0.1:{word}/x.raw",
        "scheme": f"ftp://{user}:{word}@{site.url}/x.raw",
        "slash": f"http://{user}:1/{word}@{site.url}/halt.raw",
        "hash": f"http://{user}:{word}#@{site.url}/halt.raw",
        "question": f"http://{user}:{word}?@{site.url}/halt.raw",
        "brackets": f"http://{user}:{word}@[{site.url}/halt.raw",
        "blanks": f" http://{user}:{word}@{site.url}/ha lt.raw",
        "lines": f"http://{user}:{word}@{site.url}/\r\nX-Other: {word}",
    }
    items: list[dict[str, Any]] = [{"name": name, "path": path} for name, path in bad.items()]
    items.append({"name": "checked", "path": site.address("halt.raw"), "checksum": "sha256:" + "0" * 64})
    items.append({"name": "cloned", "path": site.address("halt.raw"), "clone_of": "x"})
    items.append({"name": "slip", "pth": site.address("halt.raw")})
    arguments = ("-vvvv", "--diff", "-e", "ansible_pipelining=false", "-e", "ansible_become=true")
    code, output = site.run("site.yml", *arguments, nebula_images=items, nebula_vms=[])
    assert code != 0
    for name in (item["name"] for item in items):
        assert f"image {name}" in output, f"image {name} in\n{output}"
    site.look(output)
    catalog = "\n".join(str(row) for row in site.rows("SELECT * FROM images"))
    assert canaries.seen(catalog) == {} and "missing" in catalog


def machines_that_fail(site: Guarded) -> None:
    """Templates and machines that can't be, each holding secrets where they do not belong or beside what is wrong; no
    program that is started meanwhile, however shortly it lives, is told one."""
    canaries = site.canaries
    template = site.variables["nebula_templates"][0]["template"]
    word, plain = canaries["context_of_template"], canaries.core("context_of_template")
    bad_templates = {
        "unclosed": f'CPU = 1 CONTEXT = [ TOKEN = "{plain} ]',
        "unbracketed": f'CPU = 1 CONTEXT = [ TOKEN = "{plain}", {plain} ]',
        "size": {**template, "MEMORY": "lots"},
        "long": {**template, "GRAPHICS": {"TYPE": "VNC", "PASSWD": f"{canaries['vnc']}{canaries['vnc']}"}},
        "key": {**template, "CONTEXT": {"A B": word}},
        "flat": {**template, "CONTEXT": word},
        "nested": {**template, "CONTEXT": {"A": {"B": [word]}}},
        "listed": [word],
        "raw": {**template, "RAW": {"TYPE": "kvm", "DATA": f"<devices><{canaries.core('raw')}"}},
    }
    vm, script = canaries["context_of_vm"], canaries["start_script"]
    bad_vms: list[Any] = [
        site.machine(name="unknown", template="wbe"),
        site.machine(name="greedy", memory=99999999),
        site.machine(name="slip", stat="running"),
        site.machine(name="flat", context=f"PASSWORD={vm}"),
        site.machine(name="word", context={"A B": vm}),
        site.machine(name="nested", context={"A": {"B": [script]}}),
        site.machine(name="file", context={"FILES_DS": "$FILE[IMAGE=nosuch]", "PASSWORD": vm}),
        site.machine(name="text", attributes=f'GRAPHICS = [ PASSWD = "{canaries["vnc"]}'),
        site.machine(name="inject", inject=[{"path": "no/path", "content": canaries["inject"]}]),
        site.machine(name="cpu", attributes={"CPU_MODEL": {"MODEL": "nosuchcpu"}}),
        f"{{name: lost, password: {vm}}}",
        [vm],
    ]
    inventory = site.inventory(
        nebula_templates=[
            *site.variables["nebula_templates"],
            *({"name": name, "template": each} for name, each in bad_templates.items()),
            {"name": "slip", "tmplate": template},
            f"{{name: lost, template: {word}}}",
        ]
    )
    trace = site.private / "trace"
    strace = ["strace", "-f", "-qq", "--seccomp-bpf", "-e", "trace=execve,execveat", "-s", "1000000", "-o", str(trace)]
    playbook = [str(site.programs / "ansible-playbook"), "-vvvv", "--diff", "-i", str(inventory), "site.yml"]
    code, refused = site.execute(playbook)
    assert code != 0
    for name in (*bad_templates, "slip"):
        assert f"template {name}" in refused, f"template {name} in\n{refused}"
    site.look(refused)
    # Another value: what differs is told, and not from what to what.
    good = site.machine(name="web-%i", count=2, context={"PASSWORD": canaries["another"]})
    hosts = json.loads(site.inventory(nebula_vms=[good, *bad_vms]).read_text())
    far = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    hosts["nebula_nodes"]["hosts"]["node2"] = {**site.variables, **far}
    inventory.write_text(json.dumps(hosts))
    code, output = site.execute([*strace, *playbook])
    assert code != 0
    for name in (each["name"] for each in bad_vms if isinstance(each, dict)):
        assert f"VM {name}" in output, f"VM {name} in\n{output}"
    assert "CONTEXT" in output and "UNREACHABLE" in output, output
    started = trace.read_text()
    assert started.count("execve(") > 50 and "qemu-img" in started and canaries.seen(started) == {}
    trace.unlink()
    site.look(output)


@pytest.mark.timeout(900)
@in_bare_world
def test_secrets_are_only_where_the_guest_needs_them() -> None:
    canaries = Canaries(*PLACES, vnc=8)
    with serve() as web:
        web.credentials = f"{canaries.core('url_user')}:{canaries.core('url_password')}"
        web.files["/halt.raw"] = HALTING
        signed = f"signature={canaries.core('url_query')}"
        web.redirects = {"/moved.raw": f"{web.url}/gone.raw?{signed}", "/loop.raw": f"{web.url}/loop.raw?{signed}"}
        site = Guarded(web.url.removeprefix("http://"), canaries)
        images_that_fail(site)
        assert any("proxied.invalid" in path for path, _headers in web.requests), "the proxy was not asked"
        kept_by_a_controller(site)
        machines_that_fail(site)
        code, output = site.run("site.yml", "-vvvv")
        assert code == 0, output
        site.look(output)
        assert_consistent_here(str(site.root), unfinished=True)
        code, output = site.run("playbooks/teardown.yml", "-vvvv", "--diff")
        assert code == 0 and not site.root.exists(), output
        assert canaries.seen(output) == {}
