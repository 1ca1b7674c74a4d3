# SPDX-License-Identifier: GPL-3.0-or-later
"""Many shots at once: which of a list, exported one after the other, each as so many takes."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from bpy.types import Context, Scene

from ..backend.protocol import ProtocolError
from . import session, shots, staleness
from .followed_job import FollowedJob
from .properties import SANAWM_PG_shot
from .supervisor import WENT_WRONG

_MAX_SEED = 2**32 - 1


@dataclass
class Outcome:
    """What became of a batch.

    Attributes:
        queued: the jobs, in their order.
        left_out: a code and the reason, in a sentence.
    """

    queued: list[FollowedJob] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)

    def in_words(self) -> str:
        if not self.queued and not self.left_out:
            return "No shot needs a clip."
        words = f"{len(self.queued)} {'job' if len(self.queued) == 1 else 'jobs'} queued"
        if not self.left_out:
            return f"{words}."
        code, reason = self.left_out[0]
        return f"{words}, {len(self.left_out)} left out: {code}: {reason}"


def submit(
    context: Context, settings: SANAWM_PG_shot, takes: int, jobs_root: Path | None = None
) -> list[FollowedJob]:
    """Queue so many takes of a shot, with the seed and those after it; the scene is exported once.

    Args:
        jobs_root: the folder for the jobs; None for that of the open file.

    Raises:
        ProtocolError: the shot cannot be made.
        OSError: the job folder cannot be written.
    """
    if settings.seed + takes - 1 > _MAX_SEED:
        raise ProtocolError(
            f"{takes} takes from the seed {settings.seed} pass {_MAX_SEED}; choose a smaller seed."
        )
    shot, first_frame_png = shots.export(context, settings)
    jobs = []
    for take in range(takes):
        source = replace(shot.source, request_id=uuid.uuid4().hex)
        one = replace(shot, seed=shot.seed + take, source=source)
        jobs.append(session.supervisor.submit(one, first_frame_png, jobs_root))
    return jobs


def submit_all(
    context: Context, wanted: Iterable[SANAWM_PG_shot], takes: int = 0, jobs_root: Path | None = None
) -> Outcome:
    """Queue the shots one after the other; what stops one does not stop the others.

    Args:
        takes: of every shot; 0 for as many as the shot itself asks for.
    """
    outcome = Outcome()
    for settings in wanted:
        if sum(shot.code == settings.code for shot in shots_of(settings.id_data)) > 1:
            outcome.left_out.append((settings.code, "another shot has this code; give each its own."))
            continue
        if is_being_made(settings):
            outcome.left_out.append((settings.code, "its clip is being made."))
            continue
        try:
            outcome.queued += submit(context, settings, takes or settings.takes, jobs_root)
        except (ProtocolError, OSError) as error:
            outcome.left_out.append((settings.code, str(error)))
    return outcome


def is_being_made(settings: SANAWM_PG_shot) -> bool:
    job = _latest(settings)
    return job is not None and job.is_active


def shots_of(scene: Scene) -> list[SANAWM_PG_shot]:
    """The shots of the list, or the scene's own where there is no list."""
    return list(scene.sana_wm_shots) or [scene.sana_wm]


def selected(scene: Scene) -> list[SANAWM_PG_shot]:
    return [shot for shot in shots_of(scene) if shot.is_selected]


def failed(scene: Scene) -> list[SANAWM_PG_shot]:
    """Shots whose last job ended without a clip."""
    return [shot for shot in shots_of(scene) if (job := _latest(shot)) and job.record.state in WENT_WRONG]


def stale(context: Context) -> tuple[list[SANAWM_PG_shot], list[tuple[str, str]]]:
    """Shots of the context's scene without a clip, or whose clip was made from something else than there is now.

    Shots whose clip is being made are left out.

    Returns:
        The shots, and those that could not be looked at: code and reason.
    """
    found, unknown = [], []
    for settings in shots_of(context.scene):
        if is_being_made(settings):
            continue
        job = last_clip(settings)
        try:
            if (
                job is None
                or staleness.cheap_changes(settings, job.folder)
                or staleness.look_for_changes(context, settings, job.folder)
            ):
                found.append(settings)
        except ProtocolError as error:
            unknown.append((settings.code, str(error)))
    return found, unknown


def last_clip(settings: SANAWM_PG_shot) -> FollowedJob | None:
    """The job that made the shot's last clip; one that failed or was cancelled since made none."""
    return session.supervisor.last_done(settings.id_data.session_uid, settings.code)


def known_changes(settings: SANAWM_PG_shot) -> list[str]:
    """The aspects in which the shot is known to differ from its last clip; cheap enough for drawing."""
    job = last_clip(settings)
    return staleness.known_changes(settings, job.folder) if job else []


def _latest(settings: SANAWM_PG_shot) -> FollowedJob | None:
    return session.supervisor.latest(settings.id_data.session_uid, settings.code)
