# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that turn against the other host of a move, and strangers who come to where machines are taken in. Whatever
they try, the machine runs once, nothing else of the other host is reached, and a run with honest hosts ends the
move."""

from __future__ import annotations

import json
import os
import re
import subprocess
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from in_world import in_nodes

from ansible_collections.nebula.provision.plugins.module_utils.model.defaults import MOVE_PORT
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.move import (
    COLD,
    HAS_ARRIVED,
    HAS_LEFT,
    HAS_STAYED,
    IS_ABSENT,
    LIVE,
    Leftover,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Plan, VmOutcome
from ansible_collections.nebula.provision.tests.integration.fleet import (
    ROOT,
    Acting,
    Fleet,
    a_fleet,
    key_pair,
    outcomes_of,
    token_of,
)
from ansible_collections.nebula.provision.tests.integration.kvm_node import BOOTED, GUEST, wait_for

SOURCE, TARGET, STRANGER = "node1", "node2", "node3"
# More than waits in sockets.
DATA = 24 << 20

# --- strangers --------------------------------------------------------------------------------------------------------

# Connects as each of those that are described, and prints what each heard.
_STRANGER = """
import json, os, socket, ssl, sys
asked = json.load(sys.stdin)

def connected():
    return socket.create_connection((asked["address"], asked["port"]), 20)

def heard(each):
    with connected() as plain:
        if "bytes" in each:
            plain.sendall(each["bytes"].encode())
            return plain.recv(4096)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if each.get("certificate"):
            with os.fdopen(os.memfd_create("pair"), "w") as file:
                file.write(each["certificate"] + each["key"])
                file.flush()
                context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
        with context.wrap_socket(plain) as stream:
            stream.sendall(json.dumps(each["hello"]).encode() + b"\\n")
            return stream.recv(4096)

answers = {}
for name, each in asked["strangers"].items():
    try:
        answers[name] = heard(each).decode(errors="replace")
    except OSError as error:
        answers[name] = f"refused: {error}"
print(json.dumps(answers))
"""
_WELCOME = '{"welcome": true}'


def openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


def ended_pair(name: str) -> tuple[str, str]:
    """Certificate and key of a host, which were valid for a day of 2020."""
    place = Path(os.environ["NEBULA_WORLD"], f"ended-{uuid.uuid4().hex}")
    place.mkdir()
    key, asks, certificate = (str(place / each) for each in ("key", "asks", "certificate"))
    openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj",
            f"/CN={name}", "-keyout", key, "-out", asks)  # fmt: skip
    (place / "index").write_text("", encoding="ascii")
    (place / "serial").write_text("01", encoding="ascii")
    (place / "settings").write_text(
        f"[ca]\ndefault_ca=own\n[own]\ndatabase={place}/index\nserial={place}/serial\nnew_certs_dir={place}\n"
        "default_md=sha256\npolicy=any\n[any]\ncommonName=supplied\n",
        encoding="ascii",
    )
    openssl("ca", "-batch", "-selfsign", "-config", str(place / "settings"), "-keyfile", key, "-in", asks, "-out",
            certificate, "-startdate", "200101000000Z", "-enddate", "200102000000Z")  # fmt: skip
    return re.sub(r".*?(?=-----BEGIN)", "", Path(certificate).read_text(), flags=re.DOTALL), Path(key).read_text()


def signed_by(pair: tuple[str, str], name: str) -> tuple[str, str]:
    """Certificate and key that another one has signed, as an authority would."""
    place = Path(os.environ["NEBULA_WORLD"], f"signed-{uuid.uuid4().hex}")
    place.mkdir()
    for file, text in zip(("ca", "ca.key"), pair):
        (place / file).write_text(text, encoding="ascii")
    key, asks, certificate = (str(place / each) for each in ("key", "asks", "certificate"))
    openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj",
            f"/CN={name}", "-keyout", key, "-out", asks)  # fmt: skip
    openssl("x509", "-req", "-in", asks, "-CA", str(place / "ca"), "-CAkey", str(place / "ca.key"), "-set_serial", "7",
            "-days", "2", "-out", certificate)  # fmt: skip
    return Path(certificate).read_text(), Path(key).read_text()


def patient(plan: Plan) -> Plan:
    """However busy the machine is that all of them share."""
    vms = [replace(each, move=replace(each.move, meeting=60)) for each in plan.vms if each.move is not None]
    return replace(plan, vms=tuple(vms))


@pytest.mark.timeout(300)
@in_nodes(3)
def test_strangers_get_no_further_than_tls() -> None:
    with a_fleet() as fleet:
        one, other, third = fleet.vm(1), fleet.vm(2), fleet.vm(3)
        for host, vm in ((SOURCE, one), (TARGET, other), (STRANGER, third)):
            assert fleet.bring(host, vm)[0].error is None
            fleet.wait_for_boot(host, vm)
        pid = pid_of(fleet, TARGET, 2)
        # Two moves to the same host by one plan: the third host has every right to its own, and none to the first's.
        first, second = fleet.moves(SOURCE, TARGET, one), fleet.moves(STRANGER, TARGET, third)
        both = replace(
            second[TARGET],
            vms=(*first[TARGET].vms, *second[TARGET].vms),
            moving=(*first[TARGET].moving, *second[TARGET].moving),
        )
        taking = fleet.act({TARGET: patient(both)})[TARGET]
        wait_for(lambda: is_open(fleet, TARGET), "the door to open")
        mine, others = (token_of(vm, plans[TARGET].number) for vm, plans in ((third, second), (one, first)))

        def shown(pair: tuple[str, str], token: str = others, channel: str = "talk") -> dict[str, Any]:
            return {"certificate": pair[0], "key": pair[1], "hello": {"token": token, "channel": channel}}

        strangers = {
            "no TLS": {"bytes": f'{{"token": "{others}", "channel": "talk"}}\n'},
            "HTTP": {"bytes": "GET / HTTP/1.1\r\n\r\n"},
            "no certificate": {"hello": {"token": others, "channel": "talk"}},
            "its own": shown(key_pair("anybody")),
            "its own, with the source's name": shown(key_pair(SOURCE)),
            "one that has ended": shown(ended_pair(SOURCE)),
            "one that the source has signed": shown(signed_by(fleet.pairs[SOURCE], SOURCE)),
            "the target's": shown(fleet.pairs[TARGET]),
            **{f"another move's, for {each}": shown(fleet.pairs[STRANGER], channel=each)
               for each in ("talk", "control", "memory", "disks")},
            "no move's": shown(fleet.pairs[STRANGER], "0" * 32),
            "no channel": shown(fleet.pairs[STRANGER], mine, "monitor"),
        }  # fmt: skip
        asked = {"address": fleet.hosts[TARGET].address, "port": MOVE_PORT, "strangers": strangers}
        answers = Acting(fleet.hosts[STRANGER], _STRANGER, asked).result()
        assert answers is not None and set(answers) == set(strangers)
        assert {name: said for name, said in answers.items() if said and not said.startswith("refused:")} == {}
        # The door knows its own all the same.
        right = {**asked, "strangers": {"the right one": shown(fleet.pairs[STRANGER], mine, "memory")}}
        answers = Acting(fleet.hosts[STRANGER], _STRANGER, right).result()
        assert answers is not None and answers["the right one"].startswith(_WELCOME)
        acting = fleet.act({SOURCE: first[SOURCE], STRANGER: second[STRANGER]})
        for host, each in acting.items():
            assert [outcome.moved for outcome in outcomes_of(each.result())] == [HAS_LEFT], host
        assert [outcome.moved for outcome in outcomes_of(taking.result())] == [HAS_ARRIVED, HAS_ARRIVED]
        assert not is_open(fleet, TARGET)
        assert fleet.states(TARGET) == {1: "RUNNING", 2: "RUNNING", 3: "RUNNING"}
        assert (fleet.states(SOURCE), fleet.states(STRANGER)) == ({}, {})
        assert pid_of(fleet, TARGET, 2) == pid
        for vm in (one, other, third):
            assert fleet.console(TARGET, vm).count(BOOTED) == 1


def is_open(fleet: Fleet, host: str) -> bool:
    listening = fleet.hosts[host].run("ss", "-Htln", f"sport = :{MOVE_PORT}").stdout
    return bool(listening.strip())


def pid_of(fleet: Fleet, host: str, number: int) -> str:
    """Of a machine's QEMU."""
    return fleet.hosts[host].run("cat", f"/run/libvirt/qemu/one-{number}.pid").stdout


# --- a host that turns ------------------------------------------------------------------------------------------------

# What precedes the module on a host that does not do as it should: all but this is as it is with honest ones.
_TURNED = """
import json, os, re, subprocess, sys, threading, time
from dataclasses import replace
_UTILS = "ansible_collections.nebula.provision.plugins.module_utils."
from importlib import import_module
errors = import_module(_UTILS + "errors")
arrival = import_module(_UTILS + "hypervisors.carry_out.arrival")
departure = import_module(_UTILS + "hypervisors.carry_out.departure")
file_streams = import_module(_UTILS + "hypervisors.moves.file_streams")
migration = import_module(_UTILS + "hypervisors.libvirt.migration")
passage = import_module(_UTILS + "hypervisors.moves.passage")
Channel = passage.Channel

def alters(change):
    honest = Channel.send
    def send(self, **message):
        honest(self, **(change(message) or message))
    Channel.send = send

def offers(change):
    alters(lambda message: change(message) if "way" in message else None)

def tunnels(change):
    # By channel what is sent in place of a block.
    honest = passage.relay
    def relay(left, right, inspect=bytes, going=lambda: True, early=(b"", b""), answers=bytes):
        name = threading.current_thread().name.removeprefix("tunnel ")
        honest(left, right, change.get(name, inspect), going, early, answers)
    passage.relay = relay
"""


_OTHERS = f"""
pgrep -ox libvirtd
cat /run/libvirt/qemu/one-2.pid; echo
virsh list --name --state-running | grep -v one-1
virsh list --name --all | grep -v one-1
for each in one-2 one-3; do virsh dumpxml $each; done
virsh net-list --all --name
virsh pool-list --all --name
ls {ROOT} | grep -v moves
ls {ROOT}/datastores/0 | grep -vx 1
ls -A /etc/cron.d /root
ss -Htln | awk '{{print $4}}' | sort
"""


class Scene:
    """A machine that is to move, and on its target two that nobody else has to do with: one runs, and one is off."""

    def __init__(self, fleet: Fleet, with_data: bool = False) -> None:
        self.fleet = fleet
        vm = fleet.vm(1)
        data = Disk(1, "vdb", type="FS", size=DATA >> 20, format="raw", driver="raw")
        self.vm = replace(vm, disks=(*vm.disks, data)) if with_data else vm
        self.content = os.urandom(DATA) if with_data else b""
        if with_data:
            fleet.bring(SOURCE, self.vm, wanted="POWEROFF")
            (fleet.directory(SOURCE, self.vm) / "disk.1").write_bytes(self.content)
        assert fleet.bring(SOURCE, self.vm)[0].error is None
        idle = fleet.hosts[TARGET].path(f"{ROOT}/idle.raw")
        idle.write_bytes(GUEST.ljust(1 << 20, b"\0"))
        idle.chmod(0o444)
        disk = replace(fleet.vm(2).disks[0], source=f"{ROOT}/idle.raw", format="raw")
        self.runs, self.off = fleet.vm(2, disks=(disk,)), fleet.vm(3)
        assert fleet.bring(TARGET, self.runs)[0].error is None
        assert fleet.bring(TARGET, self.off, wanted="POWEROFF")[0].error is None
        for host, each in ((SOURCE, self.vm), (TARGET, self.runs)):
            fleet.wait_for_boot(host, each)
        self.before = self.others()
        self.plans: Mapping[str, Plan] = {}

    def others(self) -> str:
        """What a host that gives a machine away has no business with."""
        return self.fleet.hosts[TARGET].run("sh", "-c", _OTHERS).stdout

    def move(self, way: str, limit: int = 60, source: str = "", target: str = "") -> tuple[VmOutcome, VmOutcome]:
        """source, target: what makes that host another one than it is."""
        plans = self.fleet.moves(SOURCE, TARGET, self.vm, way=way, limit=limit, hard=way == COLD)
        self.plans = {host: patient(plan) for host, plan in plans.items()}
        turned = {host: _TURNED + text for host, text in ((SOURCE, source), (TARGET, target)) if text}
        acting = self.fleet.act(self.plans, turned)
        left, came = (outcomes_of(acting[host].result())[0] for host in (SOURCE, TARGET))
        return left, came

    def find_kept(self, what: str) -> None:
        """It runs where it was, and nothing else has changed."""
        for host, expected in ((SOURCE, ["one-1"]), (TARGET, ["one-2"])):
            running = self.fleet.hosts[host].run("virsh", "list", "--name").stdout.split()
            assert running == expected, (what, host, running)
        assert not self.fleet.directory(TARGET, self.vm).exists(), what
        now = self.others()
        assert now == self.before, (what, now)

    def find_ended(self) -> None:
        """Runs with honest hosts end what was tried, and then the machine moves."""
        fleet = self.fleet
        assert fleet.settle(self.plans, self.vm) == SOURCE
        assert fleet.states(SOURCE) == {1: "RUNNING"}
        polled = fleet.poll(TARGET)
        assert {each["vm_id"]: each["state"] for each in polled["vms"]} == {2: "RUNNING", 3: "POWEROFF"}
        assert polled["moves"] == []
        for host in (SOURCE, TARGET):
            assert fleet.hosts[host].run("ls", "/run/libvirt/nebula-moves", check=False).stdout == "", host
        assert self.data(SOURCE) == self.content
        left, came = self.move(LIVE)
        assert (left.error, left.moved) == (None, HAS_LEFT)
        assert (came.error, came.moved, came.state) == (None, HAS_ARRIVED, "RUNNING")
        assert (fleet.states(SOURCE), fleet.states(TARGET)) == ({}, {1: "RUNNING", 2: "RUNNING", 3: "POWEROFF"})
        assert self.data(TARGET) == self.content

    def data(self, host: str) -> bytes:
        return (self.fleet.directory(host, self.vm) / "disk.1").read_bytes() if self.content else b""


def text_of(outcome: VmOutcome) -> str:
    """Of an error that says what was asked and found, and what to do."""
    error = outcome.error
    assert error is not None and error["asked"] and error["found"] and error["remedy"], error
    assert len(json.dumps(error)) < 8192
    return f"{error['asked']}: {error['found']}. {error['remedy']}"


# What the source says of a machine that runs, and what the target's error has.
FORGED = "that it has left, and keeps it"
OFFERS = {
    "another machine": (
        """offers(lambda m: {**m, "definition": re.sub("<uuid>[^<]*", "<uuid>ANOTHER", m["definition"])})""",
        "offers another machine",
    ),
    "a device of the host": (
        """offers(lambda m: {**m, "definition": m["definition"].replace("</devices>",
           "<hostdev mode='subsystem' type='usb'><source><address bus='1' device='1'/></source></hostdev>"
           "</devices>")})""",
        "hostdev",
    ),
    "words for QEMU": (
        """offers(lambda m: {**m, "definition": m["definition"].replace("</domain>",
           "<q:commandline xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><q:arg value='-S'/></q:commandline>"
           "</domain>")})""",
        "commandline",
    ),
    "devices without end": (
        """offers(lambda m: {**m, "definition": m["definition"].replace("</devices>",
           "<x>" * 200000 + "</x>" * 200000 + "</devices>")})""",
        "a document of another kind",
    ),
    "entities of entities": (
        """offers(lambda m: {**m, "definition": "<!DOCTYPE d [<!ENTITY a 'aaaaaaaaaa'>" + "".join(
           f"<!ENTITY a{n} '{('&a' + str(n - 1 or '') + ';') * 10}'>" for n in range(1, 10)) + "]>"
           + m["definition"].replace("</name>", "&a9;</name>")})""",
        "a document of another kind",
    ),
    "a message without end": (
        """offers(lambda m: {**m, "definition": "x" * (16 << 20)})""",
        "what is no message",
    ),
    "messages in messages": (
        """honest = Channel.send
def send(self, **message):
    self.send_bytes(b"[" * 100000 + b"]" * 100000 + b"\\n") if "way" in message else honest(self, **message)
Channel.send = send""",
        "what is no message",
    ),
    "a longer disk": (
        """offers(lambda m: {**m, "disks": [{**each, "size": each["size"] * 2} for each in m["disks"]]})""",
        "MiB on its host, and",
    ),
    "a disk without end": (
        """offers(lambda m: {**m, "disks": [{**m["disks"][0], "size": 10 ** 300}]})""",
        "no move",
    ),
    "that it has left at once": (
        """offers(lambda m: {**m, "moved": True, "left": True, "arrived": True, "way": ""})""",
        "no move",
    ),
    FORGED: (
        """migration.depart = lambda *words: None
alters(lambda m: {**m, "left": True} if "moved" in m else None)""",
        "it has stayed on its host",
    ),
}


@pytest.mark.timeout(900)
@in_nodes(2)
def test_what_a_hostile_source_offers_is_refused() -> None:
    with a_fleet() as fleet:
        scene = Scene(fleet)
        for what, (turned, found) in OFFERS.items():
            left, came = scene.move(LIVE, source=turned.replace("ANOTHER", scene.runs.uuid))
            assert came.moved == IS_ABSENT, (what, came)
            assert re.search(found, text_of(came)), (what, came.error)
            # One says that it has given the machine away, which nobody has got.
            assert left.moved == (HAS_LEFT if what == FORGED else HAS_STAYED), (what, left)
            scene.find_kept(what)
        # A user's word: it runs there.
        assert fleet.bring(SOURCE, scene.vm)[0].error is None
        scene.move(LIVE, source=OFFERS["words for QEMU"][0])
        scene.find_ended()


# What the source's libvirtd asks of the target's, and what QEMU sends. What is put in place of something is as long.
_ALTERED = """
tunnels({"control": lambda block: block.replace(%r, %r)})
"""
ASKS = {
    "another machine": (_ALTERED % (b"<name>one-1<", b"<name>one-2<"), "another definition than was agreed upon"),
    "another's disk": (_ALTERED % (b"datastores/0/1/disk.0", b"datastores/0/2/disk.0"), "another definition"),
    "another program": (_ALTERED % (b"qemu-system-x86_64<", b"qemu-system-x86-64<"), "another definition"),
    "a name of its own": (_ALTERED % (b"destination_xml", b"destination_xxl"), "belongs to no move"),
    "to start it at once": (
        """honest = migration.flags_of
migration.flags_of = lambda *words: honest(*words) & ~32""",
        "with the flags",
    ),
    "to be defined there": (
        """honest = migration.flags_of
migration.flags_of = lambda *words: honest(*words) | 8""",
        "with the flags",
    ),
    "that QEMU listens for anybody": (
        """honest = migration._uris
migration._uris = lambda *words: {**honest(*words), "migrate_uri": "tcp://10.77.0.2:49200"}""",
        "migrate_uri",
    ),
    "that its disks are for anybody": (
        """honest = migration._uris
migration._uris = lambda *words: {**honest(*words), "disks_uri": "tcp://10.77.0.2:49200"}""",
        "disks_uri",
    ),
    "garbage": (
        """tunnels({"control": lambda block: os.urandom(len(block))})""",
        "a message of|call|belongs to no move",
    ),
}
GARBLED = {
    "its memory": """tunnels({"memory": lambda block: os.urandom(len(block))})""",
    "its disks": """tunnels({"disks": lambda block: os.urandom(len(block))})""",
    "an end of its memory": """tunnels({"memory": lambda block: (_ for _ in ()).throw(OSError("cut"))})""",
}
# By libvirt's own client, through the connection of the move.
WORDS = (
    "list --all --name",
    "destroy one-2",
    "start one-3",
    "undefine one-3",
    "dumpxml one-2 --security-info",
    "qemu-monitor-command one-2 --hmp info_block",
)
_SPEAKS = """
def depart(lv, domain, vm, departure, owner, asked):
    with passage.tunnels({"control": "/run/hostile"}, departure.caller, 0):
        command = ["virsh", "-c", "qemu+unix:///system?socket=/run/hostile", *%r.split()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    raise errors.HypervisorError(asked, f"virsh ended with {done.returncode}: {done.stdout.strip()!r}", "")
migration.depart = depart
"""


@pytest.mark.timeout(900)
@in_nodes(2)
def test_what_a_hostile_source_asks_of_libvirt_does_not_reach_it() -> None:
    with a_fleet() as fleet:
        scene = Scene(fleet)
        for what, (turned, found) in ASKS.items():
            left, came = scene.move(LIVE, source=turned)
            assert (left.moved, came.moved) == (HAS_STAYED, IS_ABSENT), (what, left, came)
            assert re.search(found, text_of(came)), (what, came.error)
            assert "Nothing of it reached libvirtd" in text_of(came), (what, came.error)
            scene.find_kept(what)
        for what, turned in GARBLED.items():
            left, came = scene.move(LIVE, source=turned)
            assert (left.moved, came.moved) == (HAS_STAYED, IS_ABSENT), (what, left, came)
            assert text_of(left) and text_of(came), what
            scene.find_kept(what)
        for words in WORDS:
            left, came = scene.move(LIVE, source=_SPEAKS % words)
            assert (left.moved, came.moved) == (HAS_STAYED, IS_ABSENT), (words, left, came)
            assert "virsh ended with 1: ''" in (left.error or {})["found"], (words, left.error)
            assert "Nothing of it reached libvirtd" in text_of(came), (words, came.error)
            scene.find_kept(words)
        scene.find_ended()


# A file that qemu-img made on the source in place of a disk's.
_NAMES = """
honest = file_streams.send
def send(channel, name, path, limit, most=None):
    if name == "disk.0":
        path = "/run/hostile.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", %s, path, "1M"], check=True)
    honest(channel, name, path, limit, most)
file_streams.send = send
"""
# What comes of a machine that is off: by whose name, and how much of it.
FILES = {
    "a file elsewhere": (
        """honest = file_streams.send
file_streams.send = lambda channel, name, *words: honest(channel, "../../../../etc/cron.d/hostile", *words)""",
        "no move",
    ),
    "another machine's disk": (
        """honest = file_streams.send
file_streams.send = lambda channel, name, *words: honest(channel, "../2/disk.0", *words)""",
        "no move",
    ),
    "its record": (
        """honest = file_streams.send
file_streams.send = lambda channel, name, *words: honest(channel, "vm.json", *words)""",
        "no move",
    ),
    "a file twice": (
        """honest = file_streams.send
def send(channel, name, *words):
    honest(channel, name, *words)
    honest(channel, name, *words)
file_streams.send = send""",
        "no move",
    ),
    "a file without end": (
        """honest = file_streams.send
def send(channel, name, path, limit, most=None):
    if not name.startswith("disk."):
        return honest(channel, name, path, limit, most)
    channel.send(file=name, size=1 << 40)
    while True:
        channel.send_bytes(bytes(1 << 20))
file_streams.send = send""",
        "of another size",
    ),
    "more than was announced": (
        """honest = file_streams.send
def send(channel, name, path, limit, most=None):
    if not name.startswith("disk."):
        return honest(channel, name, path, limit, most)
    channel.send(file=name, size=4096)
    channel.send(at=0, length=1 << 30)
    while True:
        channel.send_bytes(bytes(1 << 20))
file_streams.send = send""",
        "of another size",
    ),
    "a disk whose data is in another file": (
        _NAMES % '"-o", "data_file=/run/hostile.raw,data_file_raw=on"',
        "data file|another file|/run/hostile.raw",
    ),
    "a record without end": (
        """offers(lambda m: {**m, "record": {**m["record"], "context": "x" * (1 << 20)}})""",
        "no move",
    ),
    "a record of numbers": ("""offers(lambda m: {**m, "record": {key: 7 for key in m["record"]}})""", "no move"),
    "not all of its disks": (
        """honest = file_streams.send
file_streams.send = lambda channel, name, *words: honest(channel, name, *words) if "disk" not in name else None""",
        "did not come as a whole",
    ),
}


@pytest.mark.timeout(900)
@in_nodes(2)
def test_files_of_a_hostile_source_go_nowhere_else() -> None:
    with a_fleet() as fleet:
        scene = Scene(fleet)
        for what, (turned, found) in FILES.items():
            left, came = scene.move(COLD, source=turned)
            assert (left.moved, came.moved) == (HAS_STAYED, IS_ABSENT), (what, left, came)
            assert re.search(found, text_of(came)), (what, came.error)
            scene.find_kept(what)
        # Whatever a disk says that it rests on, it rests on this host's image.
        left, came = scene.move(COLD, source=_NAMES % '"-b", "/etc/shadow", "-F", "raw"')
        assert (left.moved, came.moved, came.error) == (HAS_LEFT, HAS_ARRIVED, None)
        shown = fleet.hosts[TARGET].run("qemu-img", "info", "-U", f"{ROOT}/datastores/0/1/disk.0").stdout
        assert re.search(rf"^backing file: {fleet.base}", shown, re.MULTILINE) and "shadow" not in shown, shown
        assert scene.others() == scene.before


# What the target answers to a machine that runs, and what the source's error has.
_ANSWERS = """
def take_in(job, move, meeting):
    channel = meeting.wait(move.meeting, "it")
    channel.receive(60)
    %s
    while True:
        channel.receive(60)
arrival.take_in = take_in
"""
_ACCEPTS = """alters(lambda m: {**m, "definition": %s} if "definition" in m else None)"""
SAYS = {
    "that it has arrived": (_ANSWERS % "channel.send(arrived=True, kept=True)", "something else than it was asked"),
    "without end": (_ANSWERS % "channel.send_bytes(b'x' * (64 << 20))", "what is no message"),
    "messages in messages": (_ANSWERS % "channel.send_bytes(b'[' * 100000 + b']' * 100000 + b'\\n')", "no message"),
    "nothing, and closes it": (_ANSWERS % "channel.close()", "connection to the other host is lost"),
    "an error without end": (
        _ANSWERS
        % "channel.send(refused={'kind': ['x'] * 1000, 'asked': 'x' * 100000, 'found': '\\x1b[2J{{ lookup(1) }}'"
        " * 9999, 'remedy': {'x': 'y' * 9999}})",
        "lookup",
    ),
    "another machine": (_ACCEPTS % """m["definition"].replace("one-1<", "one-2<")""", ""),
    "another UUID": (
        _ACCEPTS
        % """re.sub("<uuid>[^<]*", "<uuid>" + "0" * 8 + "-1111-4111-8111-" + "1" * 12,
        m["definition"])""",
        "",
    ),
    "devices without end": (
        _ACCEPTS % """m["definition"].replace("</devices>", "<x>" * 100000 + "</x>" * 100000 + "</devices>")""",
        "",
    ),
    "entities of entities": (
        _ACCEPTS
        % """("<!DOCTYPE d [<!ENTITY a 'aaaaaaaaaa'>" + "".join(
           f"<!ENTITY a{n} '{('&a' + str(n - 1 or '') + ';') * 10}'>" for n in range(1, 10)) + "]>"
           + m["definition"].replace("</name>", "&a9;</name>"))""",
        "",
    ),
    "firmware of its choice": (
        _ACCEPTS % """m["definition"].replace("<os>", "<os firmware='efi'>")""",
        "",
    ),
    "no definition": (_ACCEPTS % "[None] * 1000", ""),
    "words while its memory comes": (
        """alters(lambda m: None)
honest = Channel.send
def send(self, **message):
    honest(self, **message)
    if "definition" in message:
        honest(self, arrived=True, kept=True)
Channel.send = send""",
        "",
    ),
}
_SILENT = """
def take_in(job, move, meeting):
    channel = meeting.wait(move.meeting, "it")
    channel.receive(60)
    %s
    while True:
        channel._more(600)
arrival.take_in = take_in
"""


@pytest.mark.timeout(900)
@in_nodes(2)
def test_a_source_keeps_its_machine_whatever_a_hostile_target_says() -> None:
    with a_fleet() as fleet:
        scene = Scene(fleet)
        daemon = fleet.hosts[SOURCE].run("pgrep", "-ox", "libvirtd").stdout
        for what, (turned, found) in SAYS.items():
            left, _came = scene.move(LIVE, target=turned)
            assert left.moved == HAS_STAYED, (what, left)
            assert re.search(found, text_of(left)), (what, left.error)
            assert fleet.hosts[SOURCE].run("pgrep", "-ox", "libvirtd").stdout == daemon, what
            scene.find_kept(what)
        # A limit of ten minutes is one as well, and would be waited for here.
        hurried = "departure.ANSWER_SECONDS = 3.0\n"
        for what in (
            "pass",
            "channel.send(shared=False)",
            "channel.send(shared=False); channel.send(definition='<x/>')",
        ):
            left, _came = scene.move(LIVE, source=hurried, target=_SILENT % what)
            assert left.moved == HAS_STAYED, (what, left)
            assert text_of(left), what
            scene.find_kept(what)
        assert fleet.console(SOURCE, scene.vm).count(BOOTED) == 1
        scene.find_ended()


@pytest.mark.timeout(600)
@in_nodes(2)
def test_a_hostile_target_gets_no_file_removed_that_it_has_not_got() -> None:
    with a_fleet() as fleet:
        scene = Scene(fleet, with_data=True)
        early = "channel.send(shared=False); channel.send(kept=True); channel.send(arrived=True); channel.close()"
        left, _came = scene.move(COLD, target=_ANSWERS % early)
        assert left.moved == HAS_STAYED, left
        assert "connection to the other host is lost" in text_of(left)
        scene.find_kept("that it has arrived before it came")
        assert scene.data(SOURCE) == scene.content
        scene.find_ended()


@pytest.mark.timeout(600)
@in_nodes(2)
def test_files_that_a_hostile_target_says_to_see_stay() -> None:
    """That it has the machine is its word; with it go no files that were not sent."""
    with a_fleet() as fleet:
        scene = Scene(fleet, with_data=True)
        forged = "channel.send(shared=True); channel.receive(60); channel.send(kept=True); channel.send(arrived=True)"
        left, _came = scene.move(COLD, target=_ANSWERS % forged)
        assert left.moved == HAS_LEFT, left
        assert fleet.states(SOURCE) == {}
        assert scene.data(SOURCE) == scene.content
        leftovers = (Leftover(1, scene.vm.uuid, token_of(scene.vm, scene.plans[SOURCE].number)),)
        fleet.act({SOURCE: fleet.plan(SOURCE, leftovers=leftovers)})[SOURCE].result()
        assert scene.data(SOURCE) == scene.content
        assert scene.others() == scene.before
