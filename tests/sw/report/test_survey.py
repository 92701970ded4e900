"""Surveys of networks, their record and their page."""

from dataclasses import replace

import pytest
from places import ROOT

from weft import cli
from weft.digits import MODEL
from weft.errors import InputError
from weft.hw.isa.presets import load_config
from weft.report.networks_page import networks_page, read_titles
from weft.report.survey import OnHost, load_survey, merge_survey, save_survey, survey

RECORD = ROOT / "benchmarks" / "networks.json"


def test_page_is_that_of_the_record():
    page = networks_page(load_survey(RECORD), read_titles(ROOT / "benchmarks" / "networks.toml"))
    assert (ROOT / "docs" / "networks.md").read_text() == page, \
        "run python -m weft.report.networks_page > docs/networks.md"


def test_no_recorded_byte_differs():
    networks = load_survey(RECORD)
    assert networks
    assert [each.network for each in networks if each.differing or each.refused] == []


def test_digits():
    result = survey(MODEL, load_config("tiny"), device="functional", frames=3)
    assert (result.network, result.config, result.refused) == ("digits_int8.onnx", "tiny", "")
    assert result.differing == 0 and result.compared == 3 * 10 * 4
    assert result.golden == "onnxruntime"
    assert (result.macs, result.host_macs, result.parts, result.share) == (351_232, 0, 1, 1.0)
    assert 0 < result.accelerated < result.nodes
    assert result.host == ()


def test_record_keeps_what_is_not_new(tmp_path):
    old = survey(MODEL, load_config("tiny"), device="functional", frames=1)
    other = replace(old, network="other", host=(OnHost(op="Sin", count=2, reason="why"),))
    new = replace(old, frames=2)
    save_survey(merge_survey([old, other], [new]), tmp_path / "record.json")
    assert load_survey(tmp_path / "record.json") == [new, other]


def test_refused_network_is_listed(tmp_path, capsys):
    model = tmp_path / "broken.onnx"
    model.write_bytes(b"no model")
    record = tmp_path / "record.json"
    code = cli.main(["survey", str(model), str(MODEL), "--config", "tiny", "--device",
                     "functional", "--frames", "1", "--record", str(record)])
    assert code == 0
    shown = capsys.readouterr().out
    assert "refused" in shown and "broken.onnx: " in shown and "351,232" in shown
    refused, digits = load_survey(record)
    assert refused.refused and not refused.nodes and not digits.refused
    page = networks_page([refused, digits],
                         {"digits_int8.onnx": {"title": "digits", "source": "here"}})
    assert "| broken.onnx |  | tiny |" in page and "| digits | here | tiny |" in page


@pytest.mark.parametrize("options, message", [
    (("--frames", "0"), "Number of random frames must be at least 1, not 0"),
    (("--device", "abacus"), "Device must be "),
    (("--device", "serial:?baud=x"), "Device must be serial:NAME"),
])
def test_wrong_options_are_no_refusals(options, message, tmp_path, capsys):
    record = tmp_path / "record.json"
    assert cli.main(["survey", str(MODEL), str(MODEL), *options, "--record", str(record)]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and not record.exists()
    assert shown.err.splitlines()[-1].startswith(f"weft: error: {message}")


def test_difference_is_an_exit_code(monkeypatch, capsys):
    from weft.report import survey as module

    result = module.survey(MODEL, load_config("tiny"), device="functional", frames=1)
    monkeypatch.setattr(module, "survey", lambda *_args, **_keywords: replace(result, differing=1))
    assert cli.main(["survey", str(MODEL), "--config", "tiny"]) == 1
    assert "1" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "[]", '{"format": 0, "networks": []}',
                                  '{"format": 1, "networks": [{"network": 1}]}'])
def test_record_of_another_kind(tmp_path, text):
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(InputError, match="is not one of this weft survey"):
        load_survey(path)
