"""Other ways to encode product texts with the same BERT, for benchmarks/serving.py. Needs ``pip install "peftrec[peers]"``."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec import Backbone

Encode = Callable[[Sequence[str]], NDArray[np.float32]]

BATCH = 32
"""What sentence-transformers takes by default; the others get the same batches."""


def sentence_transformers(backbone: Backbone, folder: Path, *, bf16: bool) -> Encode:
    """sentence-transformers, mean pooling, its own batches by length."""
    from sentence_transformers import SentenceTransformer, models

    words = models.Transformer(str(folder), max_seq_length=backbone.max_length)
    model = SentenceTransformer(modules=[words, models.Pooling(backbone.hidden, pooling_mode="mean")], device="cpu")
    if bf16:
        model = model.bfloat16()
    return lambda texts: model.encode(list(texts), batch_size=BATCH, convert_to_tensor=True).float().numpy()


def onnx_file(backbone: Backbone, folder: Path) -> Path:
    """The encoder as an ONNX graph, ids and mask in, words' vectors out."""

    class Words(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = backbone.bert

        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return self.bert(input_ids=ids, attention_mask=mask).last_hidden_state

    path, ids = folder / "encoder.onnx", torch.ones(2, 8, dtype=torch.long)
    axes = {0: "batch", 1: "words"}
    torch.onnx.export(
        Words().eval(),  # the export leaves the mode as it finds it, also that of the BERT inside
        (ids, torch.ones_like(ids)),
        str(path),
        input_names=["ids", "mask"],
        output_names=["words"],
        dynamic_axes={"ids": axes, "mask": axes, "words": axes},
        dynamo=False,
    )
    return path


def onnx_int8(backbone: Backbone, graph: Path, *, threads: int) -> Encode:
    """ONNX Runtime with dynamic quantisation of weights and activations."""
    import onnxruntime  # pyright: ignore[reportMissingImports]
    from onnxruntime.quantization import QuantType, quantize_dynamic  # pyright: ignore[reportMissingImports]

    small = graph.with_name("encoder_int8.onnx")
    quantize_dynamic(str(graph), str(small), weight_type=QuantType.QInt8, per_channel=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(small), options, providers=["CPUExecutionProvider"])

    def words(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.asarray(session.run(None, {"ids": ids, "mask": mask})[0])

    return _by_length(backbone, words)


def openvino_int8(backbone: Backbone, graph: Path, *, threads: int) -> Encode:
    """OpenVINO on the graph that nncf quantised after training, weights and activations, as its guide has it."""
    import nncf  # pyright: ignore[reportMissingImports]
    import openvino  # pyright: ignore[reportMissingImports]

    core = openvino.Core()
    model = core.read_model(str(graph))
    known = ["organic whole milk", "copper tea kettle, 2 l", "trail running shoes, waterproof", "black tea"] * 8
    told = backbone.tokenizer(known, padding=True, return_tensors="np")
    calibration = nncf.Dataset(
        [{"ids": told["input_ids"][at : at + 8], "mask": told["attention_mask"][at : at + 8]} for at in (0, 8, 16, 24)]
    )
    small = nncf.quantize(model, calibration, model_type=nncf.ModelType.TRANSFORMER, subset_size=4)
    compiled = core.compile_model(small, "CPU", {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "THROUGHPUT"})

    def words(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.asarray(compiled({"ids": ids, "mask": mask})[0])

    return _by_length(backbone, words)


def _by_length(backbone: Backbone, words: Callable[..., NDArray[np.float32]]) -> Encode:
    """Batches of like length, padded to their longest text, mean over words."""

    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        order = sorted(range(len(texts)), key=lambda at: -len(texts[at]))
        out = np.empty((len(texts), backbone.hidden), np.float32)
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            some = [texts[at] for at in rows]
            told = backbone.tokenizer(
                some, padding=True, truncation=True, max_length=backbone.max_length, return_tensors="np"
            )
            ids, mask = told["input_ids"].astype(np.int64), told["attention_mask"].astype(np.int64)
            weight = mask[..., None].astype(np.float32)
            out[rows] = (words(ids, mask) * weight).sum(axis=1) / weight.sum(axis=1)
        return out

    return encode


def peers(backbone: Backbone, *, threads: int) -> dict[str, Encode]:
    """All that are installed, by name."""
    folder = Path(tempfile.mkdtemp(prefix="peftrec-encoders-"))
    backbone.save(folder / "bert")
    graph = onnx_file(backbone, folder)
    makers: dict[str, Callable[[], Encode]] = {
        "sentence-transformers fp32": lambda: sentence_transformers(backbone, folder / "bert", bf16=False),
        "sentence-transformers bf16": lambda: sentence_transformers(backbone, folder / "bert", bf16=True),
        "onnxruntime int8": lambda: onnx_int8(backbone, graph, threads=threads),
        "openvino int8": lambda: openvino_int8(backbone, graph, threads=threads),
    }
    return {name: make() for name, make in makers.items()}
