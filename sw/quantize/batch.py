"""A model that was exported with a batch of several frames, for one frame."""

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime

from weft.errors import ModelError

__all__ = ["single_frame"]


def single_frame(model: onnx.ModelProto, name: str) -> tuple[onnx.ModelProto, int]:
    """The model with a batch of 1 where all its inputs have a larger one, and that batch; else the
    model itself, and 1.

    That the first dimension is a batch is found out by trying: each of its frames alone gives what
    it gives among others.

    Raises
    ------
    ModelError
        If an image cannot be taken out of its batch, as other sizes of the model depend on it.
    """
    shapes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
              for value in model.graph.input}
    batches = {shape[0] if shape else 1 for shape in shapes.values()}
    batch = batches.pop() if len(batches) == 1 else 1
    if batch <= 1:
        return model, 1
    single = onnx.ModelProto()
    single.CopyFrom(model)
    del single.graph.value_info[:]
    for value in single.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    for value in single.graph.output:
        value.type.tensor_type.ClearField("shape")
    if _same_frames(model, single, shapes, batch):
        return single, batch
    images = [key for key, shape in shapes.items() if len(shape) == 4]
    if images:
        raise ModelError(f"Input '{images[0]}' of {name} has a batch of {batch}, on which other "
                         f"sizes of the model depend: export it with a batch of 1")
    return model, 1


def _same_frames(model: onnx.ModelProto, single: onnx.ModelProto,
                 shapes: dict[str, list[int]], batch: int) -> bool:
    rng = np.random.default_rng(0)
    feeds = {key: rng.standard_normal(shape).astype(np.float32) for key, shape in shapes.items()}
    try:
        together = _run(model, feeds)
        alone = [_run(single, {key: values[frame:frame + 1] for key, values in feeds.items()})
                 for frame in (0, batch - 1)]
    except Exception:   # whatever onnxruntime makes of sizes that do not fit
        return False
    return all(len(whole) == batch and first.shape == last.shape == (1, *whole.shape[1:])
               and np.allclose(whole[[0, -1]], np.concatenate([first, last]), rtol=1e-3, atol=1e-4)
               for whole, first, last in zip(together, *alone))


def _run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> Sequence[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options,
                                           providers=["CPUExecutionProvider"])
    return [np.atleast_1d(each) for each in session.run(None, feeds)]
