# amaranth: UnusedElaboratable=no
"""Resources by formula, against those of the generated design."""

import pytest

from weft.boards.flow.fit import fit, part_sizes
from weft.boards.flow.predict import PARTS, predict, predicted_error, terms
from weft.boards.flow.reached import clock_model
from weft.boards.flow.resources import resources
from weft.boards.registry import BOARDS
from weft.hw.isa.presets import PRESETS

SMALL = BOARDS["ulx3s-25f"]
LARGE = BOARDS["ulx3s-85f-onchip"]


def predicted(config, board):
    return predict(config, board.family, blocks=board.capacity.multipliers, memory=board.memory)


@pytest.fixture(scope="module", params=(
    {"rows": 4, "cols": 6, "axi_data_width": 64, "axi_addr_width": 32, "activation_bytes": 20_000,
     "activation_banks": 4, "vector_entries": 600, "requant_lanes": 2, "fixed_point": True,
     "counters": True},
    # Beats that are read ahead in block memory, and products of activations.
    {"axi_addr_width": 32, "axi_burst_beats": 16, "axi_outstanding": 4, "products": True,
     "drain_lookup": True},
    {"axi_data_width": 64, "axi_addr_width": 32, "products": True, "normalize_channels": 64},
    # Rows of windows in block memory, and in distributed memory.
    {"axi_data_width": 64, "axi_addr_width": 32, "vector_taps": 10, "vector_lines": 64},
    {"axi_data_width": 64, "axi_addr_width": 32, "vector_taps": 8, "vector_lines": 32},
), ids=("fixed_point", "products", "normalize", "lines", "few_lines"))
def generated(request):
    config = SMALL.config.replace(**request.param)
    return config, resources(config, LARGE)


@pytest.mark.slow
def test_multipliers_and_memories_are_exact(generated):
    config, found = generated
    mine = predicted(config, LARGE)
    assert (mine.multipliers, mine.block_rams) == (found.total.multipliers, found.total.block_rams)


@pytest.mark.slow
def test_logic_is_near(generated):
    config, found = generated
    mine = predicted(config, LARGE)
    assert mine.luts == pytest.approx(found.total.luts, rel=0.05)
    assert mine.ffs == pytest.approx(found.total.ffs, rel=0.05)


def test_built_boards_are_near():
    # LUTs and flip-flops of docs/fpga.md. The 25F is synthesized for few LUTs.
    large = predicted(LARGE.config, LARGE)
    assert (large.multipliers, large.block_rams) == (152, 174)
    assert large.luts == pytest.approx(34_813, rel=0.05)
    assert large.ffs == pytest.approx(43_426, rel=0.06)
    small = predicted(SMALL.config, SMALL)
    assert (small.multipliers, small.block_rams) == (22, 51)
    assert small.luts == pytest.approx(13_439, rel=0.11)


@pytest.mark.slow
def test_parts_are_all_of_the_system(generated):
    config, found = generated
    components = found.to_dict()["components"]
    sizes = part_sizes(components)
    assert set(sizes) == set(PARTS)
    assert bool(sizes["turn"]["luts"]) == config.products
    for kind in ("luts", "ffs"):
        assert sum(each[kind] for each in sizes.values()) == pytest.approx(
            components["system"][kind], abs=len(PARTS))     # each is rounded


def test_products_of_activations_and_tables_of_the_drain_are_told():
    config = PRESETS["tiny"]
    plain, turned, looked_up = (predicted(config.replace(**change), LARGE) for change in (
        {"drain_lookup": False}, {"drain_lookup": False, "products": True}, {}))
    assert turned.luts > plain.luts + 1_000 and turned.multipliers == plain.multipliers + 4
    shares = predicted(config.replace(products=True, softmax=True, drain_lookup=False), LARGE)
    assert shares.luts == pytest.approx(turned.luts + 4_085, rel=0.01)
    assert shares.ffs == pytest.approx(turned.ffs + 2_195, rel=0.01)
    assert shares.block_rams == turned.block_rams + 1
    normal = predicted(config.replace(products=True, normalize_channels=64, drain_lookup=False),
                       LARGE)
    assert normal.luts == pytest.approx(turned.luts + 6_549, rel=0.01)
    assert normal.ffs == pytest.approx(turned.ffs + 7_188, rel=0.01)
    assert normal.multipliers == turned.multipliers + 9
    assert normal.block_rams == turned.block_rams + 4
    one, two = (predicted(config.replace(
        products=True, softmax=True, normalize_channels=64, row_units=units, drain_lookup=False),
        LARGE) for units in (1, 2))
    assert two.luts > one.luts + 8_000 and two.multipliers == one.multipliers + 9
    assert two.block_rams == one.block_rams + 3
    assert looked_up.luts > plain.luts and looked_up.block_rams == plain.block_rams + 2


def test_kept_rows_are_told():
    config = PRESETS["tiny"].replace(vector_taps=8)
    none, few, many = (predicted(config.replace(vector_lines=lines), LARGE)
                       for lines in (0, 32, 128))
    # Four words of each column, 128 bits of blocks that are 36 wide.
    assert (few.block_rams, many.block_rams) == (none.block_rams, none.block_rams + 4)
    assert few.luts > many.luts > none.luts + 900


@pytest.mark.parametrize(("width", "blocks"), [(33, 1), (65, 2), (129, 4)])
def test_a_memory_left_to_synthesis_has_the_parity_bits_of_its_blocks(width, blocks):
    # As Yosys has them of the buffer of a read engine.
    assert LARGE.family.block_memory.count(width, 63) == blocks


def test_products_that_find_no_block_are_made_of_luts():
    config = PRESETS["small"]
    family = LARGE.family
    enough, none = (predict(config, family, blocks=blocks) for blocks in (156, config.multipliers))
    assert none.multipliers == config.multipliers < enough.multipliers
    assert none.luts > enough.luts + 5_000


def test_fit_finds_the_factors_of_designs_that_are_such_sums():
    factor = {"luts": 7.0, "ffs": 3.0}
    places = {"array": "core.matrix.array", "drain": "core.matrix.drain"}
    samples = []
    for rows, cols, lanes in ((4, 4, 1), (8, 4, 2), (4, 8, 4), (8, 8, 1), (4, 4, 4), (8, 8, 4)):
        for taps in (1, 2):
            config = PRESETS["tiny"].replace(rows=rows, cols=cols, requant_lanes=lanes,
                                             vector_taps=taps, fip=(rows + taps) % 4 != 1)
            components = {f"system.accelerator.{place}": {
                kind: round(scale * sum(terms(config, 156)[part].values()))
                for kind, scale in factor.items()} for part, place in places.items()}
            components["system"] = {"luts": 1, "ffs": 1}
            samples.append({"config": config.to_dict(), "blocks": 156, "components": components})
    found = fit(samples)
    for part in places:
        for kind, scale in factor.items():
            for sample in samples:
                values = terms(PRESETS["tiny"].replace(**{
                    name: sample["config"][name]
                    for name in ("rows", "cols", "requant_lanes", "vector_taps", "fip")}), 156)
                assert sum(found[part][kind][name] * value
                           for name, value in values[part].items()) == pytest.approx(
                    scale * sum(values[part].values()), rel=0.02)


def test_errors_are_stated():
    assert 0 < predicted_error()["luts"] < 0.03
    model = clock_model(LARGE.family)
    assert 0 < model.error < 0.1
    assert 0.5 < model.routed_share < 1
    for board in (LARGE, SMALL):
        assert model.clock_mhz(0.5) == pytest.approx(board.clock_mhz, rel=0.2)
