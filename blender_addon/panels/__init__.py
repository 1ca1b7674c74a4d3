# SPDX-License-Identifier: GPL-3.0-or-later
"""The SANA-WM tab of the 3D viewport's sidebar."""

import bpy

from . import camera_check, camera_match, clip, more, queue, shot, shot_list, take

_CLASSES = (
    shot_list.SANAWM_UL_shots,
    shot_list.SANAWM_MT_shots,
    shot_list.SANAWM_PT_shots,
    shot_list.SANAWM_PT_shots_in_sequencer,
    shot.SANAWM_PT_shot,
    camera_check.SANAWM_PT_camera_check,
    clip.SANAWM_PT_clip,
    camera_match.SANAWM_PT_camera_match,
    queue.SANAWM_PT_batch,
    queue.SANAWM_PT_batch_in_sequencer,
    more.SANAWM_MT_camera_paths,
    more.SANAWM_PT_more,
    take.SANAWM_PT_take,
)


def register() -> None:
    for cls in _CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
