"""Energy of a frame, layer by layer."""

import json

import pytest

from weft.cli import main
from weft.compiler.activity import Activity
from weft.digits import MODEL
from weft.hw.isa.presets import PRESETS
from weft.runtime.energy import load_energy_table
from weft.runtime.layer_energy import frame_energy
from weft.runtime.runner import random_frames, run_frames
from weft.runtime.session import InferenceSession

TABLE = load_energy_table()


def frames(config, device, batch=1):
    found = []
    with InferenceSession(MODEL, config=config, device=device, batch=batch) as session:
        run_frames(session, random_frames(session, 2 * batch), model="digits", device=device,
                   observe=found.append)
    return found


@pytest.mark.parametrize("device", ["functional", "verilator"])
def test_beats_are_those_that_the_device_counts(device):
    for frame in frames("tiny", device):
        layers = frame_energy(frame.executions, TABLE)
        total = Activity.sum(layer.activity for layer in layers)
        assert total.read_beats == frame.counters["read_beats"]
        assert total.write_beats == frame.counters["write_beats"]
        assert [layer.name for layer in layers[:-1]] == [layer.name for layer in frame.layers]


def test_a_frame_that_loads_no_weights_takes_less():
    cold, warm = frames("base", "functional")
    first, further = (sum(layer.energy_uj for layer in frame_energy(frame.executions, TABLE))
                      for frame in (cold, warm))
    assert 0 < further < first


def test_a_batch_takes_as_many_products_as_its_frames():
    one = frame_energy(frames("small", "functional")[0].executions, TABLE)
    three = frame_energy(frames("small", "functional", batch=3)[0].executions, TABLE)
    assert [layer.name for layer in one] == [layer.name for layer in three]
    for single, triple in zip(one, three, strict=True):
        assert triple.activity.requantized == 3 * single.activity.requantized


def test_command_line(tmp_path, capsys):
    path, table = tmp_path / "run.json", tmp_path / "table.toml"
    table.write_text("product = 1000000\n")
    command = ["run", str(MODEL), "--device", "functional", "--config", "tiny",
               "--json", str(path)]
    assert main(command) == 0
    assert "energy" not in json.loads(path.read_text())
    assert main([*command, "--energy"]) == 0
    assert "estimate, to compare configurations by" in capsys.readouterr().out
    plain = json.loads(path.read_text())["energy"]
    assert main([*command, "--energy", str(table)]) == 0
    dear = json.loads(path.read_text())["energy"]
    assert dear["total_uj"] > 100 * plain["total_uj"]
    assert plain["total_uj"] == pytest.approx(sum(each["energy_uj"] for each in plain["layers"]))
    config = PRESETS["tiny"]
    assert sum(each["activity"]["products"] for each in plain["layers"]) % config.multipliers == 0
