# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says how the page looks: light or dark as the reader's system is, light on paper, with nothing from elsewhere."""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark;
  --sans: system-ui, "Segoe UI", "DejaVu Sans", sans-serif;
  --mono: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", "Liberation Mono", monospace;
  --paper: #ffffff; --ink: #1f2328; --faint: #59636e; --line: #d1d9e0;
  --card: #ffffff; --head: #f3f5f8; --stripe: #f7f9fb;
  --good: #1a7f37; --off: #59636e; --moving: #0b62c4; --bad: #c81e2b;
  --n0: #0b62c4; --n1: #b35900; --n2: #00795a; --n3: #9b3d84; --n4: #7a6400;
  --n5: #b3382c; --n6: #3f51b5; --n7: #4b6b78;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --paper: #0f141a; --ink: #e6edf3; --faint: #9aa7b4; --line: #38424d;
    --card: #161d25; --head: #1e2731; --stripe: #1a222b;
    --good: #4cc265; --off: #9aa7b4; --moving: #6cb0ff; --bad: #ff7b72;
    --n0: #6cb0ff; --n1: #f0a050; --n2: #45c9a0; --n3: #e08fcb;
    --n4: #d3bd4a; --n5: #ff8b80; --n6: #a3aefc; --n7: #9fbccb;
  }
}
* { box-sizing: border-box; }
body { margin: 0; padding: 0 24px; background: var(--paper); color: var(--ink); font: 14px/1.45 var(--sans); }
header, main > section { max-width: 1200px; margin: 0 auto; }
header { padding-top: 22px; }
h1 { font-size: 22px; margin: 0 0 4px; }
h2 { font-size: 16px; margin: 30px 0 8px; }
header p { margin: 2px 0; color: var(--faint); overflow-wrap: anywhere; }
header p.counts { color: var(--ink); font-size: 15px; }
.mono { font-family: var(--mono); }
main > section.picture { overflow-x: auto; margin-top: 10px; max-width: 100%; width: fit-content; }
.picture svg { display: block; overflow: visible; font-family: var(--sans); }
.picture svg text { fill: var(--ink); unicode-bidi: isolate; white-space: pre; }
.picture svg text.mono { font-family: var(--mono); }
.picture svg text.bold { font-weight: 600; }
.picture svg text.faint { fill: var(--faint); }
.picture svg text.heading { fill: var(--ink); }
.c0 { --own: var(--n0); } .c1 { --own: var(--n1); } .c2 { --own: var(--n2); } .c3 { --own: var(--n3); }
.c4 { --own: var(--n4); } .c5 { --own: var(--n5); } .c6 { --own: var(--n6); } .c7 { --own: var(--n7); }
line { stroke: var(--own); }
.dot { fill: var(--own); }
.band { fill: var(--own); fill-opacity: .13; stroke: var(--own); stroke-width: 1.5; }
.band.outer { fill-opacity: .26; stroke-width: 2.5; }
.band.unknown { fill-opacity: .04; stroke-dasharray: 6 4; }
.edge { fill: var(--own); }
.router { fill: var(--head); stroke: var(--ink); stroke-width: 1.5; }
.card { fill: var(--card); stroke: var(--line); }
.head { fill: var(--head); stroke: var(--line); }
.head.bad { stroke: var(--bad); }
.stripe { fill: var(--stripe); }
.void { fill: none; stroke: var(--line); stroke-dasharray: 6 4; }
.mark { stroke: none; fill: var(--moving); }
.mark.good { fill: var(--good); }
.mark.off { fill: none; stroke: var(--off); stroke-width: 2; }
.mark.bad { fill: none; stroke: var(--bad); stroke-width: 2.6; }
.mark.router { fill: none; stroke: var(--ink); stroke-width: 1.3; }
.mark.plain { fill: var(--faint); }
.picture svg text.good { fill: var(--good); } .picture svg text.off { fill: var(--off); }
.picture svg text.moving { fill: var(--moving); } .picture svg text.bad { fill: var(--bad); }
.scrolled { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13px; }
th, td { text-align: left; vertical-align: top; padding: 4px 12px 4px 8px; border-bottom: 1px solid var(--line); }
th { background: var(--head); white-space: nowrap; }
td { overflow-wrap: anywhere; min-width: 4em; max-width: 32em; }
td.short { white-space: nowrap; min-width: 0; }
td.mono { font-size: 12px; }
td.state { font-weight: 600; }
td.good { color: var(--good); } td.off { color: var(--off); }
td.moving { color: var(--moving); } td.bad { color: var(--bad); }
footer { height: 32px; }
@page { size: A4 landscape; margin: 10mm; }
@media print {
  body { font-size: 11px; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  body { padding: 0; }
  header, main > section { max-width: none; }
  main > section.picture { width: 100%; }
  main > section.picture, .scrolled { overflow: visible; }
  .picture svg { width: 100%; height: auto; break-inside: avoid; }
  .picture svg.leads { break-after: avoid; }
  h2 { break-after: avoid; }
  thead { display: table-header-group; }
  tr { break-inside: avoid; }
  table { font-size: 10px; }
  td.mono { font-size: 9.5px; }
}
"""
