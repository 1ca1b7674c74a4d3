# SPDX-License-Identifier: GPL-3.0-or-later
"""The embedded model: codec, network around the projection, filter, compositing, and the files that ship."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from backend.models.embedded import EmbeddedConfig, EmbeddedModel, RasterClipBuilder, projection_size
from backend.models.embedded.composite import composite
from backend.models.vae import LinearCodec
from backend.pipeline import load_models
from backend.protocol import CameraPath, Preset, ProtocolError, list_presets
from backend.sampling.flow_euler import sample, sigma_schedule
from backend.training.fit_codec import CodecFit
from backend.weights.embedded import FILES, FOLDER, load_embedded, save_embedded
from tests.stage1_reference import randn

RASTER = (48, 32)


@pytest.fixture(scope="module")
def codec() -> LinearCodec:
    """Fitted to smooth moving pictures."""
    fit = CodecFit()
    for add in (fit.add_patches, fit.add_steps):
        add(moving_picture(17, 64, 96))
    return fit.solve()


def moving_picture(frames: int, height: int, width: int) -> torch.Tensor:
    t, y, x = torch.meshgrid(*(torch.arange(n) for n in (frames, height, width)), indexing="ij")
    waves = [
        torch.sin(0.11 * x + 0.2 * t),
        torch.cos(0.17 * y - 0.1 * t),
        torch.sin(0.07 * (x + y) + 0.3 * t),
    ]
    return 0.5 + 0.4 * torch.stack(waves)[None].float()


def small_model(codec: LinearCodec) -> EmbeddedModel:
    torch.manual_seed(4)
    model = EmbeddedModel(EmbeddedConfig(raster=RASTER, hidden_size=32, blocks=4, filter_width=8))
    model.codec = codec
    return model.eval().requires_grad_(False)


def raster_clip(frames: int = 9, size: tuple[int, int] = RASTER):
    picture = moving_picture(frames, size[1], size[0])[0].permute(1, 2, 3, 0).numpy()
    builder = RasterClipBuilder(size)
    for index, base in enumerate(picture):
        visible = np.ones(base.shape[:2], np.float32)
        visible[:, : 3 * index] = 0
        depth = np.full(base.shape[:2], 0.2, np.float32)
        builder.add(base, 1 - base, visible, depth, np.zeros(base.shape[:2], bool))
    return builder.build()


def path(frames: int = 9) -> CameraPath:
    c2w = np.tile(np.eye(4), (frames, 1, 1))
    c2w[:, 0, 3] = 0.1 * np.arange(frames)
    return CameraPath(c2w, np.tile([50.0, 50, 24, 16], (frames, 1)), RASTER)


def test_the_codec_gives_back_what_it_was_fitted_to(codec):
    video = moving_picture(17, 64, 96)
    latents = codec.encode(video)
    assert latents.shape == (1, 128, 3, 8, 12)
    error = (codec.decode(latents) - video).abs().max().item()
    assert error < 0.02, f"decoded video differs by {error:.3f}"


def test_the_codec_is_linear_and_its_first_latent_is_the_first_frame_alone(codec):
    video, other = moving_picture(9, 32, 48), randn((1, 3, 9, 32, 48), 1)
    latents, changed = codec.encode(video), codec.encode(video + 0.1 * other)
    difference = codec.decode_difference(changed - latents)
    torch.testing.assert_close(difference, codec.decode(changed) - codec.decode(latents), atol=1e-5, rtol=0)
    later = video.clone()
    later[:, :, 1:] += 0.3
    torch.testing.assert_close(codec.encode(later)[:, :, :1], latents[:, :, :1])


@pytest.mark.parametrize(("shape", "sentence"), [((8, 32, 48), "8k [+] 1"), ((9, 30, 48), "multiples of 8")])
def test_the_codec_refuses_other_shapes(codec, shape, sentence):
    with pytest.raises(ValueError, match=sentence):
        codec.encode(torch.zeros(1, 3, *shape))


def test_an_untrained_model_changes_nothing(codec):
    model, clip = small_model(codec), raster_clip()
    inputs = model.condition(clip, path())
    noise = randn(tuple(inputs.base_latents.shape), 3)
    latents = sample(
        lambda noisy, t: model.velocity(noisy, t, inputs),
        noise,
        inputs.base_latents[:, :, :1],
        sigma_schedule(1),
    )
    difference = model.difference(latents, inputs, inputs.latents)
    assert difference.shape == (9, 3, RASTER[1], RASTER[0]) and difference.abs().max() < 1e-4
    closer = raster_clip(size=(2 * RASTER[0], 2 * RASTER[1]))
    residual = model.residual(difference, closer)
    assert residual.shape == (9, 3, 2 * RASTER[1], 2 * RASTER[0]) and residual.abs().max() < 1e-4


def test_another_number_of_frames_than_the_cameras_is_refused(codec):
    with pytest.raises(ValueError, match="9 frames, but its camera path has 17"):
        small_model(codec).condition(raster_clip(9), path(17))


def test_the_raster_keeps_the_clips_shape_and_number_of_pixels():
    config = EmbeddedConfig(raster=(160, 88))
    assert config.raster_for((640, 352)) == config.raster_for((1280, 704)) == (160, 88)
    for size in ((160, 96), (352, 640), (512, 512), (1024, 256)):
        width, height = config.raster_for(size)
        assert width % 8 == height % 8 == 0
        assert width * height == pytest.approx(160 * 88, rel=0.12)
        assert width / height == pytest.approx(size[0] / size[1], rel=0.12)
    assert projection_size((160, 88)) == (320, 176)


def test_compositing_touches_holes_only_and_keeps_away_from_the_sky_line():
    rng = np.random.default_rng(2)
    base = rng.random((64, 96, 3)).astype(np.float32)
    visible = np.ones((64, 96), np.float32)
    visible[:, :40] = 0
    is_sky = np.zeros((64, 96), bool)
    is_sky[:20] = True
    residual, raster_sky = torch.full((3, 16, 24), 0.1), torch.zeros(1, 16, 24)
    raster_sky[:, :5] = 1
    finished = composite(base, residual, raster_sky, visible, is_sky, 0.5)
    np.testing.assert_array_equal(finished[:, 40:], base[:, 40:])
    inner = finished[40:, 5:25]
    np.testing.assert_allclose(inner, np.clip(base[40:, 5:25] + 0.05, 0, 1), atol=1e-5)
    np.testing.assert_allclose(finished[19:21, :30], base[19:21, :30], atol=1e-6)
    assert composite(base, residual, raster_sky, visible, is_sky, 0) is base


def test_saved_weights_load_and_give_the_same_residual(codec, tmp_path):
    model = small_model(codec)
    for parameter in model.parameters():
        parameter.copy_(parameter.half().float() + 0.02 * torch.randn_like(parameter).half().float())
    for parameter in model.stage1.parameters():
        parameter.copy_(parameter.half().float())
    save_embedded(model, tmp_path)
    loaded = load_embedded(folder=tmp_path)
    inputs, again = (m.condition(raster_clip(), path()) for m in (model, loaded))
    timesteps = torch.tensor([[[0.0, 1000.0]]])
    noise = randn(tuple(inputs.base_latents.shape), 8)
    assert torch.equal(
        model.clean_latents(noise, timesteps, inputs), loaded.clean_latents(noise, timesteps, again)
    )


def test_the_weights_that_ship_are_small_and_load():
    assert sum((FOLDER / name).stat().st_size for name in FILES) < 12e6
    model = load_embedded()
    assert model.config.raster == (160, 88)
    for parameter in model.parameters():
        assert torch.isfinite(parameter).all()


def test_the_network_is_on_by_default_only_if_the_model_card_allows_it():
    """Final is the default; Draft and Teacher are there to look at the network."""
    recommended = json.loads((FOLDER / "config.json").read_text())["default_blend"]
    presets = list_presets(FOLDER.parents[2] / "presets" / "quality")
    clips = [p for p in presets.values() if p.model == "embedded" and not p.marks_unseen]
    assert {p.network_blend for p in clips if "Final" in p.name} == {recommended}
    assert all(0 < p.network_blend <= max(recommended, 0.25) for p in clips if "Final" not in p.name)


@pytest.mark.parametrize("damage", ["missing", "cut", "another shape"])
def test_damaged_weights_are_a_sentence(damage, monkeypatch, tmp_path):
    for name in FILES:
        shutil.copy(FOLDER / name, tmp_path)
    target = tmp_path / "filter.safetensors"
    if damage == "missing":
        target.unlink()
    elif damage == "cut":
        target.write_bytes(target.read_bytes()[:100])
    else:
        tensors = load_file(target)
        tensors["layers.0.bias"] = torch.zeros(7)
        save_file(tensors, target)
    monkeypatch.setattr(
        "backend.films.embedded.load_embedded",
        lambda device, variant: load_embedded(device, tmp_path, variant),
    )
    preset = Preset("x", "x", "embedded", (640, 352), steps=1, network_blend=0.5)
    with pytest.raises(ProtocolError, match="weights cannot be loaded .*install the extension again"):
        load_models(preset, "cpu")
    with pytest.raises(ProtocolError, match="needs the weights of SANA-WM"):
        load_models(Preset("x", "x", "sana_wm", (640, 352)), "cpu")
