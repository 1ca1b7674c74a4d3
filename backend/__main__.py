# SPDX-License-Identifier: GPL-3.0-or-later
"""python -m backend: worker | run | submit | match | data | train | weights | doctor | bench."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from .protocol import JobFolder, JobState, ProtocolError, limits

EXIT_CODES = """exit codes: 0 done, 1 the job failed, 2 wrong arguments or unusable job, 3 no work possible
(device taken, jobs folder gone), 4 cancelled, 130 interrupted"""


def main(argv: list[str]) -> int:
    if argv[:1] == ["train"]:
        from .training.cli import main as train

        return train(argv[1:])
    if argv[:1] == ["data"]:
        _fix_threads()
        from .data.cli import main as data

        return data(argv[1:])
    if argv[:1] == ["weights"]:
        from .weights.cli import main as weights

        return weights(argv[1:])
    if argv[:1] == ["doctor"]:
        from .doctor.cli import main as doctor

        _fix_threads()
        return doctor(argv[1:])
    if argv[:1] == ["bench"]:
        from .bench.cli import main as bench

        _fix_threads()
        return bench(argv[1:])
    if argv[:1] == ["match"]:
        return _match(argv[1:])
    arguments = _parser().parse_args(argv)
    _fix_threads()
    stop = threading.Event()
    _stop_on_signals(stop)
    try:
        return {"worker": _worker, "run": _run, "submit": _submit}[arguments.command](arguments, stop)
    except ProtocolError as error:
        return _refuse(str(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m backend", description="Makes clips from job folders.", epilog=EXIT_CODES
    )
    commands = parser.add_subparsers(
        dest="command",
        required=True,
        metavar="worker | run | submit | match | data | train | weights | doctor | bench",
    )

    worker = commands.add_parser("worker", help="serve a jobs folder, models kept warm", epilog=EXIT_CODES)
    worker.add_argument("--jobs", type=Path, required=True, metavar="DIR", help="folder of job folders")
    worker.add_argument(
        "--idle-exit", type=_seconds, metavar="SECONDS", help="leave after this long without a job"
    )
    _add_device(worker)

    run = commands.add_parser("run", help="make one job in the foreground", epilog=EXIT_CODES)
    run.add_argument("job", type=Path, metavar="JOB_DIR")
    _add_device(run)

    submit = commands.add_parser(
        "submit", help="copy an exported job and queue it, or the shots of a list", epilog=EXIT_CODES
    )
    submit.add_argument(
        "job", type=Path, metavar="JOB_DIR | LIST", help="job folder, or .csv, .otio or .edl file"
    )
    submit.add_argument("--jobs", type=Path, metavar="DIR", help="folder of job folders")
    submit.add_argument("--blend", type=Path, metavar="FILE", help="with a list: the .blend with its cameras")
    submit.add_argument(
        "--blender", default="blender", metavar="PROGRAM", help="with a list: the Blender to use"
    )

    commands.add_parser("match", help="does a finished clip follow its camera? (see match --help)")
    commands.add_parser(
        "data", help="make training data from generated scenes, Blender or footage (see data --help)"
    )
    commands.add_parser("train", help="train stage 1 or the embedded model (see train --help)")
    commands.add_parser("weights", help="list, download and check SANA-WM's weights (see weights --help)")
    commands.add_parser("doctor", help="what this machine can run, and whether the weights are whole")
    commands.add_parser("bench", help="are the operators right here, and how fast (see bench --help)")
    return parser


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cpu", type=_device, help="cpu (the default), cuda or cuda:N")
    parser.add_argument("--weights", type=Path, metavar="DIR", help="folder of SANA-WM's weights")


def _seconds(text: str) -> float:
    value = float(text)
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"{text} is not a time in seconds")
    return value


def _device(text: str) -> str:
    if not re.fullmatch(r"(cpu|cuda)(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a device; use cpu, cuda or cuda:N")
    return text


def _fix_threads() -> None:
    """Half of the cores, at most 8: the rest is for Blender and the encoder. Set before torch is loaded.

    The number has to be the same in every run, because sums depend on how they are split; OMP_NUM_THREADS
    overrides it.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ.setdefault("OMP_NUM_THREADS", str(min(max(usable // 2, 1), 8)))
    os.environ.setdefault("MKL_CBWR", "AUTO")  # one code path of MKL, wherever arrays lie in memory


def _stop_on_signals(stop: threading.Event) -> None:
    """The first signal asks, a second one insists."""

    def handle(_signal: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), handle)


def _worker(arguments: argparse.Namespace, stop: threading.Event) -> int:
    from .worker import Worker, WorkerError

    jobs_root = arguments.jobs.resolve()
    if jobs_root.parent.is_dir():
        jobs_root.mkdir(exist_ok=True)
    try:
        Worker(jobs_root, arguments.device, stop, arguments.idle_exit, arguments.weights).serve()
    except WorkerError as error:
        return _refuse(str(error), code=3)
    return 130 if stop.is_set() else 0


def _run(arguments: argparse.Namespace, stop: threading.Event) -> int:
    from .worker import ModelShelf, is_free, run_job

    job = _existing_job(arguments.job)
    record = job.state()
    if record and record.state == JobState.DONE:
        print(f"{job.clip_mp4} is done already.")
        return 0
    if record is None or record.state in (JobState.FAILED, JobState.CANCELLED):
        job.queue("Run from the command line.")
    elif not is_free(job, record):
        return _refuse(f"{job.name} is {record.state} with the worker {record.worker}.", code=3)
    record = run_job(job, ModelShelf(arguments.device, arguments.weights), stop, _print_progress)
    if record is None:
        return _refuse(f"Another worker was faster and has {job.name}.", code=3)
    if record.state == JobState.DONE:
        print(f"{job.clip_mp4}: {record.reason}")
        return 0
    codes = {JobState.QUEUED: 130, JobState.CANCELLED: 4}
    return _refuse(f"{job.name} {record.state}: {record.reason}", code=codes.get(record.state, 1))


def _submit(arguments: argparse.Namespace, _stop: threading.Event) -> int:
    from .blender_command import LIST_ENDINGS, submit_list

    if arguments.job.suffix.lower() in LIST_ENDINGS:
        if arguments.blend is None:
            return _refuse("Name the .blend with the shots' cameras: --blend FILE.")
        return submit_list(arguments.job, arguments.blend, arguments.blender, arguments.jobs)
    if arguments.jobs is None:
        return _refuse("Name the folder for the job: --jobs DIR.")
    job = _existing_job(arguments.job)
    shot = job.shot()
    for warning in limits.require(shot.camera, shot.preset):
        print(f"Warning: {warning}", file=sys.stderr)
    try:
        print(job.submit_copy(arguments.jobs, shot.code).path)
    except OSError as error:
        return _refuse(f"{job.name} could not be copied to {arguments.jobs}: {error.strerror}.", code=3)
    return 0


def _match(words: list[str]) -> int:
    from .camera_match.cli import main as match
    from .video import VideoError

    try:
        return match(words)
    except (ProtocolError, VideoError) as error:
        return _refuse(str(error))


def _existing_job(path: Path) -> JobFolder:
    path = path.resolve()
    if not path.is_dir():
        raise ProtocolError(f"There is no job folder {path}.")
    return JobFolder(path)


def _print_progress(event: dict[str, Any]) -> None:
    left = event["seconds_left"]
    line = f"{event['stage']} {event['step']}/{event['steps']}" + (f", {left:.0f} s left" if left else "")
    if sys.stderr.isatty():
        print(
            f"\r\033[K{line}",
            end="\n" if event["step"] == event["steps"] else "",
            file=sys.stderr,
            flush=True,
        )
    else:
        print(line, file=sys.stderr, flush=True)


def _refuse(sentence: str, code: int = 2) -> int:
    print(sentence, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
