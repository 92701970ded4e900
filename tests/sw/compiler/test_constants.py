"""Tensors of known values: where they lie, how often, and that results are the reference's."""

from dataclasses import replace

import numpy as np
import pytest
from graph_builder import GraphBuilder
from graphs import random_image
from sw_programs import equal, run

from weft import compiler, reference
from weft.compiler import batch, compile
from weft.compiler.channel_layout import lay_out_channels
from weft.compiler.verify import verify
from weft.hw.isa.presets import PRESETS
from weft.ir import Convolution, layout

TINY = PRESETS["tiny"]


def placed(shape=(9, 5, 7)):
    """A sum of an input and a constant."""
    builder = GraphBuilder(np.random.default_rng(0), shape)
    return builder.graph(builder.sum(builder.constant(shape), builder.input))


def test_constant_is_part_of_what_is_sent_once():
    program = equal(placed(), TINY, np.random.default_rng(1), warm=2)
    values = program.graph.constants["k0"]
    packed = layout.pack_tensor(TINY, values)
    section, = (each for each in program.sections if each.name == "k0")
    assert (section.address, packed) in program.image
    assert [slot.tensor for slot in program.inputs] == ["x"]
    # Loaded again for each frame: its words make room for others.
    texts = [[info.text.split(" rows ")[0] for info in infos]
             for infos in (program.infos, program.warm_infos)]
    assert all("constant k0" in each for each in texts)
    assert "constant k0" in program.dump()
    # All that is sent lies in front of what is not.
    assert max(address + len(raw) for address, raw in program.image) <= program.inputs[0].address


@pytest.mark.parametrize("size", [1024, 2048, 32768])
def test_constant_larger_than_the_chip_is_loaded_in_tiles(size):
    config = TINY.replace(activation_bytes=size)
    for shape in ((5, 40, 1), (3, 1, 61), (13, 17, 9)):
        program = equal(placed(shape), config, np.random.default_rng(2))
    assert size > 1024 or any(" rows " in info.text or " columns " in info.text
                              for info in program.infos)


def test_frames_of_a_batch_share_a_constant():
    graph = placed()
    frames = batch(graph, 3)
    assert list(frames.constants) == ["k0"] and len(frames.inputs) == 3
    program = compile(frames, TINY)
    assert sum(section.name == "k0" for section in program.sections) == 1
    rng = np.random.default_rng(3)
    images = [random_image(rng, graph)["x"] for _ in range(3)]
    found = run(program, {edge.tensor: image for edge, image in zip(frames.inputs, images,
                                                                    strict=True)})
    for edge, image in zip(frames.outputs, images, strict=True):
        expected = reference.run(graph, {"x": image})[graph.outputs[0].tensor]
        assert np.array_equal(found[edge.tensor], expected)


def test_constant_in_several_concatenations_is_there_as_often():
    builder = GraphBuilder(np.random.default_rng(0), (6, 3, 4))
    first = builder.conv(builder.input, 5)
    known = builder.constant((7, 3, 4), like=first)
    both = [builder.concat(known, first), builder.concat(
        builder.conv(builder.input, 3, like=first), known, known)]
    graph = builder.graph(*(builder.conv(each, 4) for each in both))
    laid_out = lay_out_channels(graph, TINY)
    assert len(laid_out.graph.constants) == 3
    assert sum(isinstance(layer, Convolution) for layer in laid_out.graph.layers) == 4
    for frames in (1, 2):
        assert len(lay_out_channels(batch(graph, frames), TINY).graph.constants) == 3 * frames
    equal(graph, TINY, np.random.default_rng(1), keep_tensors=True)
    equal(graph, TINY.replace(activation_bytes=1024), np.random.default_rng(1))


def test_rows_of_zeros_below_a_single_one():
    """Tiles that lie in the padding alone."""
    for pads in ((0, 0, 5, 0), (6, 1, 0, 0), (3, 2, 4, 2)):
        builder = GraphBuilder(np.random.default_rng(0), (40, 1, 6))
        framed = builder.padding(builder.input, pads)
        graph = builder.graph(builder.sum(framed, builder.constant(builder.shape(framed))))
        equal(graph, TINY.replace(activation_bytes=1024), np.random.default_rng(1))


def test_constant_must_fit_its_tensor():
    graph = placed()
    values = graph.constants["k0"]
    for wrong in (values[:, 1:], values.astype(np.int32)):
        with pytest.raises(ValueError, match=r"^Constant 'k0' must be int8 \(9, 5, 7\), not int"):
            verify(replace(graph, constants={"k0": wrong}))
    with pytest.raises(ValueError, match="must make a tensor of its own"):
        verify(replace(graph, constants={**graph.constants, "t0": np.zeros((9, 5, 7), np.int8)}))
    assert not compiler.misfits([graph], TINY)
