# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of contexts on their way: read on the front-end, sent in a plan, kept on a node."""

from __future__ import annotations

import base64
import hashlib
import os
import stat
import zlib
from pathlib import Path

import pytest
from web_server import serve

from ansible_collections.nebula.provision.plugins.module_utils.context import (
    files_attribute,
    files_on_frontend,
    files_on_node,
    iso9660,
)
from ansible_collections.nebula.provision.plugins.module_utils.context.context_downloads import download_context_file
from ansible_collections.nebula.provision.plugins.module_utils.context.files_on_frontend import Limits, Sources
from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    DownloadFailed,
    InvalidValue,
    NebulaError,
    NotFound,
    StorageFailed,
)
from ansible_collections.nebula.provision.plugins.module_utils.host import node_file
from ansible_collections.nebula.provision.plugins.module_utils.model.context import ContextFile
from ansible_collections.nebula.provision.plugins.module_utils.model.dataclass_json import from_plain, to_plain
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Plan

CATALOG = "11111111-1111-1111-1111-111111111111"


@pytest.fixture
def root(tmp_path):
    """Of a front-end."""
    (tmp_path / "frontend").mkdir()
    return tmp_path / "frontend"


@pytest.fixture
def far(tmp_path):
    """The root of a node that follows CATALOG."""
    place = tmp_path / "node"
    place.mkdir()
    node_file.update(str(place), lambda before: before)
    node_file.accept(str(place), CATALOG, 1)
    return place


@pytest.fixture
def service(tmp_path):
    place = tmp_path / "srv"
    (place / "certificates" / "deep").mkdir(parents=True)
    (place / "init.sh").write_text("#!/bin/sh\n")
    (place / "init.sh").chmod(0o755)
    (place / "certificates" / "a.pem").write_text("A")
    (place / "certificates" / "deep" / "b.pem").write_text("B")
    return place


def named(*texts):
    return files_attribute.parse_files(" ".join(map(str, texts)))


def look(root, *texts, limits=files_on_frontend.USUAL, kept=None, check_mode=False):
    found = Sources(str(root), limits, check_mode)
    return found, found.found(named(*texts), kept or {})


def fetched(root, *texts, limits=files_on_frontend.USUAL):
    """As an engine does it: decide, fetch, decide again."""
    found = Sources(str(root), limits)
    found.found(named(*texts), {})
    found.fetch(download_context_file)
    try:
        return found, found.found(named(*texts), {})
    finally:
        found.close()


def plan_of(found, files, there=(), number=1):
    planned = found.planned(files)
    contents = found.contents(planned, there)
    return from_plain(Plan, to_plain(Plan(CATALOG, number, "n", sources=planned, contents=contents)))


def iso_of(root, plan, files, path):
    gathered = files_on_node.context_files(str(root), plan, files, files_on_node.keep_contents(str(root), plan))
    return iso9660.write_iso(str(path), {"A": "1"}, gathered)


# -- reading ----------------------------------------------------------------------------------------------------------
def test_a_file_is_read_once_however_many_machines_use_it(root, service, monkeypatch):
    opened = []
    really = os.open
    monkeypatch.setattr(os, "open", lambda path, *rest, **more: opened.append(path) or really(path, *rest, **more))
    found = Sources(str(root))
    for _machine in range(100):
        found.found(named(service / "init.sh", service / "certificates"), {})
    for _node in range(3):
        plan_of(found, named(service / "init.sh", service / "certificates"))
    assert sorted(p for p in opened if str(p).startswith(str(service)) and os.path.isfile(p)) == [
        str(service / name) for name in ("certificates/a.pem", "certificates/deep/b.pem", "init.sh")
    ]


def test_what_a_plan_says_of_a_directory(root, service):
    found, wanted = look(root, service / "certificates", f"{service}/init.sh:start.sh")
    planned = found.planned(wanted)
    assert [(e.path, e.size, e.executable, e.directory) for e in planned[str(service / "certificates")].entries] == [
        ("", 0, False, True),
        ("a.pem", 1, False, False),
        ("deep", 0, False, True),
        ("deep/b.pem", 1, False, False),
    ]
    (script,) = planned[str(service / "init.sh")].entries
    assert script.executable and script.sha256 == hashlib.sha256(b"#!/bin/sh\n").hexdigest()


def test_only_what_the_node_lacks_is_sent(root, service):
    found, wanted = look(root, service / "certificates")
    a, b = (hashlib.sha256(text).hexdigest() for text in (b"A", b"B"))
    assert set(plan_of(found, wanted).contents) == {a, b}
    assert set(plan_of(found, wanted, there=[a]).contents) == {b}
    assert zlib.decompress(base64.b64decode(plan_of(found, wanted).contents[a])) == b"A"
    assert "contents" not in repr(plan_of(found, wanted))


def test_what_one_run_sends_has_a_limit(root, service, monkeypatch):
    monkeypatch.setattr(files_on_frontend, "MOST_SENT", 15)
    found, wanted = look(root, service / "certificates" / "a.pem", service / "certificates" / "deep" / "b.pem")
    first, second = (plan_of(found, wanted).sources[file.source].error for file in wanted)
    assert first is None and second is not None and "Run again" in second["remedy"]


@pytest.mark.parametrize(
    ("make", "error", "told"),
    [
        (lambda p: None, NotFound, "is not there"),
        (os.mkfifo, InvalidValue, "a named pipe"),
        (lambda p: p.symlink_to("/etc/passwd"), InvalidValue, r"/etc/passwd is below /etc, which is restricted"),
        (lambda p: p.symlink_to("/proc/self/environ"), InvalidValue, "below /proc"),
        (lambda p: (p.mkdir(), (p / "x").symlink_to("/srv")), InvalidValue, "leads out of it"),
    ],
)
def test_what_is_refused(root, tmp_path, make, error, told):
    make(tmp_path / "x")
    with pytest.raises(error, match=told) as caught:
        look(root, tmp_path / "x")
    assert str(tmp_path / "x") in caught.value.asked


def test_each_machine_hears_of_an_error_with_words_of_its_own(root, tmp_path):
    found = Sources(str(root))
    told = []
    for _machine in range(2):
        with pytest.raises(NotFound) as caught:
            found.found(named(tmp_path / "x"), {})
        caught.value.asked = f"VM x: {caught.value.asked}"
        told.append(caught.value.asked)
    assert told[0] == told[1]


def test_safe_and_restricted_directories(root, tmp_path):
    for name in ("secret/open", "srv"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "x").touch()
    (tmp_path / "secret" / "x").touch()
    (tmp_path / "srv" / "link").symlink_to(tmp_path / "secret" / "x")
    limits = Limits(safe=(str(tmp_path / "secret/open"),), restricted=(str(tmp_path / "secret"),))
    look(root, tmp_path / "secret/open/x", tmp_path / "srv/x:y", limits=limits)
    for refused in ("secret/x", "secret", "srv/link", "srv/../secret/x"):
        with pytest.raises(InvalidValue, match=r"secret.* is restricted"):
            look(root, tmp_path / refused, limits=limits)
    # One that holds a restricted one.
    (tmp_path / "srv" / "deep").mkdir()
    with pytest.raises(InvalidValue, match="deep, which is restricted"):
        look(root, tmp_path / "srv/deep/..:y", limits=Limits(restricted=(str(tmp_path / "srv/deep"),)))
    with pytest.raises(InvalidValue, match="restricted_dirs"):
        Sources(str(root), Limits(restricted=("etc",)))


def test_nothing_of_nebula_root_but_images(root, tmp_path):
    (root / "nebula.db").write_text("secret")
    for limits in (Limits(), Limits(safe=(str(root),), restricted=())):
        with pytest.raises(InvalidValue, match="below nebula_root"):
            look(root, root / "nebula.db", limits=limits)
    found = Sources(str(root))
    path = str(root / "nebula.db")
    assert found.found([ContextFile(path, "x", image="init.sh")], {})
    with pytest.raises(InvalidValue, match="below nebula_root"):
        found.found([ContextFile(path, "x")], {})


@pytest.mark.parametrize("link", ["datastores", "datastores/1", "vms"])
def test_nothing_that_links_in_nebula_root_lead_to(root, tmp_path, link):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x").write_text("secret")
    (root / link).parent.mkdir(exist_ok=True)
    (root / link).symlink_to(tmp_path / "data")
    for named_so in (root / link / "x", tmp_path / "data" / "x", tmp_path / "data", f"/{root}/{link}/x"):
        with pytest.raises(InvalidValue, match="below nebula_root"):
            look(root, named_so)
    assert Sources(str(root)).found([ContextFile(str(root / link / "x"), "x", image="x")], {})


def test_a_context_has_64_mib_at_most(root, tmp_path, monkeypatch):
    monkeypatch.setattr(files_on_frontend, "LARGEST", 10)
    for name in "abc":
        (tmp_path / name).write_bytes(b"12345")
    look(root, tmp_path / "a", tmp_path / "b")
    with pytest.raises(InvalidValue, match=r"c'.*more than 10 bytes.*DATABLOCK"):
        look(root, tmp_path / "a", tmp_path / "b", tmp_path / "c")
    (tmp_path / "d").write_bytes(b"12345678901")
    with pytest.raises(InvalidValue, match=r"d'.*more than 10 bytes.*DATABLOCK"):
        look(root, tmp_path / "d")


def test_a_source_that_went_is_its_own_error_in_a_plan(root, far, service, tmp_path):
    _, wanted = look(root, service / "init.sh")
    _, other = look(root, service / "certificates")
    (service / "init.sh").unlink()
    plan = plan_of(Sources(str(root)), [*wanted, *other])
    filled = files_on_node.keep_contents(str(far), plan)
    with pytest.raises(NotFound, match=r"init\.sh.*is not there"):
        files_on_node.context_files(str(far), plan, wanted, filled)
    assert files_on_node.context_files(str(far), plan, other, filled)


# -- from the net -----------------------------------------------------------------------------------------------------
def test_fetched_once_and_kept(root, far, tmp_path):
    with serve() as site:
        site.files["/x/init.sh"] = b"#!/bin/sh\necho\n"
        site.redirects["/old"] = "/x/init.sh"
        found, wanted = fetched(root, f"{site.url}/x/init.sh", f"{site.url}/old:start.sh")
        assert [path for path, _ in site.requests] == ["/x/init.sh", "/old", "/x/init.sh"]
        (kept,) = (root / "files").iterdir()
        assert kept.name == wanted[0].sha256 and stat.S_IMODE(kept.stat().st_mode) == 0o600
        # A later run, with what the machine has.
        before = len(site.requests)
        _, again = look(root, f"{site.url}/x/init.sh", kept={wanted[0].source: wanted[0].sha256})
        assert again[0] == wanted[0] and len(site.requests) == before
    plan = plan_of(found, wanted)
    iso_of(far, plan, wanted, tmp_path / "iso")
    assert iso9660.read_iso(str(tmp_path / "iso"))[1] == {"init.sh": 15, "start.sh": 15}


@pytest.mark.parametrize(
    ("spoil", "error", "told"),
    [
        (lambda site: site.files.clear(), DownloadFailed, "the server answered 404"),
        (lambda site: None, InvalidValue, r"http://.*more than 10 bytes.*DATABLOCK"),
        (lambda site: setattr(site, "lengths", False), InvalidValue, "more than 10 bytes"),
        (
            lambda site: site.redirects.update({"/x": "file:///etc/passwd"}),
            DownloadFailed,
            "answered 302.*Only http and https",
        ),
    ],
)
def test_what_is_not_fetched(root, monkeypatch, spoil, error, told):
    monkeypatch.setattr(files_on_frontend, "LARGEST", 10)
    with serve() as site:
        site.files["/x"] = b"12345678901"
        spoil(site)
        with pytest.raises(error, match=told):
            fetched(root, f"{site.url}/x?secret")
        with pytest.raises(NebulaError) as caught:
            fetched(root, f"{site.url}/x?secret")
    assert "secret" not in str(caught.value)
    assert not (root / "files").exists()


def test_check_mode_fetches_nothing(root, far):
    with serve() as site:
        site.files["/x"] = b"x"
        found, wanted = look(root, f"{site.url}/x", check_mode=True)
        assert not found.lacking and not site.requests and wanted[0].sha256 == ""
    plan = plan_of(found, wanted)
    with pytest.raises(StorageFailed, match="does not hold it"):
        files_on_node.context_files(str(far), plan, wanted, files_on_node.missing_contents(str(far), plan))


def test_an_image_that_an_earlier_task_would_store_is_no_error(root):
    image = ContextFile(str(root / "datastores/1/x"), "x", image="x")
    assert Sources(str(root), check_mode=True).found([image], {}) == (image,)
    with pytest.raises(NotFound):
        Sources(str(root)).found([image], {})


def test_what_nobody_references_is_pruned(root):
    with serve() as site:
        site.files.update({"/a": b"a", "/b": b"b"})
        _, (a, b) = fetched(root, f"{site.url}/a", f"{site.url}/b")
        (root / "files" / "mine").touch()
        (root / "files" / f".{a.sha256}.xyz.tmp").touch()
        fetching = Sources(str(root))
        fetching.found(named(f"{site.url}/b"), {})
        fetching.fetch(download_context_file)
        Sources(str(root)).prune(lambda: {a.sha256})
        assert (root / "files" / b.sha256).exists()
        fetching.close()
        Sources(str(root)).prune(lambda: {a.sha256})
    assert sorted(os.listdir(root / "files")) == sorted([a.sha256, "mine"])
    files_on_frontend.remove_kept(str(root))
    assert os.listdir(root / "files") == ["mine"]


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(b"y")])
def test_what_was_kept_and_is_lost(root, spoil):
    with serve() as site:
        site.files["/a"] = b"a"
        _, (a,) = fetched(root, f"{site.url}/a")
    spoil(root / "files" / a.sha256)
    plan = plan_of(Sources(str(root)), [a])
    error = plan.sources[a.sha256].error
    assert error is not None and "recreate: true" in error["remedy"]


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(b"y")])
def test_what_was_kept_and_is_lost_is_fetched_again(root, far, spoil):
    with serve() as site:
        site.files["/a"] = b"a"
        url = f"{site.url}/a"
        _, (a,) = fetched(root, url)
        spoil(root / "files" / a.sha256)
        foreseeing = Sources(str(root), check_mode=True)
        assert foreseeing.found(named(url), {url: a.sha256})[0].sha256 == "" and not foreseeing.lacking
        for ask in (lambda s: s.found(named(url), {url: a.sha256}), lambda s: s.planned([a])):
            later = Sources(str(root))
            ask(later)
            assert list(later.lacking) == [url]
            later.fetch(download_context_file)
            assert later.found(named(url), {url: a.sha256}) == (a,)
            assert plan_of(later, [a]).sources[a.sha256].error is None and not later.lacking
            later.close()
            spoil(root / "files" / a.sha256)


def test_one_lock_however_much_is_fetched(root):
    with serve() as site:
        site.files.update({f"/{n}": bytes([n]) for n in range(20)})
        found = Sources(str(root))
        found.found(named(*(f"{site.url}/{n}" for n in range(20))), {})
        place = os.path.realpath(root / "files")
        found.fetch(download_context_file)
    held = [fd for fd in os.listdir("/proc/self/fd") if os.path.realpath(f"/proc/self/fd/{fd}") == place]
    found.close()
    assert len(held) == 1


def test_a_path_that_an_earlier_task_would_make_is_no_error_in_check_mode(root, tmp_path):
    later = tmp_path / "later"
    found, (file,) = look(root, later, check_mode=True)
    assert list(found.absent) == [str(later)] and found.planned([file]) == {}
    with pytest.raises(NotFound):
        look(root, later)
    with pytest.raises(InvalidValue, match="restricted"):
        look(root, "/etc/nothing-of-this-name", check_mode=True)


# -- on a node --------------------------------------------------------------------------------------------------------
def test_the_iso_of_a_plan_is_that_of_the_files(root, far, service, tmp_path):
    found, wanted = look(root, service / "certificates", service / "init.sh")
    plan = plan_of(found, wanted)
    made = iso_of(far, plan, wanted, tmp_path / "far.iso")
    assert made == iso9660.write_iso(str(tmp_path / "near.iso"), {"A": "1"}, wanted)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (far / "cache").iterdir()} == {0o600}
    assert set(files_on_node.digests(str(far))) == set(plan.contents)
