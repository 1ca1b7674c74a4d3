# SPDX-License-Identifier: GPL-3.0-or-later
"""The contract between Blender and the backend: numpy and the standard library only."""

from .blockout import Blockout
from .camera_match import CameraMatch
from .camera_path import FPS, CameraPath, CoverCrop, cover_crop
from .clip import Clip
from .errors import ProtocolError
from .events import EventLog, EventReader
from .file_lock import FileLock, worker_lock
from .job_folder import JobFolder, list_jobs
from .limits import Finding, frame_count_for
from .preset import Preset, list_presets
from .shot import SCHEMA_VERSION, Shot, Source
from .state import ENDED, JobState, StateRecord

__all__ = [
    "ENDED",
    "FPS",
    "SCHEMA_VERSION",
    "Blockout",
    "CameraMatch",
    "CameraPath",
    "Clip",
    "CoverCrop",
    "EventLog",
    "EventReader",
    "FileLock",
    "Finding",
    "JobFolder",
    "JobState",
    "Preset",
    "ProtocolError",
    "Shot",
    "Source",
    "StateRecord",
    "cover_crop",
    "frame_count_for",
    "list_jobs",
    "list_presets",
    "worker_lock",
]
