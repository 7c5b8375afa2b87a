# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of contexts from a front-end to a node with another root, by the modules themselves, and contexts that are
disks to their guests; on a real libvirtd."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from canaries import ways
from in_world import in_world
from web_server import serve

from ansible_collections.nebula.provision.plugins.module_utils.context import iso9660
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt import domain_xml
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.kvm import KvmDriver
from ansible_collections.nebula.provision.plugins.module_utils.model.context import Context
from ansible_collections.nebula.provision.tests.integration.kvm_node import a_node
from ansible_collections.nebula.provision.tests.integration.module_flow import HOST, Flow

SECRET = "Geheimnis-in-init"
TEMPLATE = """
CPU = 0.01
MEMORY = 32
OS = [ MACHINE = "pc" ]
DISK = [ IMAGE = "base", DEV_PREFIX = "vd" ]
CONTEXT = [ FILES = "%s", FILES_DS = "$FILE[IMAGE=\\"service.conf\\"]" ]
"""


class Apart(Flow):
    """The node has a root of its own: nothing but images is where the front-end has it."""

    def __init__(self, place: Path) -> None:
        super().__init__(place / "frontend", place / "sources")
        self.node = place / "node"
        place.chmod(0o711)

    def told_to(self, module: str, arguments: Any) -> str:
        far = {"root": str(self.node)} if module in ("nebula_node", "nebula_deploy") else {}
        return super().told_to(module, {**far, **arguments})

    def iso(self, vm_id: int) -> Path:
        return self.node / "datastores" / "0" / str(vm_id) / "disk.1"

    def contents(self) -> dict[str, Any]:
        return dict(json.loads(self.answers["nebula_vm"]["plans"][HOST])["contents"])


@contextmanager
def apart(url: str) -> Iterator[Apart]:
    place = Path(os.environ["NEBULA_WORLD"], f"apart-{uuid.uuid4().hex[:8]}")
    flow = Apart(place)
    (flow.place / "certificates").mkdir()
    (flow.place / "certificates" / "a.pem").write_text("A")
    (flow.place / "init.sh").write_text(f"#!/bin/sh\n# {SECRET}\n")
    (flow.place / "service.conf").write_text("port = 1\n")
    try:
        flow.run("nebula_frontend")
        flow.run("nebula_node", accelerator="qemu", manage_services=False)
        flow.run("nebula_host", hosts=[{"name": HOST, "memory": 65536, "cpu": 64}])
        images = [
            {"name": "base", "path": str(flow.base), "remote_src": True},
            {"name": "service.conf", "path": str(flow.place / "service.conf"), "remote_src": True, "type": "CONTEXT"},
        ]
        flow.run("nebula_image", images=json.dumps(images))
        named = f"{flow.place}/init.sh {flow.place}/certificates {url}/x/fetched.sh:start.sh"
        flow.run("nebula_template", name="web", template=TEMPLATE % named)
        yield flow
    finally:
        with contextlib.closing(KvmDriver()) as driver:
            for domain in driver._connection().listAllDomains():
                if domain.isActive():
                    domain.destroy()
                domain.undefine()
        shutil.rmtree(place, ignore_errors=True)


@in_world
def test_from_the_front_end_to_a_node_and_back_to_nothing() -> None:
    with serve() as site, apart(site.url) as flow:
        site.files["/x/fetched.sh"] = b"one"
        web = {"name": "web-%i", "count": 2, "template": "web"}
        foreseen = flow.attempt("nebula_vm", **flow.decision(web), _ansible_check_mode=True)
        assert foreseen["changed"] and not foreseen.get("failed") and site.requests == []
        text = json.dumps(flow.bring(web)) + json.dumps({**flow.answers["nebula_deploy"], "diff": None})
        assert not ways(SECRET, text) and len(site.requests) == 1
        # Two texts of one byte would be one content.
        assert len(flow.contents()) == 4
        for vm_id in (0, 1):
            assert iso9660.read_iso(str(flow.iso(vm_id)))[1] == {
                "init.sh": len(f"#!/bin/sh\n# {SECRET}\n"), "certificates/a.pem": 1, "start.sh": 3, "service.conf": 9
            }  # fmt: skip
        for path in (*(flow.node / "cache").iterdir(), *(flow.root / "files").iterdir(), flow.iso(0)):
            assert not stat.S_IMODE(path.stat().st_mode) & 0o027, path
        # More machines of the same files: nothing is fetched or sent again.
        site.files.clear()
        own = {"FILES": f"{flow.place}/init.sh"}
        flow.bring(dict(web, count=3, context=own), {"name": "other", "template": "web", "context": own})
        assert flow.contents() == {} and len(site.requests) == 1
        # A node that lost what it kept says so, keeps its machines, and has it after the next run.
        (flow.place / "init.sh").write_text("#!/bin/sh\necho\n")
        web = dict(web, count=3, context={**own, "A": "b"})
        flow.decide(web)
        assert len(flow.contents()) == 1
        plan = json.loads(flow.answers["nebula_vm"]["plans"][HOST])
        told = flow.attempt("nebula_deploy", host=HOST, state="applied", plan=json.dumps({**plan, "contents": {}}))
        assert told["failed"] and "not on this node any more" in json.dumps(told["errors"])
        assert {seen["state"] for seen in told["observed"]["vms"]} == {"RUNNING"}
        flow.record()
        assert [vm["state"] for vm in flow.bring(web)["vms"]] == ["RUNNING"] * 3
        assert iso9660.read_iso(str(flow.iso(0)))[1]["init.sh"] == len("#!/bin/sh\necho\n")
        # A file that goes is the error of those that want it anew.
        (flow.place / "init.sh").unlink()
        refused = flow.attempt("nebula_vm", **flow.decision({"name": "new", "template": "web", "context": own}, web))
        assert [error["name"] for error in refused["errors"]] == ["new"] and "init.sh" in refused["msg"]
        flow.bring(
            {"name": "web-%i", "state": "absent", "hard": True}, {"name": "other", "state": "absent", "hard": True}
        )
        flow.run("nebula_node", state="absent", manage_services=False)
        flow.run("nebula_frontend", state="absent")
        assert [path for path in (flow.node, flow.root) if path.exists()] == []


@in_world
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_a_run_opens_each_file_once() -> None:
    with serve() as site, apart(site.url) as flow:
        site.files["/x/fetched.sh"] = b"one"
        trace = flow.place / "trace"
        arguments = flow.decision({"name": "web-%i", "count": 50, "template": "web"})
        flow.prefix = ["strace", "-f", "-e", "trace=openat", "-o", str(trace)]
        flow.run("nebula_vm", **arguments)
        opened = re.findall(r'"([^"]*)".* = \d+$', trace.read_text(errors="replace"), re.M)
        assert opened.count(f"{flow.place}/init.sh") == opened.count(f"{flow.place}/certificates/a.pem") == 1
        assert len(site.requests) == 1


@in_world
def test_a_context_that_is_a_disk() -> None:
    with a_node() as node:
        vm = node.vm(1)
        vm = replace(vm, context=Context(1, "sdc", "scsi", {"HOSTNAME": "web"}, device="disk"))
        made = node.one(vm)
        assert made.error is None, made
        xml = node.domain(vm).XMLDesc()
        assert '<target dev="sdc" bus="scsi"/>' in xml.replace("'", '"') and "cdrom" not in xml
        iso = node.directory(vm) / "disk.1"
        before = iso.stat().st_ino

        def opened() -> list[int]:
            return [os.stat(path).st_ino for path in Path(f"/proc/{node.qemu(vm)}/fd").iterdir() if path.exists()]

        assert before in opened()
        # Why it is not changed as a CDROM is.
        import libvirt

        medium = domain_xml.context_medium(vm, str(node.base))
        with pytest.raises(libvirt.libvirtError, match=r"source|change|modify"):
            node.domain(vm).updateDeviceFlags(medium, libvirt.VIR_DOMAIN_AFFECT_LIVE)
        other = replace(vm, context=Context(1, "sdc", "scsi", {"HOSTNAME": "other"}, device="disk"))
        outcome = node.one(other)
        assert outcome.changed and any("started the next time" in line for line in outcome.log)
        # The guest keeps what it has, whole.
        assert before in opened() and iso.stat().st_ino != before
        assert not node.one(other).changed
        node.one(other, "POWEROFF", hard=True)
        node.one(other)
        assert iso.stat().st_ino in opened()


@in_world
def test_a_node_that_is_audited_knows_its_cache() -> None:
    with a_node() as node:
        node.one(node.vm(1))
        (Path(node.root) / "cache").mkdir()
        (Path(node.root) / "cache" / f"context-{'0' * 64}").touch()
        node.assert_consistent()
