"""A worker process: started, asked, and stopped while another is measured."""

import os
import select
import signal
import subprocess
from pathlib import Path


class WorkerError(Exception):
    """The process ended, or did not answer in time."""


def cpus_for(threads):
    """The CPUs that a worker with so many threads may use: one of each core, the last ones, since
    interrupts go to the first."""
    cores = {}
    for cpu in sorted(os.sched_getaffinity(0)):
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        cores.setdefault(siblings.read_text() if siblings.exists() else cpu, cpu)
    return set(list(cores.values())[-threads:])


# Freed memory is kept: glibc would otherwise give each large tensor back to the system and get it
# again, zeroed, at the next call.
KEEP_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_TOP_PAD_": str(1 << 26),
    "NUMPY_MADVISE_HUGEPAGE": "0",  # the same kind of pages for every library
}


class Worker:
    def __init__(self, peer, threads, folder):
        self.peer = peer
        self.outputs = Path(folder, peer.key)
        self.outputs.mkdir(exist_ok=True)
        self._log = Path(folder, peer.key + ".log")
        environment = (
            os.environ | KEEP_MEMORY | {"OMP_NUM_THREADS": str(threads)} | peer.environment
        )
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, cpus_for(threads))  # what a new process inherits
        try:
            with self._log.open("w") as log:
                self._process = subprocess.Popen(
                    peer.command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env=environment,
                )
        finally:
            os.sched_setaffinity(0, before)
        self.version = self._answer(timeout=120).removeprefix("ok").strip()
        self._stop()

    def ask(self, *command, timeout=60):
        """The answer's words, the first of which is "ok" or "no"."""
        try:
            self._process.send_signal(signal.SIGCONT)
            self._process.stdin.write((" ".join(map(str, command)) + "\n").encode())
            self._process.stdin.flush()
        except OSError:
            raise WorkerError(self._last_words()) from None
        answer = self._answer(timeout)
        self._stop()
        return answer

    def close(self):
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def _answer(self, timeout):
        if not select.select([self._process.stdout], [], [], timeout)[0]:
            self.close()
            raise WorkerError(f"no answer in {timeout} s")
        line = self._process.stdout.readline().decode().strip()
        if not line:
            self.close()
            raise WorkerError(self._last_words())
        return line

    def _stop(self):
        """Returns when every thread of the process stands still."""
        self._process.send_signal(signal.SIGSTOP)
        _, status = os.waitpid(self._process.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            raise WorkerError(self._last_words())

    def _last_words(self):
        lines = self._log.read_text(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "ended without a word")
