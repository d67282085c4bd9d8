"""Where the marks of a picture go on the page, top down: cores, spines, leaves, boxes."""

from __future__ import annotations

from collections import deque
from itertools import groupby
from math import cos, pi, sin
from typing import TYPE_CHECKING, NamedTuple

from topologies.fold import Box, Mark
from topologies.graph import NodeKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from topologies.fold import Picture

WIDTH, HEIGHT, MARGIN, TOP = 1280.0, 800.0, 24.0, 92.0
#: Between boxes, and between the rows of a box.
GAP, ROW_STEP = 16.0, 62.0
#: Of an ellipsis among boxes, and of the widest box.
REST_WIDTH, WIDEST_BOX = 118.0, 760.0
#: Centres of the network cards and accelerators, below the top of their box.
CARDS_DOWN, ACCELERATORS_DOWN = 30.0, 84.0
#: Heights of the part of a box that holds a ring or a grid.
FIELD_HEIGHT = 290.0
_INSIDE = (NodeKind.ACCELERATOR, NodeKind.SWITCH)


class Spot(NamedTuple):
    """A rectangle by its centre and sides."""

    x: float
    y: float
    w: float
    h: float

    @property
    def top(self) -> float:
        """Upper edge."""
        return self.y - self.h / 2

    @property
    def bottom(self) -> float:
        """Lower edge."""
        return self.y + self.h / 2

    @property
    def left(self) -> float:
        """Left edge."""
        return self.x - self.w / 2

    @property
    def right(self) -> float:
        """Right edge."""
        return self.x + self.w / 2


class Page:
    """Positions of all marks and frames.

    Parameters
    ----------
    picture
        What to draw.
    floor
        Lower edge of the boxes; what lies below belongs to the legend.
    """

    def __init__(self, picture: Picture, floor: float) -> None:
        self.spots: dict[str, Spot] = {}
        #: Rounded rectangles with their labels: boxes, then hosts inside of them.
        self.frames: list[tuple[Spot, str]] = []
        self.layers: list[tuple[str, float]] = []
        self.heights = _heights(picture)
        self.below = _children(picture, self.heights)
        deepest = max(_box_height(box, self.heights) for box in picture.boxes)
        self._layers(picture, floor - deepest)
        self._boxes(picture.boxes, floor - deepest, deepest)

    def _layers(self, picture: Picture, floor: float) -> None:
        """Spread cores, spines and leaves evenly above the boxes."""
        step = (floor - TOP) / max(len(picture.layers), 1)
        for place, (kind, marks) in enumerate(picture.layers.items()):
            y = TOP + step * place + 4
            self.layers.append((str(kind), y))
            slot = min((WIDTH - 2 * MARGIN - 90) / len(marks), 190)
            first = WIDTH / 2 - slot * (len(marks) - 1) / 2
            for at, mark in enumerate(marks):
                self.spots[mark.key] = Spot(first + slot * at, y, min(slot - 24, 110), 26)

    def _boxes(self, boxes: Sequence[Box | Mark], top: float, height: float) -> None:
        rests = sum(isinstance(box, Mark) for box in boxes)
        room = WIDTH - 2 * MARGIN - GAP * (len(boxes) - 1) - REST_WIDTH * rests
        most = max(box.columns for box in boxes if isinstance(box, Box))
        width = min(room / (len(boxes) - rests), max(WIDEST_BOX, 24.0 * most))
        taken = (len(boxes) - rests) * width + rests * REST_WIDTH + GAP * (len(boxes) - 1)
        left = (WIDTH - taken) / 2
        for box in boxes:
            wide = REST_WIDTH if isinstance(box, Mark) else width
            spot = Spot(left + wide / 2, top + height / 2, wide, height)
            if isinstance(box, Mark):
                self.spots[box.key] = spot._replace(h=height * 0.5)
            else:
                self.frames.append((spot, box.label))
                self._box(box, spot)
            left += wide + GAP

    def _box(self, box: Box, frame: Spot) -> None:
        if box.form.is_grid:
            self._grid(box, frame)
        elif box.form.is_ring:
            self._ring(box, frame)
        else:
            self._line(box.accelerators, frame, frame.top + ACCELERATORS_DOWN, (40, 30))
            self._switches(box, frame)
            if box.hosts:
                self.frames += self._hosts(box)
        self._cards(box, frame)

    def _line(
        self, marks: Sequence[Mark], frame: Spot, y: float, largest: tuple[float, float]
    ) -> None:
        """Put marks in a row; an ellipsis is as wide as two."""
        shares = [2.0 if mark.hidden else 1.0 for mark in marks]
        slot = min((frame.w - 24) / sum(shares), 84) if shares else 0
        left = frame.x - slot * sum(shares) / 2
        for mark, share in zip(marks, shares, strict=True):
            width = min(slot * share * 0.8, largest[0] * share)
            self.spots[mark.key] = Spot(left + slot * share / 2, y, width, largest[1])
            left += slot * share

    def _ring(self, box: Box, frame: Spot) -> None:
        """Put accelerators on an ellipse, turned so that no two are above each other."""
        count = len(box.accelerators)
        top = frame.top + ACCELERATORS_DOWN - 18
        across, down = min(frame.w / 2 - 40, 260), FIELD_HEIGHT / 2 - 26
        side = min(34.0, 2.2 * across / count)
        for at, mark in enumerate(box.accelerators):
            angle = 2 * pi * (at + 0.25) / count
            x, y = frame.x - across * cos(angle), top + 26 + down - down * sin(angle)
            self.spots[mark.key] = Spot(x, y, 2 * side if mark.hidden else side, min(side, 28))

    def _grid(self, box: Box, frame: Spot) -> None:
        shown = [mark for mark in box.accelerators if not mark.hidden]
        rows = -(-len(shown) // box.columns)
        across = (frame.w - REST_WIDTH * 1.5) / box.columns
        down = (FIELD_HEIGHT - 24) / rows
        across = min(across, 2.6 * down, 84)
        side = min(34.0, across * 0.55, down * 0.55)
        for at, mark in enumerate(shown):
            row, column = divmod(at, box.columns)
            x = frame.x + across * (column - (box.columns - 1) / 2)
            y = frame.top + ACCELERATORS_DOWN - 6 + down * (row + 0.5)
            self.spots[mark.key] = Spot(x, y, side, side)
        for mark in box.accelerators[len(shown) :]:
            self.spots[mark.key] = Spot(frame.right - 48, frame.bottom - 48, 80, 20)

    def _cards(self, box: Box, frame: Spot) -> None:
        """Put cards in a row along the top, each above what it serves where that is possible."""
        y = frame.top + CARDS_DOWN
        if box.form.is_ring:
            self._line(sorted(box.cards, key=self._over), frame, y, (34, 20))
            return
        hung = [card for card in box.cards if self._hangs(card)]
        self._hang(hung, box, frame)
        rest = [card for card in box.cards if card not in hung]
        crowd = -(-len(rest) // len(box.accelerators))
        for x, group in groupby(rest, self._over):
            beside = list(group)
            for at, card in enumerate(beside):
                widest = 80 if card.hidden else 36
                side = min(widest, *(spot.w for spot in self._served(card)))
                share = side / max(crowd, len(beside))
                middle = x + share * (at - (len(beside) - 1) / 2)
                self.spots[card.key] = Spot(middle, y, share, 20)
            if box.form.is_grid and card.hidden:
                self.spots[card.key] = Spot(frame.right - 48, y, 80, 20)

    def _over(self, card: Mark) -> float:
        served = self._served(card)
        return sum(spot.x for spot in served) / len(served)

    def _served(self, card: Mark) -> list[Spot]:
        return [self.spots[key] for key in self.below.get(card.key, ()) if key in self.spots]

    def _hangs(self, card: Mark) -> bool:
        """Return whether a card serves switches, and no accelerator, of a row."""
        heights = [self.heights[key] for key in self.below.get(card.key, ())]
        return bool(heights) and min(heights) > 0

    def _hang(self, cards: Sequence[Mark], box: Box, frame: Spot) -> None:
        """Put cards of switches above the gaps of the row, so that their links pass between."""
        row = [self.spots[mark.key] for mark in box.accelerators]
        edges = [frame.left, *(x for spot in row for x in (spot.left, spot.right)), frame.right]
        free = [(left + right) / 2 for left, right in zip(edges[::2], edges[1::2], strict=True)]
        y = frame.top + CARDS_DOWN
        if len(cards) > len(free):
            self._line(sorted(cards, key=self._over), frame, y, (34, 20))
            return
        across = min((row[0].w * 0.8, 36.0))
        for card in cards:
            x = free.pop(_nearest(free, self._over(card)))
            self.spots[card.key] = Spot(x, y, 80 if card.hidden else across, 20)

    def _switches(self, box: Box, frame: Spot) -> None:
        """Stretch every switch below what it joins; those that would overlap share the width."""
        ranked = sorted(box.switches, key=lambda mark: self.heights[mark.key])
        for rank, group in groupby(ranked, key=lambda mark: self.heights[mark.key]):
            y = frame.top + ACCELERATORS_DOWN + ROW_STEP * rank
            reach = [(*self._extent(mark, frame), mark) for mark in group]
            for left, right, marks in _side_by_side(reach):
                slot = (right - left) / len(marks)
                gap = 10.0 if len(marks) > 1 else 0.0
                for at, mark in enumerate(marks):
                    middle = left + slot * (at + 0.5)
                    self.spots[mark.key] = Spot(middle, y, max(slot - gap, slot / 2), 24)

    def _extent(self, mark: Mark, frame: Spot) -> tuple[float, float]:
        """Return the ends of what a switch joins further inside."""
        joined = self._served(mark)
        clear = [self.spots[key] for key in self.below.get(mark.key, ()) if key.startswith("n")]
        joined = [spot for spot in clear if spot in joined] or joined
        left = min((spot.left for spot in joined), default=frame.left + 20)
        right = max((spot.right for spot in joined), default=frame.right - 20)
        return left, right

    def _hosts(self, box: Box) -> Iterator[tuple[Spot, str]]:
        for host, group in groupby(box.accelerators, lambda mark: mark.host):
            spots = [self.spots[mark.key] for mark in group]
            if host is not None:
                left, right = spots[0].left - 3, spots[-1].right + 3
                middle = Spot((left + right) / 2, spots[0].y, right - left, spots[0].h + 10)
                yield middle, f"host {host}"


def _nearest(places: Sequence[float], x: float) -> int:
    return min(range(len(places)), key=lambda at: abs(places[at] - x))


def _heights(picture: Picture) -> dict[str, int]:
    """Return for every mark how far outside it is: switches by their links to accelerators."""
    near: dict[str, list[str]] = {}
    heights: dict[str, int] = {}
    for a, b, _ in picture.wires:
        for mark in (a, b):
            order = 0 if mark.kind is None else list(NodeKind).index(mark.kind)
            if mark.kind is not NodeKind.SWITCH:
                heights[mark.key] = order * 1000
        if a.kind in _INSIDE and b.kind in _INSIDE:
            near.setdefault(a.key, []).append(b.key)
            near.setdefault(b.key, []).append(a.key)
    waiting = deque(key for key in near if heights.get(key) == 0)
    while waiting:
        key = waiting.popleft()
        for other in near[key]:
            if other not in heights:
                heights[other] = heights[key] + 1
                waiting.append(other)
    for box in picture.boxes:
        if isinstance(box, Box):
            heights |= {mark.key: 1 for mark in box.switches if mark.key not in heights}
    return heights


def _children(picture: Picture, heights: dict[str, int]) -> dict[str, list[str]]:
    """Return for every mark what it joins or serves: the accelerators or switches inside of it."""
    found: dict[str, list[str]] = {}
    for a, b, _ in picture.wires:
        if heights[a.key] != heights[b.key]:
            inner, outer = sorted((a, b), key=lambda mark: heights[mark.key])
            found.setdefault(outer.key, []).append(inner.key)
    return found


def _side_by_side(
    reach: Sequence[tuple[float, float, Mark]],
) -> Iterator[tuple[float, float, list[Mark]]]:
    """Yield runs of marks whose ends overlap, with the ends of the run."""
    left, right, marks = 0.0, 0.0, list[Mark]()
    for start, end, mark in sorted(reach, key=lambda item: item[:2]):
        if marks and start >= right:
            yield left, right, marks
            marks = []
        left, right = (start, end) if not marks else (left, max(right, end))
        marks.append(mark)
    if marks:
        yield left, right, marks


def _box_height(box: Box | Mark, heights: dict[str, int]) -> float:
    if isinstance(box, Mark):
        return 0.0
    if box.form.is_grid or box.form.is_ring:
        return ACCELERATORS_DOWN + FIELD_HEIGHT + 24
    deepest = max((heights[mark.key] for mark in box.switches), default=0)
    return ACCELERATORS_DOWN + ROW_STEP * deepest + 48
