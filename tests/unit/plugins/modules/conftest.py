# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules as Ansible calls them: what main() declares, options as its validator hands them over, and a front-end with
what machines are made of."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.nebula.provision.plugins.doc_fragments import attributes, engine, progress
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.errors import HypervisorError
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors import registry
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Driver, Survey
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.network import AddressRange, Network
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import ObservedVm
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState
from ansible_collections.nebula.provision.plugins.module_utils.text.template import parse
from ansible_collections.nebula.provision.plugins.modules import nebula_host, nebula_vm, nebula_vm_record

HOST = {"name": "node1", "hypervisor": "kvm", "memory": 4096, "cpu": 8.0, "state": "present"}
FRAGMENTS = {"attributes": attributes, "engine": engine, "progress": progress}
# What a module's options and its documentation both say of each.
SAID = ("type", "elements", "required", "default", "choices")


class Declared(Exception):
    """Ends main() once it has declared its options."""


def declared(module, monkeypatch):
    """What main() hands to AnsibleModule, of which there is none without a process of its own."""

    def stop(**given):
        raise Declared(given)

    with monkeypatch.context() as patched:
        patched.setattr(module, "AnsibleModule", stop)
        with pytest.raises(Declared) as caught:
            module.main()
    return caught.value.args[0]


def documented(module):
    """Options by name, those of fragments included."""
    said = yaml.safe_load(module.DOCUMENTATION)
    options = dict(said.get("options") or {})
    for name in said.get("extends_documentation_fragment") or ():
        fragment, _dot, part = name.removeprefix("nebula.provision.").partition(".")
        text = getattr(FRAGMENTS[fragment].ModuleDocFragment, part.upper() or "DOCUMENTATION")
        options.update(yaml.safe_load(text).get("options") or {})
    return options


def essence(options):
    found = {}
    for name, option in options.items():
        found[name] = {key: option[key] for key in SAID if option.get(key) not in (None, False)}
        for key in ("choices", "default"):
            if isinstance(found[name].get(key), (list, tuple)):
                found[name][key] = sorted(found[name][key], key=str)
        inner = option.get("options") or option.get("suboptions")
        if inner:
            found[name]["options"] = essence(inner)
    return found


@pytest.fixture
def agree(monkeypatch):
    """Whether options are documented as they are, in check mode too; returns what main() declares."""

    def compare(module):
        given = declared(module, monkeypatch)
        assert essence(given["argument_spec"]) == essence(documented(module))
        assert given["supports_check_mode"] is True
        for name in ("EXAMPLES", "RETURN"):
            assert yaml.safe_load(getattr(module, name)) is not None or "#" in getattr(module, name)
        return given

    return compare


@pytest.fixture
def options(monkeypatch):
    """A module's parameters as AnsibleModule hands them over; with `refused`, the words by which it refuses them."""

    def validated(module, refused=False, **given):
        told = declared(module, monkeypatch)
        told.pop("supports_check_mode")
        spec = told.pop("argument_spec")
        result = ArgumentSpecValidator(spec, **told).validate(given)
        if refused:
            return " ".join(result.error_messages)
        assert result.error_messages == []
        return result.validated_parameters

    return validated


@pytest.fixture
def main(options, monkeypatch):
    """What main() has carried out: AnsibleModule, its exit and another interpreter are Ansible's and the host's."""

    def run(module, check=False, **given):
        params = options(module, **given)
        done = []
        with monkeypatch.context() as patched:
            patched.setattr(module, "AnsibleModule", lambda **_told: SimpleNamespace(params=params, check_mode=check))
            patched.setattr(module, "carry_out", lambda called, call: done.append(call.run(params, called.check_mode)))
            module.main()
        return done[0]

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
