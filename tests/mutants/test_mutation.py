import ast
import tomllib
from pathlib import Path

import pytest
from mutants.mutation import mutants

HARDWARE = sorted((Path(__file__).parents[2] / "hw").rglob("*.py"))


def changes(source):
    return {(mutant.operator, mutant.after) for mutant in mutants("hw/x.py", source.encode())}


@pytest.mark.parametrize("source, expected", [
    ("a = b + c * 2", {("arithmetic", "a = (b - c * 2)"), ("arithmetic", "a = b + (c + 2)"),
                       ("constant", "a = b + c * 3"), ("constant", "a = b + c * 1")}),
    ("a = b & (c | ~d)", {("bitwise", "a = (b | (c | ~d))"), ("bitwise", "a = b & ((c & ~d))"),
                          ("negation", "a = b & (c | d)")}),
    ("a = (b  # &\n     & c)", {("bitwise", "a = ((b # & | c))")}),
    ("a = b <= c", {("comparison", "a = (b < c)")}),
    ("a = b != 0", {("comparison", "a = (b == 0)"), ("constant", "a = b != 1")}),
    ("a = Mux(b, c, (d))", {("choice", "a = Mux(b, d, (c))")}),
    ("a = b if c else d", {("choice", "a = d if c else b")}),
    ("a = b.any() and True", {("any/all", "a = b.all() and True"),
                              ("boolean", "a = (b.any() or True)"),
                              ("boolean", "a = b.any() and False")}),
    ("m.d.sync += a.eq(b)", {("statement", "m.d.sync += []")}),
    ("m.d.comb += [a.eq(b), c.eq(d)]", {("statement", "m.d.comb += [*(), c.eq(d)]"),
                                        ("statement", "m.d.comb += [a.eq(b), *()]")}),
    ("with m.If(a):\n    pass", {("condition", "with m.If((a) == 0):")}),
    ("with m.Elif(~a):\n    pass", {("negation", "with m.Elif(a):")}),
    ("a = Signal(8, init=0)", {("constant", "a = Signal(7, init=0)"),
                               ("constant", "a = Signal(8, init=1)")}),
    ("a = Signal(range(b - 2))", {("constant", "a = Signal(range(b - 3))")}),
    ("a = Signal(b + 2)", {("arithmetic", "a = Signal((b - 2))"),
                           ("constant", "a = Signal(b + 1)")}),
    ("class A:\n    b: unsigned(8)  # bits", {("constant", "b: unsigned(7) # bits")}),
])
def test_every_operator_is_changed(source, expected):
    assert changes(source) == expected


@pytest.mark.parametrize("source", [
    '"""Two: 2 + 2."""',
    "a = Signal(name='a' + 'b', attrs={'keep': 1}, reset_less=True)",
    "if a < 1:\n    raise ValueError(f'at least {1 + 1}')",
    "def check_depth(depth):\n    a = depth + 1",
    "class Code(enum.Enum):\n    ONE = 1",
    "def f(a: unsigned(8), b=1) -> unsigned(3):\n    pass",
    "m.d.comb += Assert(a == 1)",
])
def test_what_no_test_can_see_stays(source):
    assert changes(source) == set()


@pytest.mark.parametrize("path", HARDWARE, ids=lambda path: path.stem)
def test_a_changed_file_differs_in_one_place_and_is_python(path):
    source = path.read_bytes()
    found = mutants("hw/x.py", source)
    assert len(set(found)) == len(found)
    for mutant in found[::7]:
        changed = mutant.apply(source)
        assert changed != source
        assert mutant.first <= mutant.line <= mutant.last
        ast.parse(changed)


def test_every_change_that_is_known_to_make_no_difference_can_be_made():
    root = HARDWARE[0].parents[1]
    entries = tomllib.loads((Path(__file__).parent / "equivalent.toml").read_text())["mutant"]
    possible = {mutant.key for file in {entry["file"] for entry in entries}
                for mutant in mutants(file, (root / file).read_bytes())}
    for entry in entries:
        assert (entry["file"], entry["scope"], entry["before"], entry["after"]) in possible
        assert entry["reason"].endswith(".")
