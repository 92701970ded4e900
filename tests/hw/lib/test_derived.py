"""A figure that follows from another is worked out when it is asked for."""

from weft.hw.lib.derived import derived


class Stage:
    LATENCY = 3

    @derived
    def total(cls):
        return cls.LATENCY + 1


class Longer(Stage):
    LATENCY = 5


def test_figure_is_that_of_the_class_and_of_its_instances(monkeypatch):
    assert Stage.total == Stage().total == 4
    assert Longer.total == Longer().total == 6
    monkeypatch.setattr(Stage, "LATENCY", 7)
    assert Stage.total == Stage().total == 8
