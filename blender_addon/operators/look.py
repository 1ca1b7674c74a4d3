# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at what was written: the growing clip, the job's folder, the logs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import bpy
from bpy.types import Context, Operator

from .. import session


def _open(operator: Operator, path: Path) -> set[str]:
    if not path.exists():
        operator.report({"ERROR"}, f"There is no {path}")
        return {"CANCELLED"}
    return bpy.ops.wm.path_open(filepath=str(path))


class _LatestJobOperator:
    @classmethod
    def poll(cls, context: Context) -> bool:
        return session.latest_job(context.scene) is not None


class SANAWM_OT_show_job_folder(_LatestJobOperator, Operator):
    bl_idname = "sanawm.show_job_folder"
    bl_label = "Show Job Folder"
    bl_description = "Open the folder of this scene's last job, with the clip, in the file browser"
    bl_options = {"INTERNAL"}

    def execute(self, context: Context) -> set[str]:
        return _open(self, session.latest_job(context.scene).folder.path)


class SANAWM_OT_watch_clip(Operator):
    bl_idname = "sanawm.watch_clip"
    bl_label = "Watch the Clip So Far"
    bl_description = (
        "Open what is made of this scene's clip in the system's player, while the rest is being made"
    )
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        job = session.active_job(context.scene)
        return job is not None and job.growing_clip is not None

    def execute(self, context: Context) -> set[str]:
        clip = session.active_job(context.scene).growing_clip
        try:
            if os.name == "nt":  # where a file that is played cannot be written or deleted
                clip = Path(shutil.copy(clip, bpy.app.tempdir))
        except OSError as error:
            self.report({"ERROR"}, f"The clip so far cannot be copied: {error}")
            return {"CANCELLED"}
        return _open(self, clip)


class SANAWM_OT_open_log(_LatestJobOperator, Operator):
    bl_idname = "sanawm.open_log"
    bl_label = "Open Log"
    bl_description = "Open the log of this scene's last job"
    bl_options = {"INTERNAL"}

    def execute(self, context: Context) -> set[str]:
        folder = session.latest_job(context.scene).folder
        worker_log = folder.path.parent / "worker.log"
        return _open(self, folder.log_txt if folder.log_txt.exists() else worker_log)


class SANAWM_OT_open_set_up_log(Operator):
    bl_idname = "sanawm.open_set_up_log"
    bl_label = "Open Log"
    bl_description = "Open the log of the last set-up"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, _context: Context) -> bool:
        return session.setup is not None

    def execute(self, _context: Context) -> set[str]:
        return _open(self, session.setup.log)
