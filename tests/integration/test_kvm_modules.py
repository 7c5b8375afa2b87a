# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""nebula_node, nebula_frontend and nebula_deploy as users run them, by Ansible, with real daemons."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

from canaries import ways
from in_world import in_bare_world, in_world

from ansible_collections.nebula.provision.plugins.module_utils.host import hypervisor_daemons
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Graphics
from ansible_collections.nebula.provision.tests.integration.kvm_node import a_node

ROOT = Path(__file__).resolve().parents[2]
SECRET = "geheim66"
STRANGERS = """<domain type='qemu'><name>shop</name><memory unit='MiB'>16</memory>
<os><type arch='x86_64' machine='pc'>hvm</type></os>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator></devices></domain>"""


def ansible(task: dict[str, Any], *arguments: str, **keywords: Any) -> tuple[dict[str, Any], str]:
    """One task's result, and all that Ansible printed with -vvv."""
    play = Path(os.environ["NEBULA_WORLD"], f"play-{uuid.uuid4().hex}.json")
    answer = play.with_suffix(".result")
    copy = {"ansible.builtin.copy": {"content": "{{ result | to_json }}", "dest": str(answer), "mode": "0600"}}
    tasks = [
        {**task, "register": "result", "ignore_errors": True, **keywords},
        {**copy, "no_log": True, "check_mode": False, "diff": False},
    ]
    play.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]), encoding="utf-8")
    command = [
        str(Path(sys.executable).parent / "ansible-playbook"), "-vvv", "-i", "node,", "-c", "local",
        "-e", "ansible_python_interpreter=/usr/bin/python3", *arguments, str(play),
    ]  # fmt: skip
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "LC_ALL": "C.UTF-8"}
    environment.pop("PYTHONPATH", None)
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    output = run.stdout + run.stderr
    assert answer.exists(), output
    return json.loads(answer.read_text(encoding="utf-8")), output


def node_module(root: Path, *arguments: str, **options: Any) -> dict[str, Any]:
    result, _output = ansible({"nebula.provision.nebula_node": {"root": str(root), **options}}, *arguments)
    return result


def device() -> tuple[int, int]:
    found = os.stat("/dev/kvm")
    return found.st_gid, stat.S_IMODE(found.st_mode)


def running() -> list[str]:
    return [service.name for service in hypervisor_daemons.LIBVIRT if hypervisor_daemons.is_running(service)]


@in_bare_world
def test_a_node_is_made_ready_and_given_back() -> None:
    root = Path(os.environ["NEBULA_WORLD"], "made", "nebula")
    root.parent.mkdir(mode=0o755)
    os.chown("/dev/kvm", 0, 0)
    os.chmod("/dev/kvm", 0o600)
    forecast = node_module(root, "--check", accelerator="qemu")
    assert forecast["changed"]
    assert not root.exists()
    assert running() == []
    assert device() == (0, 0o600)
    made = node_module(root, accelerator="qemu")
    assert made["changed"], made
    assert made["node"]["accelerator"] == "qemu"
    assert made["node"]["started"] == ["virtlogd", "libvirtd"]
    assert made["node"]["memory"] > 100
    assert running() == ["virtlogd", "libvirtd"]
    assert device()[1] == 0o660
    assert any("/dev/kvm" in warning for warning in made["warnings"])
    for path in (root, root / "datastores", root / "datastores" / "0"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o711
    assert stat.S_IMODE((root / "nebula.node").stat().st_mode) == 0o600
    again = node_module(root, accelerator="qemu")
    assert (again["changed"], again["node"]["started"]) == (False, [])
    assert not node_module(root, "--check", accelerator="qemu")["changed"]
    assert node_module(root, "--check", state="absent")["changed"]
    assert running() == ["virtlogd", "libvirtd"]
    gone = node_module(root, state="absent")
    assert gone["changed"], gone
    assert running() == []
    assert device() == (0, 0o600)
    assert not root.exists()
    assert not node_module(root, state="absent")["changed"]


@in_bare_world
def test_daemons_of_others_are_left_running() -> None:
    root = Path(os.environ["NEBULA_WORLD"], "others")
    started = [hypervisor_daemons.start(service) for service in hypervisor_daemons.LIBVIRT]
    try:
        made = node_module(root, accelerator="qemu")
        assert made["node"]["started"] == []
        node_module(root, state="absent")
        assert running() == ["virtlogd", "libvirtd"]
    finally:
        for daemon in reversed(started):
            assert daemon is not None
            assert hypervisor_daemons.stop(daemon)
            assert not hypervisor_daemons.stop(daemon)
    assert running() == []
    # Pid files and sockets that they left, as after a container's restart, are no daemons.
    assert Path("/run/libvirt").is_dir()
    made = node_module(root, accelerator="qemu")
    assert made["node"]["started"] == ["virtlogd", "libvirtd"]
    node_module(root, state="absent")


@in_bare_world
def test_daemons_that_others_have_machines_by_run_on() -> None:
    root = Path(os.environ["NEBULA_WORLD"], "shared")
    made = node_module(root, accelerator="qemu")
    assert made["node"]["started"] == ["virtlogd", "libvirtd"]
    virsh = ["virsh", "-c", "qemu:///system"]
    subprocess.run([*virsh, "create", "/dev/stdin"], input=STRANGERS, text=True, check=True, capture_output=True)
    for check in (("--check",), ()):
        gone = node_module(root, *check, state="absent")
        assert any("Machines of others run here" in text and "shop" in text for text in gone["warnings"]), gone
        assert running() == ["virtlogd", "libvirtd"]
    assert not root.exists()
    subprocess.run([*virsh, "destroy", "shop"], check=True, capture_output=True)
    # The warning names what ends them, and so does another teardown: they say whose they are.
    pids = re.findall(r"kill (\d+) \(", " ".join(gone["warnings"]))
    assert len(pids) == 2
    assert node_module(root, state="absent")["changed"]
    assert running() == [] and not any(Path("/proc", pid).exists() for pid in pids)


@in_bare_world
def test_a_pid_that_is_somebody_elses_now_is_not_ended() -> None:
    daemon = hypervisor_daemons.start(hypervisor_daemons.LIBVIRT[0])
    assert daemon is not None
    assert not hypervisor_daemons.stop(replace(daemon, start=daemon.start + 1))
    assert not hypervisor_daemons.stop(replace(daemon, boot_id="another"))
    assert hypervisor_daemons.is_running(hypervisor_daemons.LIBVIRT[0])
    assert hypervisor_daemons.stop(daemon)


@in_bare_world
def test_without_its_packages_check_mode_forecasts_and_a_run_names_them() -> None:
    # A PATH without QEMU and libvirt: a bare host.
    place = Path(os.environ["NEBULA_WORLD"], "bin")
    place.mkdir()
    for program in ("sh", "env", "python3"):
        (place / program).symlink_to(shutil.which(program) or "")
    root = Path(os.environ["NEBULA_WORLD"], "bare")
    program = (
        "import json, sys\n"
        "from ansible_collections.nebula.provision.plugins.module_utils.reconcile.nodes import node_setup as nodes\n"
        "from ansible_collections.nebula.provision.plugins.module_utils.host import command\n"
        "from ansible_collections.nebula.provision.plugins.module_utils import errors\n"
        f"command._path = lambda: {str(place)!r}\n"
        "params = dict(root=sys.argv[1], hypervisor='kvm', accelerator='auto', manage_services=True, catalog=None)\n"
        "result = nodes.present(params, True)\n"
        "print(json.dumps([result.changed, result.payload]))\n"
        "try:\n    nodes.present(params, False)\n"
        "except errors.MissingDependency as error:\n    print(error)\n"
    )
    # No PYTHONPATH of the tests' either: the distribution's libvirt may be in it.
    environment = {**os.environ, "PATH": str(place), "PYTHONPATH": str(ROOT / "collections")}
    run = subprocess.run(
        [sys.executable, "-c", program, str(root)], env=environment, capture_output=True, text=True, check=False
    )
    forecast, error = run.stdout.splitlines()
    changed, payload = json.loads(forecast)
    assert changed
    assert payload["node"]["accelerator"] == ""
    assert payload["node"]["memory"] > 100
    for package in ("qemu-system-x86", "qemu-utils", "libvirt-daemon-system", "python3-libvirt"):
        assert package in error
    assert not root.exists()


@in_world
def test_a_directory_that_was_only_begun_is_finished_and_a_strangers_is_refused() -> None:
    root = Path(os.environ["NEBULA_WORLD"], "begun")
    made = node_module(root)
    assert not made.get("failed"), made
    begun = root / "datastores" / "0"
    assert stat.S_IMODE(begun.stat().st_mode) == 0o711
    # As mkdir makes it, by a run that a full disk ended there.
    begun.chmod(0o700)
    again = node_module(root)
    assert not again.get("failed") and again["changed"], again
    assert stat.S_IMODE(begun.stat().st_mode) == 0o711
    begun.chmod(0o777)
    refused = node_module(root)
    assert refused["failed"] and "its mode is 0777" in refused["msg"]
    begun.chmod(0o711)
    given_back = node_module(root, state="absent")
    assert not given_back.get("failed") and not root.exists(), given_back


@in_world
def test_a_node_with_machines_is_not_given_back() -> None:
    with a_node() as node:
        node.bring(node.vm(3))
        refused = node_module(Path(node.root), state="absent")
        assert refused["failed"]
        assert "one-3" in refused["msg"]
        # Its directory is gone, its domain is not.
        shutil.rmtree(node.directory(node.vm(3)))
        refused = node_module(Path(node.root), state="absent")
        assert refused["failed"]
        assert "one-3" in refused["msg"]
        other = node_module(Path(node.root), catalog="11111111-2222-3333-4444-555555555555")
        assert other["failed"]
        assert node.catalog in other["msg"]
        forecast = node_module(Path(node.root), "--check", state="absent")
        assert any("one-3" in each and "taken as ended in check mode" in each for each in forecast["warnings"])
        node.bring(node.vm(3), wanted="DONE", hard=True)
        # A front-end without a catalog, or with another one, does not give it back.
        for catalog in ("", "11111111-2222-3333-4444-555555555555"):
            refused = node_module(Path(node.root), state="absent", catalog=catalog)
            assert refused["failed"] and f"it follows catalog {node.catalog}" in refused["msg"]


def deploy(**options: Any) -> dict[str, Any]:
    return {"nebula.provision.nebula_deploy": {"host": "node", **options}}


@in_world
def test_a_plan_by_ansible() -> None:
    with a_node() as node:
        vms = [node.vm(n, graphics=Graphics(port=5960 + n, password=SECRET)) for n in range(3)]
        plan = node.plan(*vms)
        applied = deploy(root=node.root, state="applied", plan=to_plain(plan))
        forecast, output = ansible(applied, "--check", "--diff")
        assert forecast["changed"]
        assert [o["state"] for o in forecast["outcomes"]] == ["RUNNING"] * 3
        assert node.states() == {}
        result, output_of_run = ansible(applied, "--diff")
        assert result["changed"], result
        assert [o["state"] for o in result["outcomes"]] == ["RUNNING"] * 3
        assert {seen["state"] for seen in result["observed"]["vms"]} == {"RUNNING"}
        assert [json.loads(shown["after"]) for shown in result["diff"]] == [{"state": "RUNNING"}] * 3
        again, output_again = ansible(applied)
        assert not again["changed"]
        for text in (output, output_of_run, output_again, json.dumps(result)):
            assert not ways(SECRET, text)
        polled, _output = ansible(deploy(root=node.root))
        assert not polled["changed"]
        assert polled["observed"]["plan_number"] == plan.number
        assert len(polled["observed"]["vms"]) == 3
        assert polled["observed"]["ports"] == []
        # Once more by ourselves, so that the node's ledger hears of it.
        node.carry_out(plan)


@in_world
def test_progress_is_shown_and_failures_are_told_with_all_outcomes() -> None:
    with a_node() as node:
        # So many, one after another, take longer than the first look, on a fast machine too.
        broken = node.vm(24, disks=(replace(node.vm(24).disks[0], source="/nosuch/base"),))
        plan = node.plan(*(node.vm(n) for n in range(24)), broken)
        result, output = ansible(deploy(root=node.root, state="applied", plan=to_plain(plan), threads=1))
        assert result["failed"]
        assert "/nosuch/base" in result["msg"]
        assert [o["state"] for o in result["outcomes"]] == ["RUNNING"] * 24 + ["PROLOG_FAILURE"]
        assert result["outcomes"][-1]["error"]["remedy"]
        assert result["observed"]["reached"]
        assert " of 25 running" in output
        node.carry_out(plan)


@in_world
def test_plans_that_are_not_for_here() -> None:
    with a_node() as node:
        plan = to_plain(node.plan(node.vm(1)))
        result, _output = ansible(deploy(root=node.root, state="applied", plan={**plan, "host": "elsewhere"}))
        assert "it was made for elsewhere" in result["msg"]
        result, _output = ansible(deploy(root=node.root, state="applied", plan={**plan, "format": 99}))
        assert "format" in result["msg"]
        result, _output = ansible(deploy(root=node.root, state="applied", plan="{"))
        assert "not JSON" in result["msg"]
        result, _output = ansible(deploy(root=node.root, state="applied", plan={**plan, "vms": []}))
        assert (result["changed"], result["outcomes"]) == (False, [])
        assert node.states() == {}


@in_bare_world
def test_polling_where_no_libvirtd_runs() -> None:
    root = os.environ["NEBULA_WORLD"]
    result, _output = ansible(deploy(root=root))
    assert result["failed"]
    assert "role nebula.provision.node" in result["msg"]
    forecast, _output = ansible(deploy(root=root), "--check")
    assert forecast["observed"]["vms"] == []
    assert forecast["observed"]["memory"] > 100
