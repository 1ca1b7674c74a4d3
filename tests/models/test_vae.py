# SPDX-License-Identifier: GPL-3.0-or-later
"""The video autoencoder: strict loading, the first frame, and tiles that stay aligned in time."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLLTX2Video
from safetensors.torch import load_file, save_file

from backend.models.vae import CausalDecoder
from backend.models.vae.ltx2 import encode_first_frame, load_vae
from backend.models.vae.tiled_decoder import TiledDecoder, tile_starts
from tests.vae_reference import tiny_vae, write_vae

CHANNELS = 6


def randn(*shape, seed=5):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_vae(tmp_path_factory.mktemp("vae"), CHANNELS, causal=False)


class Timeline:
    """A decoder without pixels: latent j holds the number j, and its frames say where in the clip they are.

    As in the real one the first latent of a call stands for one frame, and every other for eight.
    """

    def __init__(self):
        self.decoder = SimpleNamespace(conv_in=SimpleNamespace(conv=SimpleNamespace(weight=torch.zeros(1))))
        self.latents_mean, self.latents_std = torch.zeros(1), torch.ones(1)
        self.config = SimpleNamespace(scaling_factor=1.0)

    def decode(self, latents):
        first, *others = latents[0, 0, :, 0, 0].tolist()
        frames = [8 * first] + [8 * other - 7 + step for other in others for step in range(8)]
        return SimpleNamespace(sample=2 * torch.tensor(frames).view(1, 1, -1, 1, 1) - 1)


@pytest.mark.parametrize("count", [1, 2, 8, 13, 14, 21, 22, 31, 121])
def test_every_frame_is_in_its_place(count):
    latents = torch.arange(count, dtype=torch.float32).view(1, 1, -1, 1, 1)
    frames = torch.cat(list(TiledDecoder(Timeline()).decode(latents)), dim=2).flatten()
    torch.testing.assert_close(frames, torch.arange(8 * (count - 1) + 1.0), atol=1e-4, rtol=0)
    for first in (1, 63, 64, 65, 97, 8 * (count - 1)):
        if first <= 8 * (count - 1):
            rest = torch.cat(list(TiledDecoder(Timeline()).decode(latents, first)), dim=2).flatten()
            assert rest[0].round() == first and len(rest) == len(frames) - first


def test_the_library_lags_a_frame_and_we_do_not():
    vae = tiny_vae(CHANNELS, causal=False)
    latents = randn(1, CHANNELS, 21, 2, 2)
    with torch.no_grad():
        mean, std = (s.view(1, -1, 1, 1, 1) for s in (vae.latents_mean, vae.latents_std))
        whole = (vae.decode(latents * std + mean).sample + 1) / 2
        vae.enable_tiling(tile_sample_min_num_frames=96, tile_sample_stride_num_frames=64)
        vae.use_tiling, vae.use_framewise_decoding = False, True
        library = (vae.decode(latents * std + mean).sample + 1) / 2
        vae.use_framewise_decoding = False
    ours = torch.cat(list(TiledDecoder(vae).decode(latents)), dim=2)
    assert ours.shape == whole.shape == library.shape

    def off(a, b):
        return ((a - b).square().mean() / whole.var()).sqrt().item()

    assert off(ours, whole) < 0.1, "relative error against the clip without tiles, seams and all"
    behind, one_later = slice(97, 129), slice(98, 130)  # alone in the second tile
    assert off(ours[:, :, behind], whole[:, :, behind]) < 0.01
    assert off(library[:, :, behind], whole[:, :, behind]) > 0.5
    assert off(library[:, :, one_later], whole[:, :, behind]) < 0.01, "a frame late it is where it belongs"


def test_spatial_tiles_show_nearly_the_same():
    vae = tiny_vae(CHANNELS, causal=False)
    latents = randn(1, CHANNELS, 2, 18, 20, seed=6)
    whole = torch.cat(list(TiledDecoder(vae).decode(latents)), dim=2)
    tiled = torch.cat(list(TiledDecoder(vae, spatial_tiles=True).decode(latents)), dim=2)
    assert tiled.shape == whole.shape
    inner = (tiled - whole)[..., :300, :300]
    assert inner.abs().max() < 1e-4, "far from the seams nothing changes"
    assert (tiled - whole).abs().mean() < 0.2 * whole.std()


def test_the_first_frame_is_encoded_as_diffusers_does(folder):
    image = np.random.default_rng(3).random((64, 96, 3), dtype=np.float32)
    vae = tiny_vae(CHANNELS, causal=False)
    with torch.no_grad():
        video = torch.from_numpy(image).permute(2, 0, 1)[None, :, None] * 2 - 1
        mode = vae.encode(video).latent_dist.mode()
    mean, std = (s.view(1, -1, 1, 1, 1) for s in (vae.latents_mean, vae.latents_std))
    got = encode_first_frame(load_vae(folder, "encoder", causal=False, dtype=torch.float32), image)
    torch.testing.assert_close(got, (mode - mean) / std, atol=1e-5, rtol=0)


def test_half_of_it_is_loaded(folder, tmp_path):
    decoder = load_vae(folder, "decoder", causal=False, dtype=torch.float32)
    assert decoder.encoder is None and not any(p.is_meta for p in decoder.parameters())
    causal = load_vae(write_vae(tmp_path, CHANNELS, causal=True), "decoder", causal=True, dtype=torch.float32)
    frames, _ = CausalDecoder(causal).decode_next(randn(1, CHANNELS, 2, 2, 2), None)
    assert frames.shape == (1, 3, 9, 64, 64)


def test_the_released_autoencoder_has_its_inventory():
    with torch.device("meta"):
        vae = AutoencoderKLLTX2Video(spatial_compression_ratio=32, temporal_compression_ratio=8)
    tensors = vae.state_dict()
    assert len(tensors) == 184
    for part, count, size in (("encoder", 92, 694_098_881), ("decoder", 90, 528_380_720)):
        own = [tensor for name, tensor in tensors.items() if name.startswith(f"{part}.")]
        assert (len(own), sum(tensor.numel() for tensor in own)) == (count, size), part


@pytest.mark.parametrize(
    "entries, causal, said",
    [
        (
            {"decoder_causal": True},
            False,
            "the one of the streaming release; this model needs the bidirectional",
        ),
        ({}, True, "the one of the bidirectional release; this model needs the streaming"),
        ({"encoder_spatial_padding_mode": "reflect"}, False, "SANA-WM uses that of LTX-2"),
        ({"patch_size_t": 2}, False, "patch_size_t = 2 instead of 1"),
    ],
)
def test_another_autoencoder_is_refused(folder, tmp_path, entries, causal, said):
    config = json.loads((folder / "config.json").read_text()) | entries
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "diffusion_pytorch_model.safetensors").symlink_to(
        folder / "diffusion_pytorch_model.safetensors"
    )
    with pytest.raises(ValueError, match=said):
        load_vae(tmp_path, "decoder", causal)


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda w: w.pop("decoder.conv_in.conv.bias"), r"1 missing \(decoder.conv_in.conv.bias\)"),
        (lambda w: w.update(extra=torch.zeros(1)), r"1 unknown \(extra\)"),
        (
            lambda w: w.update(latents_std=torch.ones(CHANNELS), latents_mean=torch.zeros(CHANNELS)),
            "no statistics",
        ),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_a_sentence(folder, tmp_path, change, said):
    weights = load_file(folder / "diffusion_pytorch_model.safetensors")
    change(weights)
    save_file(weights, tmp_path / "diffusion_pytorch_model.safetensors")
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(ValueError, match=said):
        load_vae(tmp_path, "encoder", causal=False)


def test_tiles_reach_the_end_and_no_further():
    for count in range(1, 130):
        starts = tile_starts(count)
        assert starts[-1] + 13 >= count
        assert len(starts) == 1 or starts[-2] + 13 < count
