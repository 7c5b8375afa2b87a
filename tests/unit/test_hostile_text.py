# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hostile text, wherever text is read: it means something, or is refused in our words; never another error, never for
more than a second, never a message that a terminal would obey."""

from __future__ import annotations

import json
import math
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hostile import EXAMPLES, LENGTH, bounded, corpus, fuzzed, long
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils import arguments
from ansible_collections.nebula.provision.plugins.module_utils.context import files_attribute as context_files
from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    LONGEST,
    CatalogError,
    ForeignObject,
    InvalidValue,
    NebulaError,
    harmless,
)
from ansible_collections.nebula.provision.plugins.module_utils.host import download, node_file, urls, vm_log
from ansible_collections.nebula.provision.plugins.module_utils.host.console import console_log
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors import machine_record
from ansible_collections.nebula.provision.plugins.module_utils.model import (
    addresses,
    item_reader,
    libvirt_values,
    network_checks,
    object_names,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.answers import outcomes
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import (
    from_plain,
    json_value,
    to_plain,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.demands import demands
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.validate import validate
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Observed, Plan, VmOutcome
from ansible_collections.nebula.provision.plugins.module_utils.model.specification import Key
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template
from ansible_collections.nebula.provision.plugins.module_utils.model.template_changes import changes
from ansible_collections.nebula.provision.plugins.module_utils.model.whole_numbers import MOST_DIGITS, whole
from ansible_collections.nebula.provision.plugins.module_utils.reconcile import hosts, isos, plan_outcomes
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images import image_list_decision as images
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms import nodes_answers
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.vms import vm_item as vm_spec
from ansible_collections.nebula.provision.plugins.module_utils.storage import uploads
from ansible_collections.nebula.provision.plugins.module_utils.storage.checksum import Checksum
from ansible_collections.nebula.provision.plugins.module_utils.text import (
    context_sh,
    template_syntax,
    variable_substitution,
)

SCOPE = variable_substitution.Scope({"A": "1", "NAME": "web"}, {"NIC": [{"IP": "10.0.0.1", "NETWORK": "Public"}]})


def as_template(text: str) -> None:
    """Read, looked at, and compared."""
    found = template_syntax.as_template(text, "template x")
    validate(found)
    demands(found)
    changes(found, Template())


def as_network(text: str) -> None:
    names = ("NETWORK_ADDRESS", "NETWORK_MASK", "GATEWAY", "GATEWAY6", "DNS", "GUEST_MTU", "INBOUND_AVG_BW")
    for attribute in (*names, "NODE_ACCESS", "ONE_NODE"):
        refused_or(lambda text, a=attribute: network_checks.normalise_attributes("x", {a: text}), text)


def as_vector(name: str, *keys: str) -> Callable[[str], None]:
    """The text as each value of a vector of a template that is fine but for it."""

    def read(text: str) -> None:
        for key in keys or libvirt_values._NUMBERS[name]:
            rest = {"DISK": {"IMAGE": "x"}, "NIC": {"NETWORK": "x"}}.get(name, {})
            given_ = Template.from_attributes([["MEMORY", "1"], ["DISK", [["IMAGE", "x"]]], [name, list(rest.items())]])
            changed = given_.with_vector(name, {**rest, key: text})
            refused_or(validate, changed)
            refused_or(demands, changed)

    return read


def refused_or(read: Callable[[Any], Any], given_: Any) -> Any:
    """What is read; of what is refused, the error was looked at."""
    try:
        return read(given_)
    except NebulaError as error:
        check_error(error)
        return None


def check_error(error: NebulaError) -> None:
    assert type(error) is not NebulaError
    for text in (str(error), *error.as_dict().values()):
        assert len(text) <= 4 * LONGEST * 10, "an escape has up to ten characters"
        assert text.replace("\n", "").replace("\t", "").isprintable(), ascii(text)
        # It goes into JSON, and into files.
        text.encode()
    assert error.asked and error.found


def host_value(key: str, text: str) -> None:
    given_ = item_reader.read_item({key: text}, hosts.KEYS, "host x", hosts._AS_GIVEN)
    hosts._checked("x", key, given_[key])


def typed(kind: str) -> Callable[[str], Any]:
    return lambda text: item_reader.read_item({"key": text}, {"key": Key(type=kind)}, "item x")


def answers(text: str) -> None:
    answer = arguments.parse_json(text, "outcomes")
    refused_or(lambda text: outcomes.read("", text), answer)
    refused_or(nodes_answers.polls_of, [answer])


READERS: dict[str, Callable[[str], Any]] = {
    "template": as_template,
    "template as a value": lambda text: validate(Template.from_mapping({"MEMORY": 1, "NAME": text})),
    "names of attributes": lambda text: Template.from_mapping({text: {text: text}}),
    "numbers of DISK": as_vector("DISK"),
    "words of DISK": as_vector("DISK", "TARGET", "DEV_PREFIX", "BUS", "SERIAL", "SIZE", "FORMAT", "TYPE", "DRIVER"),
    "NIC": as_vector("NIC"),
    "words of NIC": as_vector("NIC", "IP", "IP6", "MAC", "GATEWAY", "TARGET", "MODEL", "NETWORK_ID"),
    "FEATURES": as_vector("FEATURES"),
    "OS": as_vector("OS", "MACHINE", "BOOT", "KERNEL", "KERNEL_DS", "UUID", "FIRMWARE", "ARCH", "SD_DISK_BUS"),
    "GRAPHICS": as_vector("GRAPHICS", "PORT", "LISTEN", "TYPE"),
    "CPU": lambda text: demands(Template.from_mapping({"MEMORY": "1", "CPU": text})),
    "MEMORY": lambda text: demands(Template.from_mapping({"MEMORY": text, "VCPU": text})),
    "RAW": lambda text: libvirt_values.raw_fragment(text, "template x"),
    "expressions": lambda text: (
        variable_substitution.replace_expressions(text, SCOPE),
        variable_substitution.expressions(text),
    ),
    "context.sh": lambda text: context_sh.render({"A": text, "B": "'"}),
    "context.sh's names": lambda text: context_sh.render({text: "1"}),
    "context.sh read": context_sh.parse,
    "FILES": context_files.parse_files,
    "names": lambda text: object_names.check_name("VM", text),
    "names nearby": lambda text: object_names.nearest_word(text[:1000], ["running", "absent"]),
    "MAC": lambda text: addresses.mac_number(text, "MAC"),
    "IP": lambda text: addresses.ip_number(text, "IP"),
    "IP6": lambda text: addresses.ip6_address(text, "IP6"),
    "network": as_network,
    "network's size": lambda text: network_checks.split_cidr("x", text, text),
    "bridge": lambda text: network_checks.check_bridge("x", text),
    "checksum": lambda text: Checksum.parse(text, "image x"),
    "URL": lambda text: (urls.is_url(text), urls.without_secrets(text), download.Download(text)),
    "upload": lambda text: uploads.path_of("/var/lib/nebula/datastores/1", text),
    "image": lambda text: [
        refused_or(images.spec_of, {"name": "x", key: text})
        for key in ("name", "path", "size", "checksum", "type", "format", "fs", "target", "description", "attributes")
    ],
    "host": lambda text: [
        refused_or(lambda text, k=key: host_value(k, text), text) for key in hosts._SETTABLE
    ],
    "VM": lambda text: [
        refused_or(lambda text, k=key: item_reader.read_item({k: text}, vm_spec.KEYS, "VM x"), text)
        for key in vm_spec.KEYS
    ],
    "mode of an ISO": lambda text: isos._mode("/x", text),
    "owner of an ISO": isos._account,
    "a whole number": typed("int"),
    "a boolean": typed("bool"),
    "a list": typed("list"),
    "plan": lambda text: plan_outcomes.plan_for(text, "h"),
    "answers": answers,
    "a guest's words": lambda text: (
        console_log.harmless(text),
        console_log.text_of_line(text.encode("utf-8", "surrogatepass")),
    ),
    "a line of vm.log": lambda text: vm_log.line("VMM", "E", text),
}  # fmt: skip


def seeds() -> dict[str, str]:
    return {
        f"{kind}/{name}": text
        for kind in ("template", "json", "word", "expression")
        for name, text in corpus(kind).items()
    }


@pytest.mark.parametrize("reader", READERS)
def test_the_corpus(reader: str) -> None:
    for name, text in seeds().items():
        with bounded(f"{reader}, {name}"):
            refused_or(READERS[reader], text)


@pytest.mark.parametrize("reader", READERS)
def test_the_corpus_at_length(reader: str) -> None:
    """Each once more, over and over to 64 KB: time grows with the length, not with its square."""
    words = list(corpus("word").items())
    for name, text in words if EXAMPLES else words[::5]:
        with bounded(f"{reader}, {name} at length"):
            refused_or(READERS[reader], long(text))


WORDS = st.sampled_from(sorted(corpus("word").values()) + list('"\\[]{},=#$\n\r \t:/%-.0A'))
TEXT = st.one_of(
    st.text(max_size=60),
    st.lists(WORDS, max_size=12).map("".join),
    st.tuples(WORDS, st.integers(1, 3000)).map(lambda pair: (pair[0] * pair[1])[:LENGTH]),
    st.from_regex(r"[-+]?[0-9]{0,30}[.,eE]?[0-9]{0,5}[KMGT]?"),
)


@pytest.mark.parametrize("reader", READERS)
def test_any_text(reader: str) -> None:
    @fuzzed(60)
    @given(TEXT)
    def search(text: str) -> None:
        with bounded(f"{reader}, {text[:60]!r}"):
            refused_or(READERS[reader], text)

    search()


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=12,
)
GOOD_VM = {"vm_id": 1, "uuid": "u", "name": "n", "hypervisor": "kvm", "cpu": 1.0, "memory": 1}
GOOD = {
    Plan: {"catalog": "c", "number": 1, "host": "h", "vms": [{"vm": GOOD_VM, "generation": 1, "wanted": "RUNNING"}]},
    VmOutcome: {"vm_id": 1, "generation": 1, "state": "RUNNING", "error": {"kind": "InvalidValue"}, "log": ["x"]},
    Observed: {"host": "h", "ports": [5900], "vms": [{"vm_id": 1, "uuid": "u", "state": "RUNNING"}]},
    node_file.NodeFile: {"catalog": "c", "plan": 1, "daemons": [], "kvm_device": {"uid": 0}, "directories": ["/x"]},
    machine_record.Record: {"catalog": "c", "vm_id": 1, "uuid": "u"},
}


@pytest.mark.parametrize("kind", GOOD)
def test_any_value_in_any_place(kind: type) -> None:
    """What is taken has the types that its fields promise: nothing behind it has to ask again."""

    @fuzzed(200)
    @given(st.data())
    def search(data: st.DataObject) -> None:
        given_ = json.loads(json.dumps(GOOD[kind]))
        place, key = given_, data.draw(st.sampled_from(sorted(given_)))
        while isinstance(place[key], (dict, list)) and place[key] and data.draw(st.booleans()):
            place = place[key]
            key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        place[key] = data.draw(JSON)
        with bounded(f"{kind.__name__} with {key}"):
            found = refused_or(lambda value: from_plain(kind, value), given_)
            if found is not None:
                assert from_plain(kind, to_plain(found)) == found

    search()


@fuzzed(200)
@given(JSON)
def test_json_that_nothing_can_hold_is_refused(value: Any) -> None:
    text = json.dumps(value)
    try:
        found = json_value(text)
    except ValueError:
        assert any(word in text for word in ("NaN", "Infinity", "\\ud", "e+", "E"))
        return
    json.dumps(found, ensure_ascii=False, allow_nan=False).encode()


@pytest.mark.parametrize("what", ["brackets", "dicts", "digits"])
def test_a_hundred_megabytes_of_plan(what: str) -> None:
    size = 100 * 1024 * 1024
    text = {
        "brackets": "[" * size,
        "dicts": "[" + '{"a":1},' * (size // 80) + "{}]",
        "digits": '{"format": ' + "9" * size + "}",
    }[what]
    with bounded(what, 10):
        refused_or(lambda given_: plan_outcomes.plan_for(given_, "h"), text)


def test_more_than_that_is_not_read() -> None:
    class Endless(str):
        def __len__(self) -> int:
            return arguments.LONGEST_JSON + 1

    with pytest.raises(InvalidValue, match="the limit is"):
        arguments.parse_json(Endless("[]"), "plan")


@pytest.mark.parametrize("name", corpus("json"))
def test_files_of_ours_that_are_none(name: str, tmp_path: Path) -> None:
    data = corpus("json")[name].encode("utf-8", "surrogateescape")
    for file in (node_file.NAME, machine_record.RECORD):
        (tmp_path / file).write_bytes(data)
    with pytest.raises(CatalogError):
        node_file.read(str(tmp_path))
    if data.strip():
        with pytest.raises(ForeignObject):
            machine_record.read_record(str(tmp_path))


def test_reading_takes_little_memory() -> None:
    for text in ('A = "' + "x" * LENGTH, "A = [ B = 1 ]\n" * (LENGTH // 14), "$A[" * (LENGTH // 3)):
        tracemalloc.start()
        refused_or(READERS["template"], text)
        refused_or(READERS["expressions"], text)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 64 * 1024 * 1024


@given(st.one_of(st.integers(), TEXT, st.booleans(), st.floats(), st.none()))
@fuzzed(200)
def test_whole_numbers(value: Any) -> None:
    found = whole(value)
    if found is None:
        return
    assert 0 <= found < 10**MOST_DIGITS and not isinstance(value, (bool, float))
    assert found == int(value)


@given(st.text())
@fuzzed(200)
def test_messages_are_harmless(text: str) -> None:
    shown = harmless(text)
    assert all(character.isprintable() or character in "\n\t" for character in shown)
    if text.isascii() and text.isprintable():
        assert shown == text


def test_messages_have_an_end() -> None:
    assert len(harmless("x" * 10 * LENGTH)) < LONGEST + 10
    assert math.isfinite(len(str(InvalidValue("x" * 10 * LENGTH, "y" * 10 * LENGTH, "z" * 10 * LENGTH))))
    assert len(str(InvalidValue("x" * 10 * LENGTH, "y" * 10 * LENGTH, "z" * 10 * LENGTH))) < 4 * LONGEST
