"""Run the book's notebooks again.

`run` writes them (or, at paper scale, a record); `reseed` counts their verdicts over seeds.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
from joblib import Parallel, delayed
from nbclient import NotebookClient
from PIL import Image
from tqdm import tqdm

from occamnets import claims, results

QUIET = {"TQDM_DISABLE": "1", "PYTHONWARNINGS": "ignore"}
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python", "pygments_lexer": "ipython3"},
}


def execute(path: Path, *, scale: str, seed: int, device: str, workers: int = 1) -> tuple[Any, float]:
    """A fresh run of a notebook in its own folder, its long work on so many workers, and its seconds."""
    notebook = nbformat.read(path, as_version=4)
    settings = {"OCCAM_SCALE": scale, "OCCAM_SEED": str(seed), "OCCAM_DEVICE": device}
    client = NotebookClient(notebook, timeout=None, kernel_name="python3", record_timing=False, coalesce_streams=True)
    client.resources = {"metadata": {"path": str(path.parent)}}
    start = time.perf_counter()
    with client.setup_kernel(env={**os.environ, **QUIET, **ONE_THREAD, **settings}):
        client.kc.execute(f"import joblib; joblib.parallel_config(n_jobs={workers})", silent=True)
        for i, cell in enumerate(notebook.cells):
            client.execute_cell(cell, i)
    return notebook, time.perf_counter() - start


def settled(notebook: Any) -> list[dict[str, Any]]:
    """The payloads of all claims of an executed notebook."""
    code = (cell for cell in notebook.cells if cell.cell_type == "code")
    return [payload for cell in code for payload in claims.payloads(cell.outputs)]


def run(path: Path, scale: str, device: str, workers: int) -> str:
    """Execute one notebook; write it at book scale, its record at paper scale."""
    notebook, seconds = execute(path, scale=scale, seed=0, device=device, workers=workers)
    if scale == "paper":
        made = results.provenance(scale=scale, seed=0, device=device, seconds=seconds)
        code = results.code_hash(notebook)
        results.write(f"paper/{name(path)}", {"provenance": made, "code": code, "claims": settled(notebook)})
    else:
        old = nbformat.read(path, as_version=4)
        for before, after in zip(old.cells, notebook.cells, strict=True):
            keep_pictures(before.get("outputs", []), after.get("outputs", []))
            export_picture(after)
        notebook.metadata = nbformat.from_dict(METADATA)
        nbformat.write(notebook, path)
    return f"{path} {seconds:.0f} s  " + ", ".join(f"{p['id']} {p['verdict']}" for p in settled(notebook))


def keep_pictures(before: list[Any], after: list[Any]) -> None:
    """Keep the stored bytes of a picture whose pixels did not change."""
    old = [output for output in before if "image/png" in output.get("data", {})]
    new = [output for output in after if "image/png" in output.get("data", {})]
    for a, b in zip(old, new, strict=False):
        if np.array_equal(pixels(a), pixels(b)):
            b.data["image/png"] = a.data["image/png"]


def pixels(output: Any) -> np.ndarray:
    """The picture of an output as an array."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(output.data["image/png"]))))


def export_picture(cell: Any) -> None:
    """Write a cell's picture to the file that its metadata names under ``occam.export``."""
    if target := cell.metadata.get("occam", {}).get("export"):
        (picture,) = (output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {}))
        (results.ROOT / target).write_bytes(base64.b64decode(picture))


def reseed(path: Path, seeds: int) -> str:
    """Run one notebook under the seeds 1 ... ``seeds`` and record how often each verdict came out."""
    verdicts: dict[str, Counter] = {}
    begin = time.perf_counter()
    for seed in range(1, seeds + 1):
        for payload in settled(execute(path, scale="book", seed=seed, device="cpu")[0]):
            verdicts.setdefault(payload["id"], Counter())[payload["verdict"]] += 1
    made = results.provenance(scale="book", seed=seeds, device="cpu", seconds=time.perf_counter() - begin)
    counts = {id: dict(counter) for id, counter in verdicts.items()}
    code = results.code_hash(nbformat.read(path, as_version=4))
    results.write(f"reseed/{name(path)}", {"provenance": made, "seeds": seeds, "verdicts": counts, "code": code})
    return f"{path}  " + ", ".join(f"{id} {dict(counter)}" for id, counter in verdicts.items())


def name(path: Path) -> str:
    """The record's name of a notebook: ``perceptron-01`` for notebooks/perceptron/01_....ipynb."""
    return f"{path.parent.name}-{path.stem.split('_')[0]}"


def main() -> None:
    """Read the command line and run the notebooks, ``--jobs`` at a time, with a progress bar.

    At paper scale one notebook after another, each with so many workers.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("run", "reseed"))
    parser.add_argument("notebooks", nargs="*", type=Path, help="all notebooks when none is named")
    parser.add_argument("--scale", choices=("book", "paper"), default="book")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    paths = [p.resolve() for p in args.notebooks] or sorted(results.ROOT.glob("notebooks/*/[0-9]*.ipynb"))
    if missing := [str(p) for p in paths if not p.is_file()]:
        parser.error(f"no such notebook: {', '.join(missing)}")
    together, workers = (1, args.jobs) if args.scale == "paper" else (args.jobs, 1)
    work = (
        (delayed(run)(p, args.scale, args.device, workers) for p in paths)
        if args.command == "run"
        else (delayed(reseed)(p, args.seeds) for p in paths)
    )
    done = Parallel(n_jobs=together, return_as="generator_unordered")(work)
    for line in tqdm(done, total=len(paths), unit="notebook"):
        tqdm.write(line)


if __name__ == "__main__":
    main()
