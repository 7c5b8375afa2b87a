# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls as libvirt writes them (XDR, src/rpc/virnetprotocol.x and src/remote/remote_protocol.x). That a real libvirtd's
come through is shown in tests/integration/test_fleet.py."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.errors import ForeignObject
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt import migration_calls
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt.migration_calls import (
    AUTH_LIST,
    CLOSE,
    FINISH,
    LONGEST,
    NOT_ON_CLOSE,
    ON_CLOSE,
    OPEN,
    PAUSED,
    PREPARE,
    SUPPORTS,
    Admitted,
    Calls,
)

REMOTE, KEEPALIVE, QEMU, LXC = 0x20008086, 0x6B656570, 0x20008087, 0x20008088
CALL, REPLY, MESSAGE, STREAM, CALL_WITH_FDS, REPLY_WITH_FDS, STREAM_HOLE = range(7)
INT, UINT, LLONG, ULLONG, DOUBLE, BOOLEAN, STRING = range(1, 8)
LIVE, PEER2PEER, TUNNELLED, PERSIST, UNDEFINE, NON_SHARED_INC = 1, 2, 4, 8, 16, 128
UNSAFE = 512
FLAGS = LIVE | PEER2PEER | UNDEFINE | PAUSED | UNSAFE | NON_SHARED_INC
NAME, DEFINITION = "one-1", "<domain>agreed</domain>"
URIS = {"migrate_uri": "unix:///run/x/memory", "disks_uri": "unix:///run/x/disks"}
ADMITTED = (OPEN, CLOSE, SUPPORTS, AUTH_LIST, ON_CLOSE, NOT_ON_CLOSE, PREPARE, FINISH)


def check(definition: str) -> None:
    if definition != DEFINITION:
        raise ForeignObject("it", "it is another definition", "Nothing of it reached libvirtd")


def calls() -> Calls:
    return Calls(Admitted(NAME, FLAGS, URIS, frozenset(("vda", "vdb")), check))


def opaque(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data + bytes(-len(data) % 4)


def parameter(name: str, value: str | int, kind: int = STRING) -> bytes:
    data = opaque(value.encode()) if isinstance(value, str) else struct.pack(FORMATS[kind], value)
    return opaque(name.encode()) + struct.pack(">i", kind) + data


FORMATS = {INT: ">i", UINT: ">I", LLONG: ">q", ULLONG: ">Q", DOUBLE: ">d", BOOLEAN: ">i"}


def message(procedure: int, payload: bytes = b"", program: int = REMOTE, version: int = 1, kind: int = CALL) -> bytes:
    head = struct.pack(">IIiiII", program, version, procedure, kind, 7, 0)
    return struct.pack(">I", 4 + len(head) + len(payload)) + head + payload


def arguments(parameters: Sequence[bytes], flags: int = FLAGS, cookie: bytes = b"<qemu-migration/>") -> bytes:
    return struct.pack(">I", len(parameters)) + b"".join(parameters) + opaque(cookie) + struct.pack(">I", flags)


def named() -> list[bytes]:
    """What a libvirtd says of a machine that it brings."""
    return [
        parameter("destination_name", NAME),
        parameter("destination_xml", DEFINITION),
        parameter("migrate_uri", URIS["migrate_uri"]),
        parameter("disks_uri", URIS["disks_uri"]),
        parameter("migrate_disks", "vda"),
        parameter("migrate_disks", "vdb"),
        parameter("bandwidth", 100, ULLONG),
    ]


def prepare(*more: bytes, flags: int = FLAGS, cookie: bytes = b"<qemu-migration/>") -> bytes:
    return message(PREPARE, arguments([*named(), *more], flags, cookie))


def finish(*parameters: bytes, flags: int = FLAGS, cancelled: int = 0) -> bytes:
    named = parameters or (parameter("destination_name", NAME),)
    return message(FINISH, arguments(named, flags) + struct.pack(">i", cancelled))


# All that a libvirtd calls for a migration, in its order.
WHOLE = (
    message(AUTH_LIST),
    message(SUPPORTS, struct.pack(">i", 15)),
    message(OPEN, struct.pack(">I", 1) + opaque(b"qemu:///system") + struct.pack(">I", 0)),
    message(2, program=KEEPALIVE, kind=MESSAGE),
    message(ON_CLOSE),
    message(1, program=KEEPALIVE, kind=MESSAGE),
    prepare(),
    finish(),
    message(NOT_ON_CLOSE),
    message(CLOSE),
)


def refused(data: bytes) -> str:
    with pytest.raises(ForeignObject) as found:
        calls().inspect(data)
    assert "libvirtd" in str(found.value)
    return found.value.found


# -- what goes on -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("data", [*WHOLE, finish(cancelled=1), message(OPEN, bytes(8))])
def test_calls_of_a_migration_go_on_as_they_are(data: bytes) -> None:
    assert calls().inspect(data) == data


@given(st.lists(st.integers(0, sum(map(len, WHOLE))), max_size=12))
def test_wherever_they_are_cut(cuts: list[int]) -> None:
    whole, found, tried = b"".join(WHOLE), bytearray(), calls()
    ends = [0]
    for each in WHOLE:
        ends.append(ends[-1] + len(each))
    places = [0, *sorted(cuts), len(whole)]
    for begin, end in zip(places, places[1:]):
        found += tried.inspect(whole[begin:end])
        # A call is whole or not there at all.
        assert len(found) == max(each for each in ends if each <= end)
    assert found == whole


def test_byte_by_byte() -> None:
    tried = calls()
    assert b"".join(tried.inspect(bytes([byte])) for byte in b"".join(WHOLE)) == b"".join(WHOLE)


@pytest.mark.parametrize("cut", range(1, 80))
def test_half_a_call_goes_nowhere(cut: int) -> None:
    assert calls().inspect(prepare()[:cut]) == b""


@pytest.mark.parametrize("length", range(8))
def test_whatever_a_cookie_is(length: int) -> None:
    data = prepare(cookie=b"c" * length)
    assert calls().inspect(data) == data


# -- what does not ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("procedure", sorted({*range(-1, 500), 1 << 30} - {*ADMITTED}))
def test_every_other_procedure_is_refused(procedure: int) -> None:
    assert "call" in refused(message(procedure, bytes(64)))


@pytest.mark.parametrize("procedure", ADMITTED)
@pytest.mark.parametrize("kind", [REPLY, MESSAGE, STREAM, CALL_WITH_FDS, REPLY_WITH_FDS, STREAM_HOLE, -1, 99])
def test_what_is_no_call_is_refused(procedure: int, kind: int) -> None:
    refused(message(procedure, bytes(64), kind=kind))


@pytest.mark.parametrize("program", [QEMU, LXC, 0, REMOTE + 1, 0x06060606, 0xFFFFFFFF])
@pytest.mark.parametrize("procedure", ADMITTED)
def test_every_other_program_is_refused(program: int, procedure: int) -> None:
    refused(message(procedure, bytes(64), program=program))


@pytest.mark.parametrize("version", [0, 2, 0xFFFFFFFF])
def test_every_other_version_is_refused(version: int) -> None:
    refused(message(OPEN, version=version))


@pytest.mark.parametrize("make", [prepare, finish])
@pytest.mark.parametrize("bit", range(32))
def test_flags_that_were_not_agreed_upon_are_refused(make, bit: int) -> None:
    flags = FLAGS | 1 << bit
    if flags == FLAGS:
        assert calls().inspect(make(flags=flags))
    else:
        assert "flags" in refused(make(flags=flags))
    # Nor one that was, and is not there.
    if FLAGS & 1 << bit:
        assert "flags" in refused(make(flags=FLAGS & ~(1 << bit)))


@pytest.mark.parametrize("make", [prepare, finish])
@pytest.mark.parametrize("flags", [0, LIVE, FLAGS & ~PAUSED])
def test_nothing_comes_that_would_run_at_once(make, flags: int) -> None:
    assert "flags" in refused(make(flags=flags))


@pytest.mark.parametrize(
    "more",
    [
        parameter("destination_name", "one-2"),
        parameter("destination_name", ""),
        parameter("destination_name", 1, INT),
        parameter("destination_name", NAME + "\0"),
        parameter("migrate_uri", "tcp:0.0.0.0:49152"),
        parameter("migrate_uri", URIS["disks_uri"]),
        parameter("migrate_uri", 0, UINT),
        parameter("disks_uri", "unix:///run/libvirt/libvirt-sock"),
        parameter("disks_uri", ""),
        parameter("destination_xml", "<domain/>"),
        parameter("destination_xml", 1, BOOLEAN),
        parameter("migrate_disks", "vdc"),
        parameter("migrate_disks", ""),
        parameter("destination_name", NAME),
        parameter("migrate_uri", URIS["migrate_uri"]),
        parameter("bandwidth", 1, ULLONG),
        *(
            parameter(name, "x")
            for name in ("graphics_uri", "listen_address", "persistent_xml", "tls.destination", "compression",
                         "migrate_disks_detect_zeroes", "destination_xml\0", "DESTINATION_XML", "", "disks_port")
        ),
        parameter("disks_port", 1, INT),
        parameter("persistent_xml", DEFINITION),
    ],
)  # fmt: skip
@pytest.mark.parametrize("make", [prepare, lambda more: finish(*named(), more)])
def test_what_was_not_agreed_upon_is_refused(make, more: bytes) -> None:
    refused(make(more))


def test_a_machine_comes_with_one_definition_or_not_at_all() -> None:
    for lacking in range(1, 4):
        # Without a URI libvirt would have QEMU listen for anybody.
        some = [each for number, each in enumerate(named()) if number != lacking]
        refused(message(PREPARE, arguments(some)))
    refused(prepare(parameter("destination_xml", DEFINITION)))


@pytest.mark.parametrize(
    "name", ["", "qemu:///session", "qemu+ssh://h/system?command=x", "lxc:///", "qemu:///system?x=y"]
)
def test_a_connection_to_anything_else_is_refused(name: str) -> None:
    text = struct.pack(">I", 1) + opaque(name.encode())
    assert "a connection" in refused(message(OPEN, text + bytes(4)))
    refused(message(OPEN, struct.pack(">I", 1) + opaque(b"qemu:///system") + struct.pack(">I", 1)))


@pytest.mark.parametrize("data", WHOLE)
def test_more_than_belongs_to_a_call_is_refused(data: bytes) -> None:
    longer = (len(data) + 4).to_bytes(4, "big") + data[4:] + bytes(4)
    refused(longer)


@pytest.mark.parametrize("data", WHOLE)
def test_what_is_called_once_is_not_called_twice(data: bytes) -> None:
    tried = calls()
    assert tried.inspect(data) == data
    if int.from_bytes(data[12:16], "big") in (OPEN, CLOSE, PREPARE, FINISH) and data[4:8] == REMOTE.to_bytes(4, "big"):
        with pytest.raises(ForeignObject, match="a second time"):
            tried.inspect(data)
    else:
        assert tried.inspect(data) == data


@pytest.mark.parametrize("kind", [0, 8, 9, -1, 1 << 30])
def test_values_of_other_types_are_refused(kind: int) -> None:
    value = opaque(b"bandwidth") + struct.pack(">i", kind) + bytes(8)
    refused(message(PREPARE, arguments([*named(), value])))


@pytest.mark.parametrize("length", [0, 1, 4, 27, LONGEST + 1, 0xFFFFFFFF])
def test_a_length_that_is_none_is_refused(length: int) -> None:
    assert f"of {length} bytes" in refused(struct.pack(">I", length) + bytes(64))


def test_one_that_is_as_long_as_it_may_be_is_waited_for() -> None:
    assert calls().inspect(struct.pack(">I", LONGEST) + bytes(64)) == b""


@pytest.mark.parametrize("count", [8, 9, 0x7FFFFFFF, 0xFFFFFFFF])
def test_more_parameters_than_there_are(count: int) -> None:
    payload = bytearray(arguments(named()))
    payload[:4] = struct.pack(">I", count)
    refused(message(PREPARE, bytes(payload)))


@pytest.mark.parametrize("procedure", [PREPARE, FINISH])
def test_arguments_that_are_cut_off(procedure: int) -> None:
    payload = arguments(named())
    for end in range(0, len(payload), 3):
        refused(message(procedure, payload[:end]))


def test_text_that_is_none() -> None:
    refused(message(PREPARE, arguments([opaque(b"\xff\xfe") + struct.pack(">i", INT) + bytes(4)])))


@given(st.binary(max_size=400))
def test_garbage_never_goes_on(data: bytes) -> None:
    """Whatever passes is a call that is admitted, as a whole."""
    try:
        passed = calls().inspect(data)
    except ForeignObject:
        return
    assert data.startswith(passed)
    while passed:
        length, program, version, procedure, kind = struct.unpack_from(">IIiii", passed)
        assert program == KEEPALIVE or (program, version, kind) == (REMOTE, 1, CALL)
        assert program == KEEPALIVE or procedure in ADMITTED
        passed = passed[length:]


@given(st.binary(max_size=200))
def test_garbage_makes_no_machine(payload: bytes) -> None:
    refused(message(PREPARE, payload))


@given(st.data())
def test_a_call_with_one_other_byte_passes_as_it_is_or_not_at_all(data: st.DataObject) -> None:
    whole = bytearray(prepare())
    place = data.draw(st.integers(4, len(whole) - 1))
    whole[place] = data.draw(st.integers(0, 255))
    try:
        assert calls().inspect(bytes(whole)) in (b"", bytes(whole))
    except ForeignObject as error:
        assert error.remedy


def test_what_comes_after_a_refused_call_does_not_go_on() -> None:
    tried = calls()
    with pytest.raises(ForeignObject):
        tried.inspect(message(AUTH_LIST) + message(9))
    with pytest.raises(ForeignObject):
        tried.inspect(message(9))


def test_the_numbers_are_those_of_libvirt() -> None:
    """remote_protocol.x: REMOTE_PROC_CONNECT_OPEN and so on."""
    assert ADMITTED == (1, 2, 60, 66, 360, 361, 303, 306)
    assert set(migration_calls._ADMITTED) == {*ADMITTED}
