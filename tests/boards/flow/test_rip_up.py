import pytest

from weft.boards.flow.rip_up import RipUp


def rounds(count, *, overused, late):
    return [f"Info:     iter={number} wires=800000 overused={overused} overuse={overused} "
            f"tmgfail={late} archfail=NA" for number in range(1, count + 1)]


@pytest.mark.parametrize("overused, late, ends", [
    (0, 2, 30),      # nothing but late wires
    (1, 2, 400),     # conflicts may still go
    (0, 0, 400),
])
def test_ends_where_nothing_gets_better(overused, late, ends):
    rip_up = RipUp()
    verdicts = [rip_up.in_vain(line) for line in rounds(ends, overused=overused, late=late)]
    assert verdicts == [False] * (ends - 1) + [True]


def test_takes_no_notice_of_anything_else():
    rip_up = RipUp()
    assert not any(rip_up.in_vain(line) for line in [
        "Info: at iteration #500: temp = 0.0, timing cost = 3, wirelen = 9",
        "Info:     iter=500 wires=9 overused=0 overuse=0 archfail=0",
    ])
