# SPDX-License-Identifier: GPL-3.0-or-later
"""What a clip was made from, told apart aspect by aspect."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from backend.protocol import Blockout, CameraPath, JobFolder, Preset, Shot, Source
from backend.protocol.fingerprint import ASPECTS, changes, fingerprint

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes([0, 0, 0, 96, 0, 0, 0, 64])


def shot(**changed):
    c2w = np.tile(np.eye(4), (17, 1, 1))
    c2w[:, 0, 3] = np.linspace(0, 1, 17)
    triangle = replace(
        Blockout.empty(), vertices=np.eye(3), faces=np.array([[0, 1, 2]]), face_object=np.zeros(1),
        object_names=np.array(["Wall"]), object_colors=np.ones((1, 3)),
    )  # fmt: skip
    values = {
        "code": "010_0010", "name": "Shot", "camera": CameraPath(c2w, np.tile([80.0, 80, 48, 32], (17, 1)), (96, 64)),
        "prompt": "dawn", "negative_prompt": "", "seed": 1,
        "preset": Preset("Test", "For the test", "embedded", (96, 64)),
        "source": Source("film.blend", "Scene", "Camera", 1, 25, 24, "request"), "blockout": triangle,
    }  # fmt: skip
    return Shot(**values | changed)


def moved(by_m):
    path = shot().camera
    c2w = path.c2w.copy()
    c2w[9, 1, 3] += by_m
    return replace(path, c2w=c2w)


def narrower():
    path = shot().camera
    return replace(path, intrinsics=path.intrinsics * 1.01)


CHANGED = {
    "camera": (shot(camera=moved(0.001)), None),
    "lens": (shot(camera=narrower()), None),
    "first frame": (shot(), b"another picture"),
    "prompt": (shot(prompt="dusk"), None),
    "blockout": (shot(blockout=replace(shot().blockout, vertices=np.eye(3) * 1.001)), None),
    "preset": (shot(preset=replace(shot().preset, steps=4)), None),
    "range": (shot(source=replace(shot().source, frame_end=49)), None),
}


@pytest.mark.parametrize("aspect", ASPECTS)
def test_a_change_is_told_by_its_name(aspect):
    assert changes(fingerprint(shot(), None), fingerprint(*CHANGED[aspect])) == [aspect]


@dataclass(frozen=True)
class NewerPreset(Preset):
    film_grain: float = 0.0


def test_a_setting_that_a_newer_version_has_changes_a_clip_once_it_is_used():
    before = fingerprint(shot(), None)
    newer = NewerPreset("Test", "Said in other words", "embedded", (96, 64))
    assert changes(before, fingerprint(shot(preset=newer), None)) == []
    assert changes(before, fingerprint(shot(preset=replace(newer, film_grain=0.5)), None)) == ["preset"]


def test_another_seed_another_request_and_noise_below_a_tenth_of_a_millimetre_change_nothing():
    again = shot(
        camera=moved(1e-6), seed=2, source=replace(shot().source, request_id="again", blend="copy.blend")
    )
    assert changes(fingerprint(shot(), None), fingerprint(again, None)) == []


def test_a_longer_range_is_not_called_another_camera():
    path = shot().camera
    longer = CameraPath(
        np.repeat(path.c2w, 2, 0)[:33], np.repeat(path.intrinsics, 2, 0)[:33], path.image_size
    )
    now = fingerprint(shot(camera=longer, source=replace(shot().source, frame_end=49)), None)
    assert changes(fingerprint(shot(), None), now) == ["range"]


def test_a_job_keeps_its_fingerprint_and_older_jobs_have_none(tmp_path):
    job = JobFolder.create(tmp_path, shot(), PNG)
    assert job.fingerprint() == fingerprint(shot(), None)
    assert job.shot() == shot()
    text = job.shot_json.read_text("utf-8")
    start = text.index('"fingerprint"')
    job.shot_json.write_text(
        text[:start] + '"fingerprint": null' + text[text.index("}", start) + 1 :], "utf-8"
    )
    assert job.fingerprint() == {} and changes(job.fingerprint(), fingerprint(shot(), None)) == []


def test_two_waiting_jobs_change_places_and_a_running_one_keeps_its(tmp_path):
    first, second = (JobFolder.create(tmp_path, shot(), PNG) for _ in range(2))
    before = first.state().submitted, second.state().submitted
    first.change_places(second)
    assert (second.state().submitted, first.state().submitted) == before
    lock = second.lock
    assert lock.acquire("a worker")
    with pytest.raises(Exception, match="A worker has just taken"):
        first.change_places(second)
    lock.release()
    assert (second.state().submitted, first.state().submitted) == before
    second.state_file.move("cancelled", "Cancelled before it began.")
    with pytest.raises(Exception, match="does not wait any more"):
        first.change_places(second)
