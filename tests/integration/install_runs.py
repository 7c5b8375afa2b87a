# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Role install_os as runs of single modules with a real libvirtd: what the tests of installations have in common."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from auditor import assert_consistent_here

from ansible_collections.nebula.provision.plugins.filter.installer_isos import installer_isos
from ansible_collections.nebula.provision.tests.integration.guests import fake_installer
from ansible_collections.nebula.provision.tests.integration.module_flow import HOST, RUN, Flow

TEMPLATE = {"MEMORY": 32, "CPU": "0.1"}
NO_ROOT = ("nebula_install_wait",)


class Killed(Exception):
    pass


class Installs(Flow):
    """Role install_os without Ansible."""

    def __init__(self, root: Path, place: Path) -> None:
        super().__init__(root, place)
        self.list: list[dict[str, Any]] = []
        self.errors: list[str] = []
        self.isos = root.parent
        self.rendered: dict[str, str] = {}
        self.deadline = 0.0

    def told_to(self, module: str, arguments: Any) -> str:
        if module in NO_ROOT:
            return json.dumps({"ANSIBLE_MODULE_ARGS": arguments})
        return super().told_to(module, arguments)

    def attempt(self, module: str, **arguments: Any) -> dict[str, Any]:
        """Killed, if that is due while it runs."""
        if not self.deadline:
            return super().attempt(module, **arguments)
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.surroundings({}),
            text=True,
            umask=self.umask,
        )
        try:
            out, _err = process.communicate(self.told_to(module, arguments), max(0, self.deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise Killed from None
        self.answers[module] = json.loads(out)
        return self.answers[module]

    def kill_within(self, seconds: float, act: Callable[[], Any]) -> None:
        self.deadline = time.monotonic() + seconds
        try:
            act()
        except Killed:
            pass
        finally:
            self.deadline = 0.0

    def ready(self) -> None:
        for step in self.begin()[:3]:
            self.take(step)

    def add(self, name: str, iso: Path, **keys: Any) -> None:
        remote = {"path": str(iso), "remote_src": True}
        self.list.append(
            {"name": name, "iso": remote, "size": 4, "template": TEMPLATE, "timeout": 60, "marker": True, **keys}
        )

    def call(self, state: str, **more: Any) -> dict[str, Any]:
        more["answers"] = json.dumps(self.rendered)
        answer = self.attempt("nebula_install", state=state, installs=json.dumps(self.list), **more)
        self.errors += [f"{each['asked']}: {each['found']}. {each['remedy']}" for each in answer.get("errors", ())]
        self.errors += [answer["msg"]] if answer.get("failed") and "errors" not in answer else []
        return answer

    def polled(self) -> list[dict[str, Any]]:
        return [self.run("nebula_deploy", host=HOST, state="polled")["observed"]]

    def machines(self, vms: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return self.bring(*vms)["vms"] if vms else []

    def steps(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        """What the role does, one thing after the other: the name of each, and how it is done."""
        found: dict[str, Any] = {}

        def keep(name: str, what: Callable[[], Any]) -> Callable[[], Any]:
            def act() -> None:
                found[name] = what()

            return act

        yield "begun", keep("begun", lambda: self.call("begun", observed=self.polled()))
        yield "end-stale", keep("ended", lambda: self.machines(found["begun"].get("vms", [])))
        yield (
            "isos",
            lambda: self.run("nebula_image", images=json.dumps(installer_isos(found["begun"]["isos"], self.list))),
        )
        going = found["begun"].get("going", [])
        if not going:
            return
        yield "prepared", keep("prepared", lambda: self.call("prepared", only=going, observed=self.polled()))
        prepared = found["prepared"]
        yield "machines", keep("machines", lambda: self.machines(prepared.get("vms", [])))
        yield "wait", keep("waited", lambda: self.wait(prepared, found["machines"]))
        yield "recorded", keep("recorded", lambda: self.call("recorded", only=going, waited=found["waited"]))
        yield "end", lambda: self.machines(found["recorded"]["vms"])
        yield "converted", keep("converted", lambda: self.call("converted", only=going))
        yield "trials", keep("trials", lambda: self.machines(found["converted"].get("vms", [])))
        yield "verify", keep("verified", lambda: self.verify(found["converted"], found["trials"]))
        yield ("concluded", keep("concluded", lambda: self.call("concluded", only=going, verified=found["verified"])))
        yield "end-trials", lambda: self.machines(found["concluded"]["vms"])

    def wait(self, prepared: dict[str, Any], vms: list[dict[str, Any]]) -> list[dict[str, Any]]:
        answer = self.attempt("nebula_install_wait", installs=prepared["waits"], vms=vms, catalog=prepared["catalog"])
        self.errors += [f"{each['asked']}: {each['found']}. {each['remedy']}" for each in answer.get("errors", ())]
        return answer["waited"]

    def verify(self, converted: dict[str, Any], vms: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if not vms:
            return []
        arguments = {"vms": json.dumps(vms), "patterns": converted["patterns"], "timeout": converted["timeout"]}
        told = {"ANSIBLE_MODULE_ARGS": arguments}
        done = subprocess.run(
            [sys.executable, "-c", RUN, "nebula_verify"],
            input=json.dumps(told),
            env=self.surroundings({}),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return json.loads(done.stdout)["vms"]

    def all(self) -> None:
        for _name, act in self.steps():
            act()

    def image(self, name: str) -> dict[str, Any]:
        images = self.run("nebula_info", gather=["images"])["images"]
        return next((image for image in images if image["name"] == name), {})

    def identity(self, name: str) -> tuple[int, int]:
        """Of the disk: another one after a second installation."""
        image = self.image(name)
        return image["id"], os.stat(image["source"]).st_ino

    def installations(self) -> int:
        """How often the machines that are there ran the installer, by their consoles' word."""
        return sum(
            path.read_bytes().count(fake_installer.STARTED.encode())
            for path in Path(self.root, "datastores/0").glob("*/console.log")
        )

    def domain(self, name: str) -> Any:
        import libvirt

        with closing(libvirt.open("qemu:///system")) as connection:
            for domain in connection.listAllDomains():
                if f"<title>{name}</title>" in domain.XMLDesc(0):
                    return domain.name()
        return None

    def definition(self, name: str) -> str:
        import libvirt

        with closing(libvirt.open("qemu:///system")) as connection:
            return connection.lookupByName(self.domain(name)).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)

    def assert_ready(self, name: str) -> None:
        assert not self.errors, self.errors
        image = self.image(name)
        assert (image["type"], image["state"], image["persistent"]) == ("OS", "READY", False), image
        assert image["attributes"]["VERIFIED"] == "YES" and image["unfinished"] == ""
        with Path(image["source"]).open("rb") as file:
            assert fake_installer.LOGIN.encode() in file.read(512)
        assert [each["name"] for each in self.run("nebula_info", gather=["templates"])["templates"]] == []
        assert self.run("nebula_info", gather=["vms"])["vms"] == []


@contextmanager
def installs(**iso: Any) -> Iterator[Installs]:
    place = Path(os.environ["NEBULA_WORLD"], f"install-{uuid.uuid4().hex[:8]}")
    place.mkdir(mode=0o755)
    flow = Installs(place / "nebula", place / "sources")
    flow.ready()
    flow.add("one", fake_installer.build(place / "one.iso", **iso))
    try:
        yield flow
        assert_consistent_here(str(flow.root))
    finally:
        end_domains()


def end_domains() -> None:
    import libvirt

    with closing(libvirt.open("qemu:///system")) as connection:
        for domain in connection.listAllDomains():
            if domain.isActive():
                domain.destroy()
            domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM)
