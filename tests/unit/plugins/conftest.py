# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules as Ansible calls them: options as its validator hands them over, and a front-end with what machines are made
of."""

from __future__ import annotations

import json
import sys
from pathlib import Path, PurePosixPath
from types import SimpleNamespace

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.nebula.provision.plugins.module_utils import imported_by_name
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.errors import HypervisorError
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors import registry
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Driver, Survey
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.network import AddressRange, Network
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import ObservedVm
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse
from ansible_collections.nebula.provision.plugins.modules import nebula_host, nebula_vm, nebula_vm_record
from ansible_collections.nebula.provision.tests.unit.shipped_files import shipped_with

HOST = {"name": "node1", "hypervisor": "kvm", "memory": 4096, "cpu": 8.0, "state": "present"}


@pytest.fixture(autouse=True)
def only_what_is_shipped(monkeypatch):
    """Refuse to a call what it imports by name and Ansible would not have shipped with its module."""
    real = imported_by_name.importlib.import_module

    def import_module(name):
        frame = sys._getframe()
        while frame is not None:
            file = Path(frame.f_code.co_filename)
            if file.parent.name == "calls":
                path = PurePosixPath(*name.split(".")[3:]).with_suffix(".py")
                assert path in shipped_with(f"calls/{file.stem}"), f"{path} is not shipped with {file.stem}"
                break
            frame = frame.f_back
        return real(name)

    monkeypatch.setattr(imported_by_name, "importlib", SimpleNamespace(import_module=import_module))


@pytest.fixture
def options():
    """Give a module's parameters as AnsibleModule hands them over; refused: the words by which it refuses them."""

    def validated(module, refused=False, **given):
        result = ArgumentSpecValidator(**module.call.ARGUMENTS).validate(given)
        if refused:
            return " ".join(result.error_messages)
        assert result.error_messages == []
        return result.validated_parameters

    return validated


@pytest.fixture
def main(options):
    """Give a module's result with these options."""

    def run(module, check=False, **given):
        return module.call.run(options(module, **given), check)

    return run


@pytest.fixture
def root(tmp_path):
    return str(tmp_path)


@pytest.fixture
def host(options):
    def run(root, check=False, **given):
        return nebula_host.call.run(options(nebula_host, root=root, **given), check)

    return run


@pytest.fixture
def vm(options):
    def run(root, check=False, **given):
        # What a list may destroy without a word is a matter of tests of its own.
        given = {"destroy_limit": "100%", **given}
        return nebula_vm.call.run(options(nebula_vm, root=root, return_plans=True, **given), check)

    return run


@pytest.fixture
def obey(options):
    """What a node answers that did all; state: where its machines are after they failed."""

    def run(root, result, state=""):
        error = {"asked": "VM a", "found": "unsupported machine type", "remedy": "Check it"} if state else None
        answers = {}
        for name, text in result.payload["plans"].items():
            plan = json.loads(text)
            answers[name] = {
                "outcomes": [
                    {
                        "vm_id": p["vm"]["vm_id"],
                        "generation": p["generation"],
                        "state": state or p["wanted"],
                        "changed": True,
                        "error": error,
                    }
                    for p in plan["vms"]
                ]
            }
        ids = [view["id"] for view in result.payload["vms"]]
        given = options(nebula_vm_record, root=root, outcomes=json.dumps(answers), ids=ids)
        return nebula_vm_record.call.run(given, False)

    return run


@pytest.fixture
def furnished(root, host):
    """A front-end with a host, an image that is ready, a network and a template."""
    host(root, **HOST)
    engine = EmbeddedEngine(root)
    with engine.session():
        engine.images.allocate(Image(None, "demo", dev_prefix="vd"))
        engine.images.update("demo", state=ImageState.READY, size=16, format="qcow2")
        engine.networks.allocate(
            Network(
                None,
                "Public",
                bridge="nbr0",
                attributes={"NETWORK_ADDRESS": "10.66.0.0", "NETWORK_MASK": "255.255.255.0"},
                address_ranges=(AddressRange(0, "IP4", 10, ip="10.66.0.10"),),
            )
        )
        engine.templates.allocate(
            "web", parse('CPU=0.5\nMEMORY=128\nDISK=[IMAGE="demo"]\nNIC=[NETWORK="Public"]\nCONTEXT=[NETWORK="YES"]\n')
        )
    engine.close()
    return root


class Still(Driver):
    """A hypervisor that has the machines of `states`, and answers unless it is told not to; it carries nothing out.
    ended: by whom those in POWEROFF were."""

    name = "kvm"
    states = {}
    ended = ""
    answers = True

    def __init__(self):
        if not self.answers:
            raise HypervisorError("connecting to the hypervisor", "it does not answer", "Start it")

    @classmethod
    def choose_accelerator(cls, wanted, cached):
        return {"accelerator": "kvm", "reason": "there is no other", "key": "1"}

    @classmethod
    def capacity(cls):
        return 4096, 8.0

    def survey(self, catalog):
        return Survey(
            tuple(ObservedVm(each, f"uuid-{each}", state, ended=self.ended) for each, state in self.states.items())
        )

    def inventory(self):
        return (), ("somebodys",)

    def close(self):
        pass

    render = state = define = start = change_medium = cancel = remove = None


@pytest.fixture
def still(monkeypatch):
    """This host's hypervisor, by the name kvm; which there are is of the host, so the registry's are replaced."""

    class Fresh(Still):
        pass

    monkeypatch.setattr(registry, "DRIVERS", {"kvm": Fresh})
    return Fresh
