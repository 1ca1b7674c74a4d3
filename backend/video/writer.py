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
from .fragments import TICKS_PER_FRAME, Recorded, place, scan, split

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
    """Encodes frames as they are decoded, chunk by chunk.

    `preview/clip.mp4` gains one fragment with every `write`, so it plays while it grows; `preview/latest.png`
    is the newest frame. `finish` copies the stream, unchanged, into an mp4 with one index at its start. No
    chunk's bytes depend on another's: each has an encoder of its own, with one thread, no time stamps and no
    B-frames (so no edit list moves the first frame either). So equal chunks and metadata give equal clips, and
    a clip that was resumed is the clip that was never interrupted.

    Args:
        preview: folder for the growing clip; made if missing, its parent is not.
        size: (width, height) in pixels, both even.
        fps: frames per second.
        tags: the file's metadata: title, description, comment.
        resume: keep the chunks that are whole in a growing clip of the same size, rate and tags; what is half
            written, damaged or of another clip is cut off.

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
        resume: bool = False,
    ) -> None:
        check_size(size)
        self.size = size
        self._fps = fps
        self._crf = crf
        self._tags = [word for name, text in tags.items() for word in ("-metadata", f"{name}={text}")]
        self._encoder: subprocess.Popen[bytes] | None = None
        preview.mkdir(exist_ok=True)
        self.growing = preview / "clip.mp4"
        self._latest = preview / LATEST_NAME
        self._recorded = self._find_recorded() if resume else Recorded()
        with open(self.growing, "ab") as file:
            file.truncate(self._recorded.size)

    @property
    def frames_written(self) -> int:
        """Frames that are in the growing clip and would survive a crash."""
        return self._recorded.frames

    def write(self, frames: np.ndarray) -> None:
        """Append a chunk: encode it, add it to the growing clip, and see it onto the disk.

        Args:
            frames: (N, H, W, 3) uint8, sRGB, N >= 1.

        Raises:
            VideoError: the encoder failed.
            OSError: the disk is full or not writable; a half-written chunk is cut off again.
        """
        width, height = self.size
        if frames.dtype != np.uint8 or frames.shape[1:] != (height, width, 3) or len(frames) == 0:
            raise ValueError(
                f"frames must be (N, {height}, {width}, 3) uint8, not {frames.shape} {frames.dtype}"
            )
        header, fragment = self._encode(frames)
        count, index, size = self._recorded
        added = (b"" if count else header) + place(fragment, index, count)
        self._append(added)
        self._recorded = Recorded(count + len(frames), index + 1, size + len(added))
        latest = BytesIO()
        Image.fromarray(frames[-1]).save(latest, "PNG", compress_level=1)
        atomic.write_bytes(self._latest, latest.getvalue())

    def finish(self, clip: Path) -> None:
        """Write `clip` under a temporary name, then rename it.

        Raises:
            VideoError: the encoder failed or lost frames; `clip` is then untouched.
            OSError: the disk is full or not writable; `clip` is then untouched.
        """
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
        """End the encoder; the growing clip keeps its chunks. Harmless at any time, from any thread."""
        if self._encoder is not None:
            self._encoder.kill()

    def __enter__(self) -> ClipWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()

    def _find_recorded(self) -> Recorded:
        """What a growing clip, begun with the same settings, holds already."""
        width, height = self.size
        header, _ = self._encode(np.zeros((1, height, width, 3), np.uint8))
        try:
            with open(self.growing, "rb") as file:
                return scan(file, header)
        except FileNotFoundError:
            return Recorded()

    def _append(self, data: bytes) -> None:
        """Add to the growing clip's end, all or nothing."""
        with open(self.growing, "rb+", buffering=0) as file:
            try:
                file.seek(self._recorded.size)
                view = memoryview(data)
                while view:
                    view = view[file.write(view) :]
                os.fsync(file.fileno())
            except BaseException:
                file.truncate(self._recorded.size)
                raise

    def _encode(self, frames: np.ndarray) -> tuple[bytes, bytes]:
        """Header and fragment of a chunk as a clip of its own."""
        command = self._encode_command()
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(command, **pipes, **_DETACHED) as self._encoder:
            try:
                segment, log = self._encoder.communicate(np.ascontiguousarray(frames).reshape(-1).data)
            except BaseException:
                self._encoder.kill()
                raise
        _check_exit(self._encoder.returncode, log.decode(errors="replace"))
        try:
            return split(segment)
        except ValueError as error:
            raise VideoError(f"The video encoder made {error}; set up the backend again.") from error

    def _encode_command(self) -> list[str]:
        width, height = self.size
        to_bt709 = (
            "scale=in_range=pc:out_range=tv:out_color_matrix=bt709:flags=bicubic+accurate_rnd+full_chroma_int,"
            "format=yuv420p,setparams=range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709"
        )
        return [
            *_ffmpeg(),
            *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(self._fps)),
            *("-i", "pipe:0", "-vf", to_bt709),
            *("-c:v", "libx264", "-preset", "fast", "-crf", str(self._crf), "-threads", "1", "-bf", "0"),
            # Two seconds between key frames at most, longer than a chunk: one is enough for it.
            *("-g", str(2 * self._fps), "-x264-params", f"rc-lookahead={self._fps // 2}"),
            *("-flags:v", "+bitexact", "-fflags", "+bitexact", *self._tags),
            *("-movflags", "+frag_custom+empty_moov+default_base_moof+skip_trailer"),
            *("-video_track_timescale", str(self._fps * TICKS_PER_FRAME), "-f", "mp4", "pipe:1"),
        ]


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
