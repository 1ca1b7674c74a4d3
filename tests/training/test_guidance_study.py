# SPDX-License-Identifier: GPL-3.0-or-later
"""Blockout guidance makes a model follow its camera that does not do so by itself; what is not seen stays its own."""

import json
from pathlib import Path

import numpy as np
import pytest

from backend.models.vae import LinearCodec
from backend.training import guidance_study
from backend.training.camera_only import load_camera_only
from backend.training.clip_files import ClipSet, project_missing
from backend.training.config import RecipeConfig
from backend.training.guidance_study import Setting, StudyScene
from backend.training.scene_files import render_missing
from backend.weights.embedded import FOLDER

CONFIG = Path(guidance_study.__file__).parent / "configs" / "camera_only.json"
WEIGHTS = Path(__file__).parents[1] / "data" / "camera_only.safetensors"
SCENES = 2
NAMES = "guided", "preview", "unguided"
SMALL = {"folder": ".", "scenes": 0, "heldout_scenes": SCENES, "frames": 17, "heldout_raster": [128, 72]}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The trained model, the codec and the first held-out scenes, six canonical moves each."""
    folder = tmp_path_factory.mktemp("study")
    written = json.loads(CONFIG.read_text("utf-8")) | SMALL
    (folder / "config.json").write_text(json.dumps(written), "utf-8")
    config = RecipeConfig.load(folder / "config.json")
    list(render_missing(config))
    list(project_missing(config))
    codec = LinearCodec.load(FOLDER / "codec.safetensors")
    clips = ClipSet(config, "heldout")
    scenes = [StudyScene.of([clips[6 * scene + move] for move in range(6)], codec) for scene in range(SCENES)]
    return load_camera_only(WEIGHTS), codec, scenes


@pytest.fixture(scope="module")
def made(study):
    """Pictures by setting and scene, and the preview's."""
    model, codec, scenes = study
    sigmas = guidance_study.FEW
    wanted = {"unguided": Setting(0.0, 0.0, sigmas), "guided": Setting(1.0, 0.0, sigmas)}
    clips = {
        name: [
            guidance_study.pictures(codec, guidance_study.sampled(model, codec, scene, setting))
            for scene in scenes
        ]
        for name, setting in wanted.items()
    }
    return clips | {"preview": [guidance_study.pictures(codec, scene.preview) for scene in scenes]}


def mean_figures(scenes, pictures):
    rows = [row for s, p in zip(scenes, pictures, strict=True) for row in guidance_study.figures(s, p)]
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


def test_guidance_makes_the_model_follow_and_without_it_it_does_not(study, made):
    _model, _codec, scenes = study
    unguided, guided = (mean_figures(scenes, made[name]) for name in ("unguided", "guided"))
    assert abs(unguided["cosine"]) < 0.2 and unguided["identified"] < 0.5, unguided
    assert guided["cosine"] >= 0.8 and guided["identified"] >= 0.9, guided


def test_what_is_seen_is_the_preview_and_what_is_not_is_the_models_own(study, made):
    _model, _codec, scenes = study
    for scene, guided, preview, unguided in zip(scenes, *(made[name] for name in NAMES), strict=True):
        seen, unseen = scene.seen(), ~scene.seen()
        assert guidance_study.distance(guided, preview, seen).max() < 0.005
        off_preview = guidance_study.distance(guided, preview, unseen).mean()
        off_unguided = guidance_study.distance(guided, unguided, unseen).mean()
        assert off_preview > 0.05, f"the surroundings are the preview's, {off_preview:.3f} off"
        assert off_unguided < off_preview / 3, f"the surroundings are not the model's, {off_unguided:.3f} off"


def test_the_truth_follows_itself_and_a_still_picture_does_not(study):
    _model, _codec, scenes = study
    clip = scenes[0].clips[0]
    assert guidance_study.following(clip.truth, clip).cosine > 0.9
    still = clip.truth[:1].expand_as(clip.truth)
    assert guidance_study.following(still, clip).cosine == 0
    assert guidance_study.following(clip.truth.flip(0), clip).cosine < 0
