# SPDX-License-Identifier: GPL-3.0-or-later
"""python -m backend match: measure the clip of a finished job again."""

from __future__ import annotations

import argparse
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..protocol import CameraMatch, CameraPath, Clip, JobFolder, ProtocolError
from ..video import read_frames
from .match import match_camera
from .motion import poses_at
from .paper import paper_errors


def main(argv: list[str]) -> int:
    """Print what is measured; 0, whatever it is.

    Raises:
        ProtocolError: the folder holds no finished clip.
        VideoError: the clip cannot be decoded.
    """
    parser = argparse.ArgumentParser(
        prog="python -m backend match", description="Measures whether a finished clip follows its camera."
    )
    parser.add_argument("job", type=Path, metavar="JOB_DIR")
    parser.add_argument(
        "--paper", action="store_true", help="also the errors that papers give, with the scale fitted away"
    )
    parser.add_argument("--save", action="store_true", help="replace the match in clip.json")
    arguments = parser.parse_args(argv)
    job = JobFolder(arguments.job.resolve())
    clip, shot = job.clip(), job.shot()
    path = shot.camera.fitted_to(clip.image_size)
    with closing(read_frames(job.clip_mp4, clip.frame_count)) as frames:
        match = match_camera(frames, shot.blockout, path, clip.pose_offset)
    print(match_table(match))
    if arguments.paper:
        print(_paper_lines(match, path, clip))
    if arguments.save:
        replace(clip, match=match).save(job.clip_json)
    return 0


def match_table(match: CameraMatch) -> str:
    """The sentence, a line for each number, and the seconds of the clip."""
    numbers = [f"  {number.verdict:<5} {number.name:<9} {number.words}" for number in match.judged()]
    seconds = match.per_second()
    band = [f"  by second: {' '.join(seconds)}"] if seconds else []
    return "\n".join([match.in_words(), *numbers, *band])


def _paper_lines(match: CameraMatch, path: CameraPath, clip: Clip) -> str:
    """The lag stays in, as in papers."""
    if match.unmeasured:
        return "There is no measured path to compare."
    planned = poses_at(path.c2w, np.arange(match.frame_count) + clip.pose_offset)
    try:
        errors = paper_errors(match.estimated_c2w, planned)
    except ProtocolError as reason:
        return str(reason)
    return (
        f"As papers count, after a fit of rotation, place and scale (x {errors.scale:.4f}):\n"
        f"  RotErr {errors.rot_err_deg:.3f} degrees, TransErr {errors.trans_err_m:.4f} m, CamMC {errors.cam_mc:.4f}\n"
        f"  ATE {errors.ate_m:.4f} m, RPE {errors.rpe_m:.5f} m and {errors.rpe_deg:.4f} degrees a frame; "
        f"{errors.frames} frames, {errors.lost} lost"
    )
