# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engines behind one seam: what is tested below knows engines/base.py and the registry, and no engine by name."""

from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.registry import ENGINES, open_engine
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.network import AddressRange, Network
from ansible_collections.nebula.provision.plugins.module_utils.model.states import HostState, ImageState, ImageType
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse

# The options by which a module opens each engine, with an empty place for it.
OPTIONS = {"embedded": lambda place: {"engine": "embedded", "root": str(place)}}
WEB = """
CPU = 0.5
MEMORY = 128
DISK = [ IMAGE = "demo", DEV_PREFIX = "vd" ]
NIC = [ NETWORK = "Public" ]
CONTEXT = [ NETWORK = "YES", HOSTNAME = "$NAME" ]
"""


def furnish(engine, memory=4096, cpu=16.0, leases=100, hosts=("node1",)):
    """A catalog with hosts, one image, one network and the template web."""
    with engine.session():
        for host in hosts:
            engine.hosts.allocate(Host(None, host, state=HostState.MONITORED, memory=memory, cpu=cpu))
        image = engine.images.allocate(Image(None, "demo", type=ImageType.OS, dev_prefix="vd"))
        engine.images.update(image.id, state=ImageState.READY, size=16, format="qcow2", sha256="0" * 64)
        engine.networks.allocate(
            Network(
                None,
                "Public",
                bridge="nbr0",
                attributes={"NETWORK_ADDRESS": "10.66.0.0", "NETWORK_MASK": "255.255.255.0", "GATEWAY": "10.66.0.1"},
                address_ranges=(AddressRange(0, "IP4", leases, ip="10.66.0.10"),),
            )
        )
        engine.templates.allocate("web", parse(WEB))
    return engine


@pytest.fixture
def openers():
    return OPTIONS


@pytest.fixture(params=sorted(ENGINES))
def engine_options(request, tmp_path):
    return OPTIONS[request.param](tmp_path / "place")


@pytest.fixture
def bare(engine_options, tmp_path):
    """An engine with a catalog in which nothing is."""
    (tmp_path / "place").mkdir()
    opened = open_engine(engine_options, check_mode=False, create=True)
    yield opened
    opened.close()


@pytest.fixture
def engine(bare):
    return furnish(bare)


@pytest.fixture
def cramped(bare):
    """One whose network has three addresses."""
    return furnish(bare, leases=3)


@pytest.fixture
def reopen(engine_options):
    """The same catalog as the next module run sees it."""
    opened = []

    def again(check_mode=False, create=False):
        opened.append(open_engine(engine_options, check_mode, create))
        return opened[-1]

    yield again
    for engine in opened:
        engine.close()


@pytest.fixture
def edit():
    return dataclasses.replace
