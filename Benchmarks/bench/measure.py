"""Measures cases: every library in turn, round after round."""

import random
import shutil
import tempfile
from pathlib import Path

import numpy as np

from . import models
from .cases import DTYPES, OPS, expected_outputs, make_inputs
from .peers import MEMCPY, STREAM
from .workers import Worker, WorkerError

# The largest error that is still the same operation, in root mean squares of the exact output.
TOLERANCE = {"f32": 1e-4, "f16": 1e-2, "bf16": 8e-2}
# Over many rows some libraries lose most digits of half-precision parameter gradients; that is
# recorded and not a reason to leave them out.
LOOSE = {"dweight", "dbias"}

# A streaming copy is a limit from this output size on; below, the next reader pays for it.
STREAM_FROM = 16 << 20


class Session:
    """Workers for one number of threads, and the folder through which they get their inputs."""

    def __init__(self, peers, threads):
        self.threads = threads
        memory = Path("/dev/shm")
        self.folder = Path(
            tempfile.mkdtemp(prefix="bench-", dir=memory if memory.is_dir() else None)
        )
        self.inputs = self.folder / "inputs"
        self.missing, self.workers = {}, {}
        for peer in peers:
            self._start(peer)

    def _start(self, peer):
        try:
            self.workers[peer.name] = Worker(peer, self.threads, self.folder)
        except WorkerError as error:
            self.missing[peer.name] = str(error)

    def versions(self):
        return {name: worker.version for name, worker in self.workers.items()}

    def close(self):
        for worker in self.workers.values():
            worker.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # ---- One case --------------------------------------------------------------------------------

    def prepare(self, case, inputs, only=None):
        """Hands a case to the workers. Returns those that are ready and, of the others, why not."""
        shutil.rmtree(self.inputs, ignore_errors=True)
        self.inputs.mkdir()
        for name, array in inputs.items():
            array.tofile(self.inputs / name)
        if case.op != "ln_bwd":
            if "ONNX Runtime" in self.workers:
                models.write_onnx(case, inputs, self.inputs)
            if "OpenVINO" in self.workers:
                models.write_openvino(case, inputs, self.inputs)
        ready, refused = [], {}
        for name, worker in list(self.workers.items()):
            if only and name not in only:
                continue
            words = ("prepare", case.op, case.dtype, case.threads, case.rows, case.cols)
            try:
                answer = worker.ask(*words, self.inputs, worker.outputs)
            except WorkerError as error:
                refused[name] = f"failed: {error}"
                self._start(worker.peer)
                continue
            if answer == "ok":
                ready.append(name)
            else:
                refused[name] = answer.removeprefix("no ")
        return ready, refused

    def outputs(self, case, name):
        """What a worker computed, by output."""
        found = {}
        for output in OPS[case.op]:
            path = self.workers[name].outputs / output
            kind = np.float32 if output in ("mean", "rstd") else DTYPES[case.dtype]
            array = np.fromfile(path, kind)
            found[output] = (
                array.reshape(case.rows, -1) if output[0] != "d" or output == "dx" else array
            )
            path.unlink()
        return found

    def finish(self, names):
        for name in names:
            if name in self.workers:
                self.workers[name].ask("finish")

    def measure(self, case, turns, turn_ns):
        """Times of a case by library, or why there are none."""
        inputs = make_inputs(case)
        exact = expected_outputs(case.op, inputs)
        ready, refused = self.prepare(case, inputs)
        results = {}
        for name in list(ready):
            results[name] = {"error": {}}
            if name in (MEMCPY, STREAM):
                continue
            errors = compare(self.outputs(case, name), exact)
            results[name]["error"] = errors
            wrong = [
                f"{output} is off by {error:.2g} root mean squares"
                for output, error in errors.items()
                if not error <= TOLERANCE[case.dtype] and output not in LOOSE
            ]
            if wrong:
                refused[name] = "wrong: " + wrong[0]
                self.finish([name])
                ready.remove(name)
                del results[name]
        self._time(ready, results, refused, turns, turn_ns)
        self.finish(ready)
        return {"results": results, "refused": refused}

    def _time(self, ready, results, refused, turns, turn_ns):
        calls = {}
        for name in ready:
            # The quickest of short turns, so that a disturbance does not make a turn too short.
            single = min(self._turn(name, 1) for _ in range(3))
            ns = min(single, self._turn(name, max(1, round(turn_ns / 4 / single))))
            calls[name] = max(1, round(turn_ns / ns))
            results[name] |= {"calls": calls[name], "ns": []}
        order = random.Random(0)
        for _ in range(turns):
            order.shuffle(ready)
            for name in ready:
                results[name]["ns"].append(self._turn(name, calls[name]))

    def _turn(self, name, calls):
        return float(self.workers[name].ask("time", calls).split()[1])


def compare(outputs, exact):
    """The largest error of each output, in root mean squares of the exact one."""
    errors = {}
    for name, array in outputs.items():
        reference = exact[name]
        scale = np.sqrt(np.square(reference).mean()) or 1
        errors[name] = float(np.abs(array.astype(np.float64) - reference).max() / scale)
    return errors
