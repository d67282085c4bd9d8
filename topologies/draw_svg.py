"""A cluster's graph as an SVG picture, drawn without other programs."""

from __future__ import annotations

from math import log10
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from topologies.fold import Box, Mark, fold
from topologies.graph import NodeKind
from topologies.palette import COLOURS
from topologies.place import HEIGHT, MARGIN, WIDTH, Page, Spot
from topologies.text import clean, latency, rate, short
from topologies.wire import wires

if TYPE_CHECKING:
    from collections.abc import Iterator

    from topologies.fold import Picture
    from topologies.graph import ClusterGraph, Link

INK, PAPER, FRAME = "#222222", "#ffffff", "#9a9a9a"
FILLS = {
    NodeKind.ACCELERATOR: "#ffffff",
    NodeKind.SWITCH: "#e4e4e4",
    NodeKind.NIC: "#f1f1f1",
    NodeKind.LEAF: "#e4e4e4",
    NodeKind.SPINE: "#d4d4d4",
    NodeKind.CORE: "#c4c4c4",
}
#: Height of a line of the legend, and its lines in a column.
LEGEND_STEP, LEGEND_ROWS = 21.0, 5
#: A frame that is lower has its name below it.
SMALL_FRAME = 80.0
#: Where letters would be smaller than easy, a name loses what stands before its last dot.
SMALLEST_LETTERS, EASY_LETTERS = 7.0, 9.0
#: Longest title, and name in the legend.
LONGEST_TITLE, LONGEST_NAME = 110, 22


def to_svg(graph: ClusterGraph, title: str) -> str:
    """Return a layered picture of the cluster as an SVG document of 1280 by 800.

    Cores, spines and leaves are on top; below them the accelerators with their cards, in one box
    per host, or per domain where that is larger. What repeats is folded.

    Parameters
    ----------
    graph
        What to draw.
    title
        Heading; it is the alternative text too.
    """
    picture = fold(graph)
    styles = {link: _style(at, link) for at, link in enumerate(graph.links())}
    rows = min(len(styles), LEGEND_ROWS)
    page = Page(picture, HEIGHT - 34 - LEGEND_STEP * (rows + 1))
    summary = ", ".join(_counted(kind, count) for kind, count in graph.kinds().items())
    parts = [
        *_heading(title, summary),
        *_frames(page),
        *_wires(picture, page, styles),
        *_marks(picture, page),
        *_frame_labels(page),
        *_legend(graph, styles, HEIGHT - 22 - LEGEND_STEP * rows),
    ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img"'
    text = f"<title>{_safe(title)}</title>\n<desc>{_safe(summary)}</desc>"
    body = "\n".join(parts)
    return f'{head} font-family="sans-serif" font-size="13">\n{text}\n{body}\n</svg>\n'


def _safe(text: str) -> str:
    return escape(clean(text))


def _counted(kind: NodeKind, count: int) -> str:
    noun = {NodeKind.NIC: "NIC", NodeKind.LEAF: "leaf switch", NodeKind.SWITCH: "inner switch"}
    single = noun.get(kind, str(kind))
    plural = single + ("es" if single.endswith("switch") else "s")
    return f"{count:,} {single if count == 1 else plural}"


def _style(place: int, link: Link) -> str:
    """Return colour and width: by class, and by the rate's logarithm."""
    width = min(max(0.4 + 0.85 * log10(link.Bps / 1e9), 0.8), 5.5)
    return f'stroke="{COLOURS[place % len(COLOURS)]}" stroke-width="{width:.2f}"'


def _heading(title: str, summary: str) -> Iterator[str]:
    yield f'<rect width="{WIDTH:g}" height="{HEIGHT:g}" fill="{PAPER}"/>'
    bold = 'text-anchor="middle" font-weight="bold" font-size="18"'
    yield _text(WIDTH / 2, 30, short(title, LONGEST_TITLE), bold)
    yield _text(WIDTH / 2, 52, summary, 'text-anchor="middle"')


def _frames(page: Page) -> Iterator[str]:
    for kind, y in page.layers:
        name = "leaves" if kind == "leaf" else f"{kind}s"
        yield _text(MARGIN, y + 5, name, 'font-weight="bold"')
    for spot, _ in page.frames:
        yield _rect(spot, f'rx="10" fill="#fafafa" stroke="{FRAME}"')


def _frame_labels(page: Page) -> Iterator[str]:
    """Yield the names of boxes inside them, and those of hosts in a larger box below them."""
    halo = f'stroke="{PAPER}" stroke-width="4" paint-order="stroke" text-anchor="middle"'
    for spot, label in page.frames:
        low, size = (15, 11) if spot.h < SMALL_FRAME else (-9, 13)
        yield _text(spot.x, spot.bottom + low, label, f'{halo} font-size="{size}"')


def _wires(picture: Picture, page: Page, styles: dict[Link, str]) -> Iterator[str]:
    """Yield one path for all links of a class, and one for those that stand for several."""
    paths: dict[tuple[Link, bool], list[str]] = {}
    for wire in wires(picture, page):
        paths.setdefault((wire.link, wire.folded), []).append(wire.path)
    for (link, folded), pieces in paths.items():
        dashes = ' stroke-dasharray="5 4" opacity="0.6"' if folded else ' opacity="0.85"'
        tip = f"<title>{_safe(short(link.name, LONGEST_NAME))}, {rate(link)}</title>"
        yield f'<path d="{"".join(pieces)}" fill="none" {styles[link]}{dashes}>{tip}</path>'


def _marks(picture: Picture, page: Page) -> Iterator[str]:
    for layer in picture.layers.values():
        yield from (_mark(mark, page.spots[mark.key]) for mark in layer)
    for box in picture.boxes:
        if isinstance(box, Box):
            marks = (*box.switches, *box.accelerators, *box.cards)
            yield from (_mark(mark, page.spots[mark.key]) for mark in marks)
        else:
            yield _mark(box, page.spots[box.key])


def _mark(mark: Mark, spot: Spot) -> str:
    fill = FILLS[mark.kind] if mark.kind is not None else "#fafafa"
    dashed = ' stroke-dasharray="4 3"' if mark.hidden else ""
    shape = _rect(spot, f'rx="5" fill="{fill}" stroke="{INK}"{dashed}')
    label = mark.label
    if mark.kind in (NodeKind.ACCELERATOR, NodeKind.NIC) and not mark.hidden:
        label = label.rsplit(" ", 1)[-1]
    if 1.6 * spot.w < EASY_LETTERS * len(label) and not mark.hidden:
        label = label.rsplit(".", 1)[-1]
    size = min(12.0, 1.6 * spot.w / max(len(label), 1))
    if size < SMALLEST_LETTERS:
        label = ""
    middle = f'text-anchor="middle" font-size="{size:.1f}"'
    return shape + _text(spot.x, spot.y + size * 0.36, label, middle)


def _legend(graph: ClusterGraph, styles: dict[Link, str], top: float) -> Iterator[str]:
    """Yield a line for every class of links, in columns side by side."""
    for place, (link, edges) in enumerate(graph.links().items()):
        column, row = divmod(place, LEGEND_ROWS)
        x, y = MARGIN + 470 * column, top + LEGEND_STEP * row
        yield f'<path d="M{x:.0f} {y:.1f}h44" fill="none" {styles[link]}/>'
        count = edges // 2  # both directions of a cable are edges of their own
        cells = (
            short(link.name, LONGEST_NAME),
            rate(link),
            latency(link),
            f"{count:,} link" + "s" * (count != 1),
        )
        for text, across in zip(cells, (56, 270, 335, 430), strict=True):
            anchor = "" if across == 56 else 'text-anchor="end"'
            yield _text(x + across, y + 4.5, text, anchor)
    note = "Rates are per direction; a link is counted once for both. "
    note += "In a box: NICs above, accelerators below, then switches. Dashed: stands for several."
    yield _text(MARGIN, HEIGHT - 10, note, 'font-size="11"')


def _rect(spot: Spot, style: str) -> str:
    return (
        f'<rect x="{spot.left:.1f}" y="{spot.top:.1f}" width="{spot.w:.1f}" '
        f'height="{spot.h:.1f}" {style}/>'
    )


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{INK}" {style}>{_safe(text)}</text>'
