"""Imports point up the list in CONTRIBUTING.md and never in a circle; what still does is named here, and shrinks."""

import re
from functools import cache
from pathlib import Path

from tests.import_graph import ROOT, circles, draw

CONTRIBUTING = Path(__file__).parents[1] / "CONTRIBUTING.md"

#: arrows against the order. Take out what you mend; nothing joins.
UPWARD: set[str] = set()

#: arrows within one room that close a circle, without which there is none. Take out what you mend; nothing joins.
CIRCULAR: set[str] = set()


def order():
    """Room -> its place in the list, the lowest first; rooms joined by "and" share one."""
    text = " ".join(CONTRIBUTING.read_text(encoding="utf-8").split())
    listed = re.search(r"An import only ever points up this list: (.+?)\. ", text)[1]
    return {room: place for place, rooms in enumerate(listed.split(", ")) for room in rooms.split(" and ")}


def room(module):
    """The package or file right below the root; the root itself is named by its file."""
    return module.split(".")[1] if "." in module else "__init__"


def short(module):
    return module.removeprefix(f"{ROOT}.") if "." in module else "__init__"


@cache
def drawn():
    return draw()


def arrows():
    return [(start, end, line) for start, ends in drawn().items() for end, line in ends.items()]


def without(*known):
    """The graph without the arrows named."""
    left_out = set().union(*known)
    graph = {module: set() for module in drawn()}
    for start, end, _ in arrows():
        if f"{short(start)} -> {short(end)}" not in left_out:
            graph[start].add(end)
    return graph


def test_every_room_has_its_place_in_the_list():
    assert {room(module) for module in drawn()} == order().keys()


def test_no_import_points_against_the_list_but_those_named():
    places = order()
    found = {(start, end): line for start, end, line in arrows() if places[room(end)] > places[room(start)]}
    lines = {f"{short(start)} -> {short(end)}": f"{start}, line {line}" for (start, end), line in found.items()}
    assert lines.keys() == UPWARD, {name: lines.get(name, "is mended") for name in lines.keys() ^ UPWARD}


def test_there_is_no_circle_but_for_the_arrows_named():
    rest = without(UPWARD, CIRCULAR)
    assert circles(rest) == []
    for name in CIRCULAR:
        start, _, end = (f"{ROOT}.{part}" for part in name.partition(" -> "))
        assert end in drawn()[start], f"{name} is mended: take it out of the list"
        assert circles({**rest, start: rest[start] | {end}}), f"{name} closes no circle: take it out of the list"


def test_imports_of_all_kinds_are_drawn(tmp_path):
    files = {
        "__init__.py": "_IMPORT_PATH = {'thing': 'metricgrad.rooms.a'}",
        "rooms/__init__.py": "",
        "rooms/a.py": "from .b import x\nfrom metricgrad import ground",
        "rooms/b.py": "def f():\n    import metricgrad.rooms.c as c",
        "rooms/c.py": "if TYPE_CHECKING:\n    from metricgrad.rooms.d import D",
        "rooms/d.py": "HOME = 'metricgrad.rooms.e:Thing'\nTEXT = 'see metricgrad.rooms.a for more'",
        "rooms/e.py": "_BASE = 'metricgrad.rooms.'\nHOME = _BASE + 'f:Thing'",
        "rooms/f.py": "NAMES = ('g',)\ndef f(name):\n    return load(f'metricgrad.rooms.{name}')",
        "rooms/g.py": "from metricgrad import __version__",
        "ground.py": "import torch",
        "top.py": "from metricgrad.rooms.a import x",
    }
    for name, text in files.items():
        path = tmp_path / "metricgrad" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = {(short(start), short(end)) for start, ends in draw(tmp_path / "metricgrad").items() for end in ends}
    assert found == {
        ("__init__", "rooms.a"),
        ("__init__", "rooms"),
        ("rooms.a", "rooms.b"),
        ("rooms.a", "ground"),
        ("rooms.b", "rooms.c"),
        ("rooms.c", "rooms.d"),
        ("rooms.d", "rooms.e"),
        ("rooms.e", "rooms.f"),
        ("rooms.f", "rooms.g"),
        ("rooms.g", "__init__"),
        ("top", "rooms.a"),
        ("top", "rooms"),
    }
    assert len(circles({start: set(ends) for start, ends in draw(tmp_path / "metricgrad").items()})[0]) == 8
