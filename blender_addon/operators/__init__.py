# SPDX-License-Identifier: GPL-3.0-or-later
"""The operators: thin, one concern a file."""

import bpy

from . import (
    backend,
    batch,
    camera_check,
    camera_exchange,
    camera_match,
    camera_move,
    compare,
    demo,
    export_job,
    generate,
    look,
    machine,
    queue,
    shot_list,
    takes,
    weights,
    wipe,
)

_CLASSES = (
    generate.SANAWM_OT_check_shot,
    camera_check.SANAWM_OT_slow_down,
    camera_check.SANAWM_OT_scale_path,
    camera_check.SANAWM_OT_split_shot,
    camera_check.SANAWM_OT_go_to_frame,
    generate.SANAWM_OT_generate,
    generate.SANAWM_OT_cancel,
    batch.SANAWM_OT_generate_shots,
    batch.SANAWM_OT_look_for_changes,
    queue.SANAWM_OT_cancel_job,
    queue.SANAWM_OT_retry_job,
    queue.SANAWM_OT_move_job,
    queue.SANAWM_OT_cancel_waiting,
    shot_list.SANAWM_OT_add_shot,
    shot_list.SANAWM_OT_duplicate_shot,
    shot_list.SANAWM_OT_remove_shot,
    shot_list.SANAWM_OT_move_shot,
    shot_list.SANAWM_OT_look_through_shot,
    shot_list.SANAWM_OT_shots_from_markers,
    shot_list.SANAWM_OT_shots_from_strips,
    shot_list.SANAWM_OT_shots_from_file,
    shot_list.SANAWM_OT_write_shots,
    export_job.SANAWM_OT_export_job,
    backend.SANAWM_OT_set_up_backend,
    backend.SANAWM_OT_cancel_set_up,
    weights.SANAWM_OT_download_weights,
    weights.SANAWM_OT_verify_weights,
    weights.SANAWM_OT_convert_weights,
    weights.SANAWM_OT_remove_weights,
    weights.SANAWM_OT_cancel_weights,
    weights.SANAWM_OT_accept_licence,
    weights.SANAWM_OT_show_weights,
    machine.SANAWM_OT_check_machine,
    machine.SANAWM_OT_show_machine_report,
    demo.SANAWM_OT_add_demo_scene,
    camera_move.SANAWM_OT_add_camera_move,
    camera_exchange.SANAWM_OT_import_camera,
    camera_exchange.SANAWM_OT_export_camera,
    camera_exchange.SANAWM_OT_camera_from_actions,
    compare.SANAWM_OT_overlay,
    compare.SANAWM_OT_wireframe,
    compare.SANAWM_OT_compare_stack,
    compare.SANAWM_OT_end_comparison,
    compare.SANAWM_OT_contact_sheet,
    compare.SANAWM_OT_burn_in,
    wipe.SANAWM_OT_wipe,
    camera_match.SANAWM_OT_jump_to_moment,
    camera_match.SANAWM_OT_match_path,
    camera_match.SANAWM_OT_camera_from_match,
    takes.SANAWM_OT_pick_take,
    takes.SANAWM_OT_remove_take,
    takes.SANAWM_OT_settings_of_take,
    takes.SANAWM_OT_go_on_from_take,
    look.SANAWM_OT_watch_clip,
    look.SANAWM_OT_show_job_folder,
    look.SANAWM_OT_open_log,
    look.SANAWM_OT_open_set_up_log,
)


def register() -> None:
    for cls in _CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
