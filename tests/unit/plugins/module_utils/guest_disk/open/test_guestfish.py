# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions and answers of a session are told apart, its errors are told without advice, and one that is broken is
begun again without KVM.

A shell script stands for guestfish, in the form of guestfish(1), as an appliance takes seconds;
tests/integration/test_image_check.py starts real ones."""

from __future__ import annotations

import os
import shlex
import subprocess
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.errors import CommandFailed, MissingDependency, TimedOut
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.open import guestfish

WHAT = "image web"
# It reads a line as guestfish does: "!" is for a shell, "-" lets go on after an error.
GUESTFISH = r"""#!/bin/sh
echo "$LIBGUESTFS_BACKEND_SETTINGS:$*" >>"$LIBGUESTFS_TMPDIR/started"
while IFS= read -r line; do
    case $line in
        '!'*) eval "${line#!}" ;;
        *) echo "$line" >>"$LIBGUESTFS_TMPDIR/asked"; case $line in ANSWERS esac ;;
    esac
done
"""
ANSWERS = {
    "-run": "",
    "-umount-all": "",
    "-shutdown": "",
    "-ls": "printf 'bin\\n\\netc\\n'",
    "-cat": "printf 'no line end'",
    "-long": "head -c 3000000 /dev/zero",
    "-bad": "echo 'libguestfs: error: ls: /x: No such file or directory' >&2",
    "-warned": "echo 'libguestfs: warning: something' >&2; echo fine",
    "-die": "echo 'libguestfs: error: appliance closed the connection unexpectedly.' >&2; exit 1",
    "-end": "exit 3",
    "-sleep": "read never",
}


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Where guestfish stands, and what it answers; another run begins with KVM as if none had been."""
    place = tmp_path / "bin"
    place.mkdir()
    monkeypatch.setenv("PATH", str(place), prepend=":")
    monkeypatch.setattr(guestfish, "emulation", {})
    monkeypatch.setattr(guestfish, "CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(guestfish.SETTINGS, raising=False)

    def write(**more):
        answers = {**ANSWERS, **{f"-{verb}": answer for verb, answer in more.items()}}
        cases = " ".join(f"{verb}|{verb}' '*) {answer} ;;" for verb, answer in answers.items())
        (place / "guestfish").write_text(GUESTFISH.replace("ANSWERS", cases))
        (place / "guestfish").chmod(0o755)

    write()
    return write


@pytest.fixture
def talk(program, tmp_path):
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [str(tmp_path / "bin/guestfish")], stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0,
        env={"LIBGUESTFS_TMPDIR": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    yield guestfish.Session(process, time.monotonic() + 20)
    process.kill()
    process.communicate()


# --- questions and answers -------------------------------------------------------------------------------------------


def test_each_question_gets_its_own_answer(talk):
    assert talk.ask("cat") == "no line end"
    assert talk.lines("ls") == ["bin", "etc"]
    assert talk.ask("run") == ""


def test_an_error_ends_no_session(talk):
    with pytest.raises(CommandFailed) as caught:
        talk.ask("bad", "/x")
    assert (caught.value.asked, caught.value.found) == ("guestfish: bad", "ls: /x: No such file or directory")
    assert talk.found("bad") is None and talk.found("cat") == "no line end"


def test_a_warning_is_no_error(talk):
    assert talk.ask("warned") == "fine\n"


def test_an_answer_that_is_too_long_is_read_to_its_end(talk):
    with pytest.raises(CommandFailed, match=r"guestfish: long: the answer is longer than 1000 bytes"):
        talk.read("long", limit=1000)
    assert talk.ask("cat") == "no line end"
    assert len(talk.read("long")) == 3_000_000


def test_an_answer_without_end_ends_the_session(talk, monkeypatch):
    """What is read of it is made little."""
    monkeypatch.setattr(guestfish, "_DISCARDED", 100_000)
    with pytest.raises(CommandFailed, match=r"the answer to long has no end"):
        talk.read("long", limit=10)
    assert talk._process.poll() is not None


@pytest.mark.parametrize(
    ("verb", "said"), [("die", "appliance closed the connection unexpectedly"), ("end", "it ended with code 3")]
)
def test_a_session_that_ends_tells_why(talk, verb, said):
    with pytest.raises(CommandFailed, match=said):
        talk.ask(verb)
    # What is asked of it afterwards is an error too.
    with pytest.raises(CommandFailed):
        talk.ask("cat")


def test_what_is_there_or_not_is_not_said_by_a_broken_appliance(talk):
    with pytest.raises(CommandFailed, match=r"closed the connection"):
        talk.found("die")


def test_no_answer_in_time(talk):
    talk._limit = time.monotonic() + 0.05
    with pytest.raises(TimedOut, match=r"guestfish: sleep: no answer in time"):
        talk.ask("sleep")


def test_words_are_quoted_but_for_the_first(talk, tmp_path):
    talk.ask("run", "a b", 'c"d')
    assert (tmp_path / "asked").read_text() == '-run "a b" "c\\x22d"\n'


def read_back(quoted: bytes) -> bytes:
    """A word in double quotes as guestfish(1) tells that it reads it."""
    assert quoted[:1] == quoted[-1:] == b'"'
    out, rest = b"", quoted[1:-1]
    while rest:
        if rest[:2] == b"\\x":
            out, rest = out + bytes([int(rest[2:4], 16)]), rest[4:]
        else:
            assert rest[:1] not in (b'"', b"\\", b"\n")
            out, rest = out + rest[:1], rest[1:]
    return out


@given(st.binary(max_size=12))
@settings(max_examples=50, deadline=None)
def test_any_word_comes_back(data):
    quoted = guestfish.quoted(data.decode("utf-8", "surrogateescape"))
    assert read_back(quoted) == data and all(0x20 <= byte < 0x7F for byte in quoted)


# --- sessions --------------------------------------------------------------------------------------------------------


def asked(tmp_path):
    return [line.lstrip("-") for line in (tmp_path / "asked").read_text().splitlines()]


def kvm(tmp_path, monkeypatch, there=True):
    device = tmp_path / "kvm"
    if there:
        device.touch()
    monkeypatch.setattr(guestfish, "_KVM", str(device))


def test_what_was_written_is_on_the_disk_at_the_end(program, tmp_path):
    (tmp_path / "disk name").write_bytes(b"QFI\xfb\0\0\0\2".ljust(72, b"\0"))
    with guestfish.session("disk name", "qcow2", str(tmp_path), WHAT) as talk:
        assert talk.ask("cat") == "no line end"
    assert asked(tmp_path) == ["run", "cat", "umount-all", "shutdown"]
    assert (tmp_path / "started").read_text().rstrip().endswith("--rw --format=qcow2 -a disk name")


def test_a_session_that_only_reads_keeps_nothing(program, tmp_path):
    with guestfish.session("disk", "raw", str(tmp_path), WHAT, keep=False):
        pass
    assert asked(tmp_path) == ["run", "shutdown"]


def test_an_error_within_it_is_what_is_told(program, tmp_path):
    program(shutdown="exit 9")
    with pytest.raises(ZeroDivisionError), guestfish.session("disk", "raw", str(tmp_path), WHAT):
        raise ZeroDivisionError
    assert asked(tmp_path) == ["run", "shutdown"]


def test_where_kvm_does_not_work_it_is_emulated_from_then_on(program, tmp_path, monkeypatch):
    """Whether there is a /dev/kvm is what is put in place of the real one."""
    kvm(tmp_path, monkeypatch)
    program(run=f'[ "$LIBGUESTFS_BACKEND_SETTINGS" = force_tcg ] || {{ {ANSWERS["-die"]}; }}')
    for _time in range(2):
        with guestfish.session("disk", "raw", str(tmp_path), WHAT):
            pass
    settings = [line.split(":")[0] for line in (tmp_path / "started").read_text().splitlines()]
    assert settings == ["", "force_tcg", "force_tcg"] and not guestfish.may_have_kvm()


def test_what_is_wrong_with_the_disk_is_not_tried_again(program, tmp_path, monkeypatch):
    """Whether there is a /dev/kvm is what is put in place of the real one."""
    kvm(tmp_path, monkeypatch)
    program(run="echo 'libguestfs: error: could not open disk: Invalid argument' >&2")
    with (
        pytest.raises(
            CommandFailed, match=r"image web: looking into it: could not open disk.* whether the image boots"
        ),
        guestfish.session("disk", "raw", str(tmp_path), WHAT),
    ):
        pass
    assert len((tmp_path / "started").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("there", "settings", "may"), [(True, None, True), (False, None, False), (True, "force_kvm", False)]
)
def test_kvm_is_tried_where_it_may_work(program, tmp_path, monkeypatch, there, settings, may):
    """Whether there is a /dev/kvm is what is put in place of the real one."""
    kvm(tmp_path, monkeypatch, there)
    if settings:
        monkeypatch.setenv(guestfish.SETTINGS, settings)
    assert guestfish.may_have_kvm() is may
    guestfish.emulate()
    assert not guestfish.may_have_kvm()
    found = guestfish.environment("/x")
    assert found.pop("LIBGUESTFS_CACHEDIR", "") == (guestfish.CACHE if os.geteuid() == 0 else "")
    assert found == {
        "LIBGUESTFS_BACKEND": "direct", "LIBGUESTFS_TMPDIR": "/x", "HOME": "/x", guestfish.SETTINGS: "force_tcg",
    }  # fmt: skip


@pytest.mark.root
def test_its_appliance_is_kept_where_nobody_else_gets(tmp_path, monkeypatch):
    """Or else another user could make that directory first, or hold the lock in it."""
    monkeypatch.setattr(guestfish, "CACHE", str(tmp_path / "cache"))
    assert guestfish.environment("/x")["LIBGUESTFS_CACHEDIR"] == str(tmp_path / "cache")
    found = (tmp_path / "cache").stat()
    assert (found.st_uid, found.st_mode & 0o7777) == (0, 0o700)


def test_a_host_without_guestfish(tmp_path, monkeypatch):
    """The search path is all that is put in place of the real one."""
    monkeypatch.setattr(guestfish.command, "_path", lambda: str(tmp_path))
    with pytest.raises(MissingDependency, match=r"image web: looking into it: program guestfish .* libguestfs \(Fed"):
        guestfish.require(WHAT)


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "broken"),
    [
        (TimedOut("guestfish", "no answer in time"), True),
        (CommandFailed("guestfish", "guestfs_launch failed."), True),
        (CommandFailed("guestfish", "qemu killed by signal 9 (Killed)"), True),
        (CommandFailed("guestfish", "mount: wrong fs type"), False),
    ],
)
def test_an_appliance_that_did_not_come_up(error, broken):
    assert guestfish.is_broken(error) is broken
    assert ("libguestfs-test-tool" in guestfish.error_of_appliance(error, WHAT).remedy) is broken


@pytest.mark.parametrize(
    "said",
    [
        "/usr/bin/supermin exited with error status 1.\ncannot find a suitable kernel",
        "supermin: ext2fs: cannot read /boot/vmlinuz-6.1: Permission denied",
        "supermin: failed to find a suitable directory /lib/modules",
    ],
)
def test_a_host_without_a_kernel_for_the_appliance(said):
    error = guestfish.error_of_appliance(CommandFailed("guestfish", said), WHAT)
    assert isinstance(error, MissingDependency) and said in error.found and "linux-image-amd64" in error.remedy


def test_the_errors_without_the_advice():
    said = """libguestfs: error: guestfs_launch failed.
This usually means the libguestfs appliance failed to start or crashed.
Do:
  export LIBGUESTFS_DEBUG=1 LIBGUESTFS_TRACE=1
and run the command again.  For further information, read:
  http://libguestfs.org/guestfs-faq.1.html#debugging-libguestfs
You can also run 'libguestfs-test-tool' and post the *complete* output
into a bug report or message to the libguestfs mailing list.

*stdin*:3: libguestfs: error: mount: \x1b[1m
"""
    assert guestfish.errors_in(said) == "guestfs_launch failed.\n    mount: \\x1b[1m"


def test_it_ends_with_the_process_that_began_it():
    argv = guestfish.command_line("a disk", "raw")
    assert argv[:3] == ["setpriv", "--pdeathsig", "KILL"]
    assert shlex.join(argv).endswith("guestfish --rw --format=raw -a 'a disk'")
