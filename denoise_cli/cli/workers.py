"""Several processes that share the images of a call; each loads the network once."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from typing import TYPE_CHECKING, Any

from ..errors import DenoiseError
from ..io.temporary import remove_leftovers
from .report import Report, internal_error

if TYPE_CHECKING:
    from .files import Job
    from .run import Done, Work

PATIENCE = 10  # seconds to clean up in, after which a process is killed


@dataclass(frozen=True)
class Failure:
    """Why an image was not denoised; `fatal` if no other can be either."""

    message: str
    code: int
    fatal: bool = False


def denoise_all(work: Work, jobs: Sequence[Job], count: int, report: Report) -> None:
    """Do `jobs` in `count` processes and report each as it is done, in no fixed order.

    A process that dies (killed by the system for its memory, say) fails the image it had and is
    replaced. An interrupt ends all of them, and none leaves a half-written file.

    Raises
    ------
    DenoiseError
        If the denoiser cannot be built.
    """
    waiting = deque(jobs)
    count = min(count, len(jobs))
    workers = [_Worker(work, count) for _ in range(count)]
    try:
        for worker in workers:
            worker.give(waiting.popleft())
        while busy := [worker for worker in workers if worker.job]:
            ready = connection.wait([worker.connection for worker in busy])
            for worker in [worker for worker in busy if worker.connection in ready]:
                _take(worker, report)
                if waiting:
                    if not worker.lives:
                        workers.remove(worker)
                        worker = _Worker(work, count)
                        workers.append(worker)
                    worker.give(waiting.popleft())
    finally:
        for worker in workers:
            worker.end()
        for worker in workers:
            worker.join()


def _take(worker: _Worker, report: Report) -> None:
    """Report what a worker says of its image."""
    job = worker.job
    assert job is not None
    answer = worker.answer()
    if isinstance(answer, Failure):
        if answer.fatal:
            raise _error(answer)
        report.fail(answer.message, answer.code)
    else:
        answer.tell(report)
    report.advance()


def _error(failure: Failure) -> DenoiseError:
    error = DenoiseError(failure.message)
    error.exit_code = failure.code
    return error


class _Worker:
    """A process, and the image it is at."""

    def __init__(self, work: Work, count: int) -> None:
        context = get_context("spawn")  # a forked process must not use CUDA, nor threads of BLAS
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, work, count), daemon=True)
        self._process.start()
        theirs.close()
        self.job: Job | None = None
        self.lives = True

    def give(self, job: Job) -> None:
        self.job = job
        # A process that is dead already is found out when its answer is asked for.
        try:
            self.connection.send(job)
        except OSError:
            self.lives = False

    def answer(self) -> Done | Failure:
        job, self.job = self.job, None
        assert job is not None
        try:
            answer: Done | Failure = self.connection.recv()
            return answer
        except (EOFError, OSError):
            self.lives = False
            self._process.join()
            remove_leftovers(job.output.parent)
            code = self._process.exitcode or 0
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            return Failure(
                f"{job.input}: its process ended ({how}), perhaps for want of memory; "
                "give fewer --jobs or a --max-memory",
                1,
            )

    def end(self) -> None:
        """Ask the process to stop: at once if it is at an image, which is cleaned up."""
        self.connection.close()
        if self.job is not None and self._process.is_alive():
            self._process.terminate()

    def join(self) -> None:
        self._process.join(PATIENCE)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        if self.job is not None:
            remove_leftovers(self.job.output.parent)


def _serve(pipe: connection.Connection[Any, Any], work: Work, count: int) -> None:
    """What a process does: denoise what comes through `pipe` until it closes."""
    # A terminal sends its interrupt to all processes at once; the parent alone decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(KeyboardInterrupt):
        try:
            _share_cores(count)
            denoise = work.start()
            while True:
                pipe.send(_attempt(denoise, pipe.recv()))
        except DenoiseError as error:
            pipe.send(Failure(str(error), error.exit_code, fatal=True))
        except (EOFError, OSError):
            pass
        finally:
            # Nothing is left to clean up, and nobody to take the interrupt.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _attempt(denoise: Any, job: Job) -> Done | Failure:
    try:
        done: Done = denoise(job)
        return done
    except DenoiseError as error:
        return Failure(str(error), error.exit_code)
    except Exception as error:
        return Failure(f"{job.input}: {internal_error(error)}", 1)


def _share_cores(count: int) -> None:
    import torch

    torch.set_num_threads(max(1, torch.get_num_threads() // count))


def _stop(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once: it must not disturb the cleaning up
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    """A parent that was killed says nothing: stop as if it had."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
