"""Every reader of files, and both bodies of the service: valid inputs to begin with, and what reads them."""

import asyncio
import gzip
import io
import json
import pickle
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from trm_jax.wafer.generated.synthetic import synthetic_wafers
from trm_jax.wafer.maps import cache, source
from trm_jax.wafer.maps.validate import ReadResult
from trm_jax.wafer.maps.wafers import CLASSES

GOLDEN = Path(__file__).parents[1] / "golden" / "official_state.pt"
WAFERS = synthetic_wafers(9, seed=1)


class Target(NamedTuple):
    """Valid inputs, and a function that reads bytes; it may raise ValueError or OSError and nothing else."""

    seeds: list[bytes]
    read: Callable[[bytes], object]


def npz_bytes() -> bytes:
    file, rows = io.BytesIO(), np.arange(9)
    np.savez(
        file, flat=WAFERS.flat, height=WAFERS.height, width=WAFERS.width, label=WAFERS.label, classes=np.array(CLASSES),
        row=rows, lot_block=rows // 3, fold=rows % 2, clean=rows > 2,
    )  # fmt: skip
    return file.getvalue()


def in_file(folder: Path, name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    def run(content: bytes) -> object:
        (folder / name).write_bytes(content)
        return read(folder / name)

    return run


def npz(folder: Path) -> Target:
    return Target([npz_bytes()], in_file(folder, "maps.npz", source.read))


def frame(folder: Path) -> Target:
    import pandas as pd
    from legacy_frame import write_legacy_frame

    maps, words = [WAFERS.map(index) for index in range(9)], [CLASSES[label] for label in WAFERS.label]
    frame = pd.DataFrame({"waferMap": maps, "failureType": words, "lotName": ["a"] * 9, "dieSize": 1.0})
    seeds = [pickle.dumps(frame, protocol=protocol) for protocol in (2, 4, 5)]
    for old in (False, True):
        write_legacy_frame(folder / "seed.pkl", maps, words, words, ["Training"] * 9, python2=old)
        seeds.append((folder / "seed.pkl").read_bytes())
    return Target(seeds, in_file(folder, "maps.pkl", source.read))


def folder_csv(folder: Path) -> Target:
    text = "\n".join(",".join(map(str, row)) for row in WAFERS.map(0).tolist()).encode()
    return Target([text, text.replace(b",", b"; ")], in_file(folder, "map.csv", lambda path: source.read(path.parent)))


def folder_png(folder: Path) -> Target:
    from PIL import Image

    seeds = []
    for cells in (WAFERS.map(0), np.array([0, 128, 255], np.uint8)[WAFERS.map(1)]):
        file = io.BytesIO()
        Image.fromarray(cells).save(file, "PNG")
        seeds.append(file.getvalue())
    return Target(seeds, in_file(folder, "map.png", lambda path: source.read(path.parent)))


def dies(folder: Path, name: str) -> Target:
    """Maps of a fab: a list of dies, SINF, SEMI G85, an array of numpy, and MixedWM38's .npz."""
    from wafer.maps.readers.test_formats import die_lines, g85, klarf, sinf, stdf

    cells = WAFERS.map(0)
    array, mixed = io.BytesIO(), io.BytesIO()
    np.save(array, cells)
    np.savez(mixed, arr_0=cells[None].astype(np.int32), arr_1=np.eye(8, dtype=np.int64)[:1])
    seeds = {
        "dies.csv": "\n".join(["lot,wafer,x,y,bin", *die_lines(cells, before="a,1,")]).encode(),
        "map.sinf": sinf(cells).encode(),
        "map.xml": g85(cells).encode(),
        "map.npy": array.getvalue(),
        "mixed.npz": mixed.getvalue(),
        "lot.stdf": stdf({"1": cells}),
        "lot.klarf": klarf(cells).encode(),
    }
    content = [seeds[name], *([gzip.compress(seeds[name])] if name == "dies.csv" else [])]
    return Target(content, in_file(folder, name, lambda path: source.read(path, to_classify=True, pass_bins="1")))


def folder_labels(folder: Path) -> Target:
    for name in ("a.csv", "b.csv"):
        np.savetxt(folder / name, WAFERS.map(0), "%d", ",")
    seeds = [b"file,label,lot\na.csv,Loc,1\nb.csv,,2\n"]
    return Target(seeds, in_file(folder, "labels.csv", lambda path: source.read(path.parent)))


def cache_files(folder: Path) -> Target:
    origin = {"source": "x", "sha256": "0", "selection": {}, "notice": ""}
    cache.write_cache(folder / "cache", ReadResult(WAFERS, []), origin)
    files = sorted((folder / "cache").iterdir())
    contents = [file.read_bytes() for file in files]
    seeds = [bytes([index]) + content for index, content in enumerate(contents)]

    def read(content: bytes) -> object:
        index = content[0] % len(files) if content else 0
        files[index].write_bytes(content[1:])
        try:
            return source.read(folder / "cache")
        finally:
            files[index].write_bytes(contents[index])

    return Target(seeds, read)


def weights(folder: Path, ending: str) -> Target:
    from trm_jax.official.tensor_files import read_state_dict, write_state_dict

    seeds = [GOLDEN.read_bytes()]
    if ending != ".pt":
        write_state_dict(folder / f"seed{ending}", {"w": np.ones((3, 4), np.float32), "v": np.arange(5)})
        seeds = [(folder / f"seed{ending}").read_bytes()]
    return Target(seeds, in_file(folder, f"weights{ending}", read_state_dict))


def package(folder: Path) -> Target:
    """Checksums, first states and metadata; the graph itself is read by onnxruntime."""
    import edge_models

    from trm_jax.edge.format import read_metadata
    from trm_jax.edge.monitor import QUANTITIES, Monitor
    from trm_jax.edge.package import choose, open_model

    path = edge_models.write_package(folder / "package")
    parts = sum(map(len, QUANTITIES.values()))
    reference = {"window": 250, "mean": [0.5] * parts, "spread": [0.1] * parts, "tail": [0.5, 0.1]}
    reference["limits"] = {name: [1.0, 2.0] for name in QUANTITIES}
    texts = json.dumps({name: json.dumps(value) for name, value in edge_models.METADATA.items()})
    names = [path / "SHA256SUMS", path / "initial.npz"]
    contents = [name.read_bytes() for name in names]
    seeds = [contents[0], contents[1], texts.encode(), json.dumps(reference).encode()]

    def read(content: bytes) -> object:
        kind = content[0] % 4 if content else 0
        if kind < 2:
            names[kind].write_bytes(content[1:])
            try:
                return choose(path / "step.onnx") if kind == 0 else open_model(path / "step.onnx")
            finally:
                names[kind].write_bytes(contents[kind])
        try:
            parsed = json.loads(content[1:].decode())
        except RecursionError:
            return None
        if not isinstance(parsed, dict):
            return None
        return read_metadata(parsed) if kind == 2 else Monitor(parsed)

    return Target([bytes([kind]) + seed for kind, seed in enumerate(seeds)], read)


def service(folder: Path, kind: str) -> Target:
    import edge_models
    import httpx

    from trm_jax.edge.package import open_model
    from trm_jax.edge.server import Service, create_app

    path = edge_models.save(folder / "model.onnx", edge_models.plain())
    transport = httpx.ASGITransport(create_app(Service(open_model(path), batch=4)), raise_app_exceptions=True)
    client, loop = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1"), asyncio.new_event_loop()
    seeds = [npz_bytes()] if kind != "application/json" else []
    maps = [WAFERS.map(index).tolist() for index in range(2)]
    seeds = seeds or [json.dumps({"maps": maps}).encode(), b'{"maps": [[[1, 1], [1, 2]], 7, null, []]}']

    def read(content: bytes) -> object:
        answer = loop.run_until_complete(client.post("/classify", content=content, headers={"content-type": kind}))
        if answer.status_code not in (200, 400, 413) or len(answer.content) > 2**22 or "Error(" in answer.text:
            raise AssertionError(f"{answer.status_code}: {answer.text[:200]}")
        return None

    return Target(seeds, read)


def sudoku(folder: Path) -> Target:
    from trm_jax.sudoku.csv_files import read_csv
    from trm_jax.sudoku.solver import Box

    seeds = [b"question,answer\n1.3.341.2143432.,1234341221434321\n", b"question\n1.3.341.2143432.\n"]
    return Target(seeds, in_file(folder, "puzzles.csv", lambda path: read_csv(path, Box(2, 2))))


TARGETS: dict[str, Callable[[Path], Target]] = {
    "npz of maps": npz,
    "pickled frame": frame,
    "folder: csv": folder_csv,
    "folder: png": folder_png,
    "folder: labels.csv": folder_labels,
    "list of dies": lambda folder: dies(folder, "dies.csv"),
    "SINF": lambda folder: dies(folder, "map.sinf"),
    "SEMI G85": lambda folder: dies(folder, "map.xml"),
    "npy": lambda folder: dies(folder, "map.npy"),
    "MixedWM38": lambda folder: dies(folder, "mixed.npz"),
    **({"STDF": lambda folder: dies(folder, "lot.stdf")} if find_spec("Semi_ATE") else {}),
    **({"KLARF": lambda folder: dies(folder, "lot.klarf")} if find_spec("klarf_reader") else {}),
    "cache": cache_files,
    "weights: pt": lambda folder: weights(folder, ".pt"),
    "weights: npz": lambda folder: weights(folder, ".npz"),
    "weights: safetensors": lambda folder: weights(folder, ".safetensors"),
    "package": package,
    "service: json": lambda folder: service(folder, "application/json"),
    "service: npz": lambda folder: service(folder, "application/x-npz"),
    "sudoku csv": sudoku,
}
