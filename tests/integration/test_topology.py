# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The picture of the topology in a real browser without a network: what it draws is inside, nothing is over anything
else, nothing of others is run, and nothing is asked for. Screenshots are in build/topology."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import topologies
from in_world import in_bare_world

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host
from ansible_collections.nebula.provision.plugins.module_utils.model.network import Network
from ansible_collections.nebula.provision.plugins.plugin_utils.topology.layout import picture
from ansible_collections.nebula.provision.plugins.plugin_utils.topology.page import page
from ansible_collections.nebula.provision.plugins.plugin_utils.topology.site import read_site
from ansible_collections.nebula.provision.tests.integration.site_runs import Site, changed_tasks, recap

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = ROOT / "build/topology"
BROWSER = shutil.which("chromium")
# `make packages` installs it: where the whole of the tests runs, none of them is left out for want of it.
pytestmark = pytest.mark.root
in_browser = pytest.mark.skipif(BROWSER is None and not os.environ.get("CI"), reason="needs chromium")

# Looks for text outside of its own picture, and for text that is over other text; runs in a copy of the page that
# permits it. A pixel is what a font's own rounding may need.
LOOK = """
const found = [];
for (const svg of document.querySelectorAll('.picture svg')) {
  const whole = svg.getBoundingClientRect();
  const texts = [...svg.querySelectorAll('text')].map(e => [e.lastChild.nodeValue, e.getBoundingClientRect()]);
  const shapes = [...svg.querySelectorAll('rect, line, circle, path')].map(e => [e.tagName, e.getBoundingClientRect()]);
  for (const [text, r] of [...texts, ...shapes])
    if (r.left < whole.left - 1 || r.right > whole.right + 1 || r.top < whole.top - 3 || r.bottom > whole.bottom + 3)
      found.push(['outside', text, svg.querySelector('title').textContent]);
  for (let i = 0; i < texts.length; i++)
    for (let j = i + 1; j < texts.length; j++) {
      const [a, r] = texts[i], [b, s] = texts[j];
      if (r.left < s.right - 1 && s.left < r.right - 1 && r.top < s.bottom - 4 && s.top < r.bottom - 4)
        found.push(['over', a, b]);
    }
}
const counts = {texts: document.querySelectorAll('.picture svg text').length,
                images: document.querySelectorAll('img').length,
                scripts: document.querySelectorAll('script').length,
                title: document.title};
const result = document.createElement('pre');
result.id = 'result';
result.textContent = encodeURIComponent(JSON.stringify({found, counts}));
document.body.append(result);
"""


def browse(profile: Path, path: Path, *options: str) -> str:
    """Open a page in the browser and return what it printed. It asks its maker for news of its own accord, so it is in
    a network namespace without any link."""
    program = ["unshare", "--net", str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    program += ["--no-first-run", "--disable-component-update", f"--user-data-dir={profile}"]
    done = subprocess.run([*program, *options, path.as_uri()], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("browser")


@in_browser
@pytest.mark.parametrize("name", topologies.SITES)
def test_a_browser_draws_it(tmp_path: Path, profile: Path, name: str) -> None:
    given = topologies.SITES[name]()
    text = page(given)
    path = tmp_path / f"{name}.html"
    path.write_text(text, encoding="utf-8")
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    image = SCREENSHOTS / f"{name}.png"
    drawn = picture(read_site(given))
    width, height = int(drawn.width) + 80, min(int(drawn.height) + 700, 9000)
    browse(profile, path, f"--window-size={width},{height}", f"--screenshot={image}")
    assert size(image) == (width, height)


@in_browser
def test_nothing_is_over_anything_else_or_outside_and_nothing_of_others_is_run(tmp_path: Path, profile: Path) -> None:
    """All sites, one below the other, since a browser takes its time to start."""
    pages = [page(make()) for make in topologies.SITES.values()]
    bodies = [re.sub(r"(?s)^.*<body>|</body>.*$", "", text) for text in pages]
    looked = measured(profile, tmp_path, pages[0].replace("</body>", "".join(bodies[1:]) + "</body>"))
    assert looked["found"] == []
    # Of a machine in the large site there are name, address and state at least.
    assert looked["counts"]["texts"] > 3 * 300
    # The script that looked, and nothing of what others wrote.
    assert (looked["counts"]["images"], looked["counts"]["scripts"]) == (0, 1)
    assert looked["counts"]["title"].startswith("Topology of catalog")


def size(image: Path) -> tuple[int, int]:
    head = image.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", head[16:24])
    return width, height


def measured(profile: Path, directory: Path, text: str) -> Any:
    """What LOOK finds in a copy of the page without its policy."""
    copy = directory / "measured.html"
    unbound, number = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    assert number == 1
    copy.write_text(unbound.replace("</body>", f"<script>{LOOK}</script></body>"), encoding="utf-8")
    printed = browse(profile, copy, "--window-size=1280,900", "--dump-dom")
    result = re.search(r'<pre id="result">([^<]*)</pre>', printed)
    assert result, printed[-2000:]
    return json.loads(unquote(result[1]))


@in_browser
def test_an_overlap_is_seen_by_the_browser(tmp_path: Path, profile: Path) -> None:
    text = page(topologies.three())
    moved = text.replace('y="18"', 'y="90"', 1).replace(
        ">10.66.0.10<", ">10.66.0.10 and very much more than there is room for<", 1
    )
    assert {each[0] for each in measured(profile, tmp_path, moved)["found"]} == {"outside", "over"}


@in_browser
def test_the_policy_keeps_the_page_from_running_and_loading_anything(tmp_path: Path, profile: Path) -> None:
    """Even if somebody got a script, a style or an image into it. What the browser asks for is in its own log."""
    bad = "<script>document.title = 'taken'</script><img src='http://192.0.2.1/a.png'><style>h1 { width: 7px }</style>"
    bad += "<link rel=stylesheet href='http://192.0.2.1/a.css'><p style='width: 7px' onclick='1'>x</p>"
    planted = page(topologies.three()).replace("</body>", f"{bad}</body>")
    free = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", planted)
    for text, titled, asked in ((planted, "Topology of catalog", False), (free, "taken", True)):
        path, log = tmp_path / "planted.html", tmp_path / "net.json"
        path.write_text(text, encoding="utf-8")
        printed = browse(profile, path, f"--log-net-log={log}", "--dump-dom")
        assert f"<title>{titled}" in printed
        assert ("192.0.2.1" in log.read_text(encoding="utf-8", errors="replace")) == asked


# A name that any version of Ansible would take for a template, and that no catalog refuses.
HOSTILE = "<b>{{ 6 * 7 }}</b>"


@in_bare_world
def test_the_playbook_writes_the_page_where_it_is_wanted() -> None:
    """On the control node and on the front-end, of a catalog whose node does not answer. What others wrote stays."""
    site = Site("none")
    # Whatever was in this world before.
    shutil.rmtree(site.root, ignore_errors=True)
    site.root.mkdir()
    with contextlib.closing(EmbeddedEngine(str(site.root), create=True)) as engine, engine.session():
        engine.hosts.allocate(Host(None, "node1"))
        engine.networks.allocate(Network(None, "net", attributes={"DESCRIPTION": HOSTILE}))
    own, there = site.directory / "a place/topology.html", site.directory / "frontend/topology.html"
    places = {"nebula_topology_file": str(own), "nebula_topology_frontend_file": str(there)}
    code, output = site.run("playbooks/topology.yml", "--check", **places)
    assert code == 0 and changed_tasks(output) == ["Make its directory", "Make its directory on the front-end"], output
    assert not own.parent.exists() and not there.parent.exists()
    code, output = site.run("playbooks/topology.yml", nebula_topology_mode="0644", **places)
    assert code == 0 and recap(output)["changed"] == 4, output
    text = own.read_text(encoding="utf-8")
    assert there.read_text(encoding="utf-8") == text and "&lt;b&gt;{{ 6 * 7 }}&lt;/b&gt;" in text
    assert own.stat().st_mode & 0o777 == 0o644
    own.write_text("of somebody else")
    code, output = site.run("playbooks/topology.yml", **places)
    assert code != 0 and f"{own} is a file that this playbook has not written, and it stays as it is" in output, output
    assert own.read_text() == "of somebody else"
    code, output = site.run("playbooks/topology.yml", nebula_topology_file="", nebula_topology_frontend_file="relative")
    assert code != 0 and "the one on the front-end an absolute path. Nothing was written" in output, output
    shutil.rmtree(site.root)
