# SPDX-License-Identifier: GPL-3.0-or-later
"""Contact sheets of a dataset: each clip's pictures over its length, and its path from above beside them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..protocol import FPS, ProtocolError
from .codecs import Codec
from .shards import ShardReader, StoredClip

CLIPS_PER_PAGE = 8
PICTURES = 5
PICTURE_WIDTH = 256
GAP, LABEL_HEIGHT = 8, 22
PAPER, INK, FAINT = (24, 24, 26), (225, 225, 225), (110, 110, 116)
PATH, START, LOOK = (88, 166, 255), (80, 200, 120), (150, 150, 160)


def write_sheets(folder: Path, codec: Codec | None, clips: int) -> Iterator[Path]:
    """Write `sheets/000.png` and so on into the dataset, eight clips a page; yields what is written.

    Args:
        codec: what the latents are of; None for a dataset of frames.
        clips: how many, spread evenly over the dataset.

    Raises:
        ProtocolError: there is no dataset or it is empty or damaged, or its latents are of another codec.
    """
    reader = ShardReader(folder)
    if not len(reader):
        raise ProtocolError(f"The dataset {folder} has no packed clips to show.")
    if codec and codec.sha256 != reader.info.codec_sha256:
        raise ProtocolError(
            f"The latents of {folder} are of another version of the codec; make the dataset again."
        )
    chosen = np.unique(np.linspace(0, len(reader) - 1, min(clips, len(reader))).round().astype(int)).tolist()
    target = folder / "sheets"
    target.mkdir(exist_ok=True)
    for old in target.glob("*.png"):
        old.unlink()
    for page, start in enumerate(range(0, len(chosen), CLIPS_PER_PAGE)):
        shown = [reader[index] for index in chosen[start : start + CLIPS_PER_PAGE]]
        path = target / f"{page:03d}.png"
        sheet(shown, codec).save(path)
        yield path


def sheet(clips: list[StoredClip], codec: Codec | None) -> Image.Image:
    """One page, a row a clip."""
    strips = [_strip(clip, codec) for clip in clips]
    width = max(strip.width for strip in strips) + 2 * GAP
    page = Image.new("RGB", (width, sum(strip.height + GAP for strip in strips) + GAP), PAPER)
    top = GAP
    for strip in strips:
        page.paste(strip, (GAP, top))
        top += strip.height + GAP
    return page


def _strip(clip: StoredClip, codec: Codec | None) -> Image.Image:
    frames = codec.decode(clip.latents) if codec else clip.frames.numpy()
    samples = np.linspace(0, len(frames) - 1, PICTURES).round().astype(int).tolist()
    height = round(PICTURE_WIDTH * frames.shape[1] / frames.shape[2])
    tiles = [(f"{sample / FPS:.1f} s", _scaled(frames[sample], height)) for sample in samples]
    if clip.depth is not None:
        tiles.insert(1, ("depth at 0 s", _scaled(_depth_picture(clip.depth[0].float().numpy()), height)))
    tiles.append(("from above", top_view(clip.c2w.numpy(), clip.intrinsics.numpy(), frames.shape[2], height)))
    strip = Image.new("RGB", (len(tiles) * (PICTURE_WIDTH + GAP), height + 2 * LABEL_HEIGHT), PAPER)
    draw, font = ImageDraw.Draw(strip), ImageFont.load_default(13)
    caption = f"   {clip.caption}" if clip.caption else ""
    draw.text((0, 2), _shortened(f"{clip.name}{caption}", font, strip.width), fill=INK, font=font)
    for place, (label, picture) in enumerate(tiles):
        left = place * (PICTURE_WIDTH + GAP)
        strip.paste(picture, (left, LABEL_HEIGHT))
        draw.text((left, LABEL_HEIGHT + height + 2), label, fill=FAINT, font=font)
    return strip


def top_view(c2w: np.ndarray, intrinsics: np.ndarray, frame_width: int, height: int) -> Image.Image:
    """The path over the ground, +y up the page, with where the camera looks and what it sees of the ground's angle.

    Args:
        c2w: (F, 4, 4), a world with z up, metres.
        intrinsics: (F, 4), pixels of frames of `frame_width`.
        height: of the picture in pixels.
    """
    picture = Image.new("RGB", (PICTURE_WIDTH, height), (34, 34, 38))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(12)
    places = c2w[:, :2, 3]
    centre = (places.min(0) + places.max(0)) / 2
    extent_m = max(float(np.ptp(places, axis=0).max()), 0.2)
    px_per_m = 0.55 * min(PICTURE_WIDTH, height) / extent_m

    def on_page(place: np.ndarray) -> tuple[float, float]:
        x, y = (place - centre) * px_per_m
        return PICTURE_WIDTH / 2 + x, height / 2 - y

    reach_m = 0.16 * height / px_per_m
    for sample in (0, len(c2w) - 1):
        half = math.atan(frame_width / 2 / intrinsics[sample, 0])
        for side in (-half, half):
            edge = c2w[sample, :3, :3] @ [math.sin(side), 0, math.cos(side)]
            draw.line(
                [on_page(places[sample]), on_page(places[sample] + 1.6 * reach_m * edge[:2])], fill=FAINT
            )
    for sample in np.linspace(0, len(c2w) - 1, 9).round().astype(int):
        ahead = c2w[sample, :2, 2]
        draw.line([on_page(places[sample]), on_page(places[sample] + reach_m * ahead)], fill=LOOK)
    draw.line([on_page(place) for place in places], fill=PATH, width=2)
    for place, colour in ((places[0], START), (places[-1], PATH)):
        x, y = on_page(place)
        draw.ellipse([x - 4, y - 4, x + 4, y + 4], fill=colour)
    bar_m = 10.0 ** math.floor(math.log10(extent_m))
    draw.line([(8, height - 8), (8 + bar_m * px_per_m, height - 8)], fill=INK, width=2)
    draw.text((8, height - 25), f"{bar_m:g} m", fill=INK, font=font)
    rise = c2w[:, 2, 3]
    draw.text((8, 4), f"height {rise[0]:.2f} to {rise[-1]:.2f} m", fill=INK, font=font)
    return picture


def _scaled(frame: np.ndarray, height: int) -> Image.Image:
    return Image.fromarray(frame).resize((PICTURE_WIDTH, height), Image.Resampling.LANCZOS)


def _depth_picture(depth_m: np.ndarray) -> np.ndarray:
    """Near is bright, the sky black."""
    near = 1 / np.maximum(depth_m, 1e-3)
    brightest = np.quantile(near, 0.98)
    grey = np.clip(near / max(brightest, 1e-9), 0, 1) ** 0.6
    return np.repeat((grey * 255).astype(np.uint8)[..., None], 3, axis=2)


def _shortened(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    while font.getlength(text) > width and len(text) > 4:
        text = f"{text[:-5]}..."
    return text
