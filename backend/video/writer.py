# SPDX-License-Identifier: GPL-3.0-or-later
"""Progressive H.264 writer: a fragmented mp4 while frames arrive, a plain one when all are there."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import uuid
from io import BytesIO
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from PIL import Image

from ..protocol import atomic

LATEST_NAME = "latest.png"
CRF = 16

# Without its own process group the encoder would die of the Ctrl-C that only asks the worker to stop.
_DETACHED = (
    {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    if os.name == "nt"
    else {"start_new_session": True}
)


class VideoError(RuntimeError):
    """The encoder refused or failed; the message is a sentence for the user."""


def check_size(size: tuple[int, int]) -> None:
    """Refuse a (width, height) that yuv420p cannot hold.

    Raises:
        VideoError: a side is odd or not positive.
    """
    if any(side < 2 or side % 2 for side in size):
        raise VideoError(
            f"A clip of {size[0]}x{size[1]} pixels cannot be encoded: H.264 in yuv420p needs even sides. "
            f"Choose a preset of even width and height."
        )


class ClipWriter:
    """Encodes frames as they are decoded.

    `preview/clip.mp4` is cut into fragments of one second, so it plays while it grows; `preview/latest.png`
    is the newest frame. `finish` copies the stream, unchanged, into an mp4 with one index at its start, which
    is what players and Blender need for an exact frame count. Equal frames and metadata give equal bytes: one
    encoder thread, no time stamps, and no B-frames (so no edit list moves the first frame either).

    Args:
        preview: folder for the growing clip; made if missing, its parent is not.
        size: (width, height) in pixels, both even.
        fps: frames per second.
        tags: the file's metadata: title, description, comment.

    Raises:
        VideoError: the size cannot be encoded, or the encoder failed.
        OSError: the disk is full or not writable.
    """

    def __init__(
        self,
        preview: Path,
        size: tuple[int, int],
        fps: int,
        tags: dict[str, str],
        crf: int = CRF,
    ) -> None:
        check_size(size)
        self.size = size
        self.frames_written = 0
        self._fps = fps
        self._tags = [word for name, text in tags.items() for word in ("-metadata", f"{name}={text}")]
        preview.mkdir(exist_ok=True)
        self.growing = preview / "clip.mp4"
        self._latest = preview / LATEST_NAME
        self._encoder = subprocess.Popen(
            self._encode_command(crf),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            **_DETACHED,
        )

    def _encode_command(self, crf: int) -> list[str]:
        width, height = self.size
        to_bt709 = (
            "scale=in_range=pc:out_range=tv:out_color_matrix=bt709:flags=bicubic+accurate_rnd+full_chroma_int,"
            "format=yuv420p,setparams=range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709"
        )
        return [
            *_ffmpeg(),
            *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(self._fps)),
            *("-i", "pipe:0", "-vf", to_bt709),
            *("-c:v", "libx264", "-preset", "fast", "-crf", str(crf), "-threads", "1", "-bf", "0"),
            *("-g", str(self._fps), "-x264-params", f"rc-lookahead={self._fps // 2}"),
            *("-flags:v", "+bitexact", "-fflags", "+bitexact", *self._tags),
            *("-movflags", "+frag_keyframe+empty_moov+default_base_moof", "-flush_packets", "1"),
            *("-f", "mp4", str(self.growing)),
        ]

    def write(self, frames: np.ndarray) -> None:
        """Append frames.

        Args:
            frames: (N, H, W, 3) uint8, sRGB, N >= 1.
        """
        width, height = self.size
        if frames.dtype != np.uint8 or frames.shape[1:] != (height, width, 3) or len(frames) == 0:
            raise ValueError(
                f"frames must be (N, {height}, {width}, 3) uint8, not {frames.shape} {frames.dtype}"
            )
        try:
            for frame in frames:
                self._encoder.stdin.write(np.ascontiguousarray(frame).data)
                self.frames_written += 1
            self._encoder.stdin.flush()
        except (BrokenPipeError, OSError) as error:
            self._fail(error)
        latest = BytesIO()
        Image.fromarray(frames[-1]).save(latest, "PNG", compress_level=1)
        atomic.write_bytes(self._latest, latest.getvalue())

    def finish(self, clip: Path) -> None:
        """Close the growing clip and write `clip` under a temporary name, then rename it.

        Raises:
            VideoError: the encoder failed or lost frames; `clip` is then untouched.
            OSError: the disk is full or not writable; `clip` is then untouched.
        """
        try:
            self._encoder.stdin.close()
        except OSError as error:
            self._fail(error)
        log = self._encoder.stderr.read().decode(errors="replace")
        _check_exit(self._encoder.wait(), log)
        partial = clip.with_name(f".{clip.name}.{uuid.uuid4().hex[:8]}.tmp")
        command = [
            *_ffmpeg(),
            *("-i", str(self.growing), "-map", "0:v", "-c", "copy", "-fflags", "+bitexact", *self._tags),
            *("-movflags", "+faststart", "-f", "mp4", str(partial)),
        ]
        try:
            remux = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, **_DETACHED)
            _check_exit(remux.returncode, remux.stderr.decode(errors="replace"))
            frames, _ = imageio_ffmpeg.count_frames_and_secs(partial)
            if frames != self.frames_written:
                raise VideoError(
                    f"The encoder kept {frames} of {self.frames_written} frames. Run the shot again; if it "
                    f"happens twice, check the disk that holds {clip.parent}."
                )
            with open(partial, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(partial, clip)
        finally:
            partial.unlink(missing_ok=True)

    def abort(self) -> None:
        """End the encoder; the growing clip keeps what was flushed. Harmless after `finish`."""
        if self._encoder.poll() is None:
            self._encoder.kill()
            self._encoder.wait()
        for stream in (self._encoder.stdin, self._encoder.stderr):
            try:
                stream.close()
            except OSError:
                pass

    def __enter__(self) -> ClipWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()

    def _fail(self, cause: OSError) -> None:
        """Say why the encoder stopped reading."""
        log = self._encoder.stderr.read().decode(errors="replace")
        _check_exit(self._encoder.wait(), log)
        raise VideoError("The video encoder ended before the clip was complete.") from cause


def _ffmpeg() -> list[str]:
    try:
        program = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise VideoError("The video encoder is missing; set up the backend again.") from error
    return [program, "-hide_banner", "-nostdin", "-loglevel", "error", "-y"]


def _check_exit(code: int, log: str) -> None:
    if code == 0:
        return
    if "No space left on device" in log:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if "File too large" in log or (os.name != "nt" and code == -signal.SIGXFSZ):
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    last = log.strip().splitlines()[-1] if log.strip() else "it gave no message"
    raise VideoError(f"The video encoder failed (exit code {code}): {last}.")
