# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hostile text in all files of a guest: each point of a check finds something, each step of a preparation plans
something, in a bounded time. Both are taken from their tables, and so is what they read: a new one is in by itself."""

from __future__ import annotations

import itertools
import re
import zlib
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from hostile import EXAMPLES, bounded, corpus, fuzzed
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.checks import (
    live_points,
    points,
    windows_points,
)
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.checks.image_facts import (
    LINK,
    LINUX,
    Facts,
    Node,
    Partition,
    System,
)
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.repair import repair_steps
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images import check_image

MAC = "52:54:00:12:34:56"
# Where the files have their values: alone, text would not come behind the first word that is looked for.
FORMS = (
    "{}", "options {}", "linux /vmlinuz {}", "append {}", "kernelopts={}", "GRUB_CMDLINE_LINUX={}", "Include {}",
    "PubkeyAuthentication no {}", "Include /etc/ssh/{}", "datasource_list: [{}", "datasource_list:\n - {}",
    "  addresses: [{}", "  addresses:\n{}", "  nameservers:{}", "IPADDR={}", "Address={}", "iface {} inet static",
    "macaddress: " + MAC + " {}", "hwaddress " + MAC + "{}", "/dev/sdb1 / {} {}", "{} /x ext4 password={}", "root:{}:1",
    "{}:x:1", "DefaultZone={}", ":INPUT DROP\n-A INPUT --dport {} -j ACCEPT", "hook input {} policy drop {}", "22 {}",
    "ENABLED=yes\n{}", "context.sh {}", "ImageState={}", "match:\n{}",
)  # fmt: skip
# Of all lengths that a line of a file has here.
LENGTH = 16 * 1024 if EXAMPLES else 3 * 1024
SECONDS = 4.0 if EXAMPLES else 1.0


class Asked(dict):
    """A tree of nothing, that knows what was looked for."""

    def __init__(self, known: Any, seen: set[str]) -> None:
        super().__init__(known)
        self.seen = seen

    def get(self, key: str, default: Any = None) -> Any:
        self.seen.add(key)
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        self.seen.add(str(key))
        return super().__contains__(key)


class Watched(Facts):
    def matching(self, *patterns: str) -> Iterator[tuple[str, Node]]:
        self.tree.seen.update(path for pattern in patterns for path in named(pattern))  # type: ignore[attr-defined]
        return super().matching(*patterns)


def named(pattern: str) -> list[str]:
    """A path for it, and one that a shell would read otherwise."""
    plain = re.sub(r"\[!?(.)[^\]]*\]", r"\1", pattern)
    return [plain.replace("*", word) for word in ("x", "[a]")]


@cache
def paths() -> tuple[str, ...]:
    """All that points and steps look for, of Linux and of Windows: what is there has them look for more."""
    seen: set[str] = set()
    before = -1
    while len(seen) > before:
        before = len(seen)
        for part in parts(seen, "abcdefgh"):
            facts = Watched(os=LINUX, tree=Asked({path: Node(size=1, text=filled("x")) for path in part}, seen))
            for _name, work in WORKS:
                work(facts, "x")
    return tuple(sorted(path for path in seen if path.startswith("/")))


def filled(text: str) -> str:
    return "\n".join(form.replace("{}", text) for form in FORMS) + "\n"


def stem(path: str) -> str:
    """A service's name, by whatever file it is started."""
    return re.sub(r"^S\d\d", "", path.rsplit("/", 1)[1]).split(".")[0] if "/" in path else path


def parts(names: Any, salts: str = "a") -> list[list[str]]:
    """All, and halves of them: what is there may keep the others from being read."""
    found = [sorted(names)]
    for salt, half in itertools.product(salts, (0, 1)):
        found.append([name for name in found[0] if zlib.crc32(f"{salt}{stem(name)}".encode()) % 2 == half])
    return found


def looked_at(point: points.Point) -> Any:
    def work(facts: Facts, text: str) -> None:
        answer = point.look(facts)  # type: ignore[misc]
        finding = points._finding(point, answer)
        assert answer.result in points.RESULTS and answer.why
        shown = check_image._view({}, "", [finding.as_dict()])["points"][0]
        assert all(each.isprintable() or each in "\n\t" for word in shown.values() for each in word)
        assert all(len(word) < 20_000 for word in shown.values())

    return work


def planned(step: Any) -> Any:
    def work(facts: Facts, text: str) -> None:
        found = step(facts)
        for edit in found.edits if found is not None else ():
            if isinstance(edit, repair_steps.Write):
                edit.text.encode("utf-8", "surrogateescape")

    return work


WORKS = [(f"{'/'.join(each.systems)}: {each.name}", looked_at(each)) for each in points.POINTS if each.look is not None]
WORKS += [(f"step {name}", planned(step)) for name, step in repair_steps.STEPS.items()]
HEARD = [each for each in points.POINTS if each.hear is not None]


def as_read(text: str) -> str:
    """As the bytes of a file come."""
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")


def guests(text: str) -> Iterator[Facts]:
    text = as_read(text)
    content = filled(text)
    kinds = [Node(size=len(content), text=content), Node(kind=LINK, target=text), Node(size=1, text=text)]
    registry: dict[str, object] = {
        f"{windows_points._INTERFACES}/{text}/ipaddress": text, f"{windows_points._INTERFACES}/{text}/enabledhcp": 0,
        f"{windows_points._ADAPTERS}/{text}/networkaddress": text, f"bcd/{text}/16000020/element": text,
        f"{windows_points._POLICY}/firewallrules/{text}": f"Action=Allow Active=TRUE Dir=In {text}", "bcd/": text,
        "system/services/sshd/start": 2**31, "system/services/netkvm/start": text,
    }  # fmt: skip
    for number, part in enumerate(parts(paths())):
        # A file of each name is of each kind once; most are files.
        tree = {path: kinds[max(0, zlib.crc32(path.encode()) + number) % 8 % 3 if number else 0] for path in part}
        yield Facts(
            os=LINUX, tree=tree, table="gpt", partitions=(Partition(1, "/dev/sda1", 1, 1, text),), root="/dev/sda1",
            systems=(System("/dev/sda1", text, text, text, text, text),), failed={"/dev/sda2": text} if number else {},
            kernel=text, initrd_why=text, registry=registry, zone="UTC",
        )  # fmt: skip


def work_on(text: str) -> None:
    for facts in guests(text):
        for name, work in WORKS:
            with bounded(f"{name}, {text[:60]!r}", SECONDS):
                work(facts, text)


class Said(dict):
    def get(self, key: str, default: Any = None) -> Any:
        return super().get(key, self["all"])


def test_all_of_the_tables_are_here():
    assert len(WORKS) == sum(each.look is not None for each in points.POINTS) + len(repair_steps.STEPS)
    some = ("etc/fstab", "etc/ssh/sshd_config", "etc/netplan/x.yaml", "etc/shadow", "boot/grub/grub.cfg",
            "home/x/.ssh/id_x", "etc/nftables.conf", "etc/cloud/cloud.cfg", "etc/default/grub",
            "etc/iptables/rules.v4")  # fmt: skip
    assert [path for path in some if f"/{path}" not in paths()] == []


WORDS = sorted(corpus("word").values())


def test_words():
    for text in WORDS if EXAMPLES else WORDS[::50]:
        work_on(text)


# Those by which lines, words and patterns of any of these files go on; the first took minutes once.
PARTS = (
    "\n", "a.", "match:\n", "Include sshd_config\n", "22 ", "*a",
    " ", "\t", "\r\n", "\0", "a", ".", "22,", "[", "]*", "user=", "- ", "\u0663", "$kernelopts", "\x85", "'", '"', "9",
    "52:", "\udcff", "hook input ", "# ", ":", "../", "{}",
)  # fmt: skip
REPEATED = st.tuples(st.sampled_from(PARTS), st.integers(1, LENGTH)).map(lambda pair: pair[0] * pair[1])


@pytest.mark.parametrize("text", PARTS if EXAMPLES else PARTS[:4])
def test_long_lines(text):
    work_on((text * LENGTH)[:LENGTH] + "b")


@fuzzed(4)
@given(st.lists(st.sampled_from([*PARTS, *WORDS]), max_size=12).map("".join))
def test_any_text_of_a_guest(text):
    work_on(text)


@fuzzed(40)
@given(st.one_of(st.sampled_from(WORDS), st.text(max_size=60), REPEATED))
def test_what_a_guest_says(text):
    said = Said({"all": text, live_points.BEGIN: ""})
    for point in HEARD:
        with bounded(f"{point.name}, {text[:60]!r}"):
            answer = point.hear(Facts(os=LINUX), live_points.GuestReport(text, said, text or "x", 100, 10, text, text))
            assert answer.result in points.RESULTS
    live_points.values_of(f"nebula-check: begin\nnebula-check: {text}")
