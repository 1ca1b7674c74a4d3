# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders that show the scene through one camera and nothing else; the scene is left as it was."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bpy.types import Scene, ViewLayer

from . import compat

Setting = tuple[Any, str, Any]
"""Owner, property and value."""


@contextmanager
def plain_render(
    scene: Scene, view_layer: ViewLayer, engine: str, target: Path, more: Iterable[Setting] = ()
) -> Iterator[None]:
    """Everything that would keep the plain picture out of `target`, a PNG, or put notes into it; then put back.

    Args:
        engine: Blender's name of the render engine.
        more: settings besides, made last.
    """
    render, image = scene.render, scene.render.image_settings
    with overridden(
        [
            *((marker, "camera", None) for marker in scene.timeline_markers if marker.camera),
            *((layer, "use", layer == view_layer) for layer in scene.view_layers),
            (render, "engine", engine),
            (render, "filepath", str(target)),
            (render, "use_file_extension", True),
            (render, "use_sequencer", False),
            (render, "use_compositing", False),
            (render, "use_border", False),
            (render, "use_multiview", False),
            (render, "use_freestyle", False),
            (render, "use_motion_blur", False),
            (render, "use_stamp", False),
            *((render, name, False) for name in dir(render) if name.startswith("use_stamp_")),
            (render, "film_transparent", False),
            *png_settings(image),
            *more,
        ]
    ):
        yield


def png_settings(image: Any) -> list[Setting]:
    """8 bit RGB with the scene's colour management."""
    return [
        *compat.still_image_settings(image),
        (image, "file_format", "PNG"),
        (image, "color_mode", "RGB"),
        (image, "color_depth", "8"),
        (image, "color_management", "FOLLOW_SCENE"),
    ]


@contextmanager
def overridden(settings: list[Setting]) -> Iterator[None]:
    """Make settings one after the other, and put them back."""
    kept: list[Setting] = []
    try:
        for owner, name, value in settings:
            kept.append((owner, name, getattr(owner, name)))
            setattr(owner, name, value)
        yield
    finally:
        # Backwards, because a file format exists only under its media type.
        for owner, name, value in reversed(kept):
            setattr(owner, name, value)
