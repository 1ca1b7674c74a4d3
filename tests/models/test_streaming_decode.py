# SPDX-License-Identifier: GPL-3.0-or-later
"""Decoding a clip while it grows: against diffusers' decoder in one pass, and cut into calls in every way."""

import pytest
import torch
from diffusers import AutoencoderKLLTX2Video

from backend.models.vae import CausalDecoder, LinearCodec
from tests.vae_reference import TINY

LATENT_CHANNELS = 6
CHUNKINGS = ([1] * 10, [4, 3, 3], [2, 5, 1, 2])

RELEASED = {
    **TINY,
    "latent_channels": LATENT_CHANNELS,
    "decoder_layers_per_block": (1, 2, 1, 2),
    "scaling_factor": 0.7,
}
CONFIGURATIONS = {
    "released": {},
    "zeros around the picture": {"decoder_spatial_padding_mode": "zeros"},
    "one axis at a time": {
        "decoder_block_out_channels": (8, 16, 32, 64),
        "decoder_layers_per_block": (1, 1, 1, 1, 1),
        "decoder_spatio_temporal_scaling": (True,) * 4,
        "decoder_inject_noise": (False,) * 5,
        "upsample_type": ("spatial", "temporal", "temporal", "spatiotemporal"),
        "upsample_residual": (True, False, True, True),
        "upsample_factor": (2, 2, 2, 2),
    },
    "channels change before upsampling": {"upsample_factor": (1, 1, 1), "upsample_residual": False},
}


def tiny_vae(**changes) -> AutoencoderKLLTX2Video:
    torch.manual_seed(2)
    vae = AutoencoderKLLTX2Video(**{**RELEASED, **changes})
    vae.latents_mean.normal_()
    vae.latents_std.uniform_(0.5, 2)
    return vae


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(5))


def linear_codec() -> LinearCodec:
    codec = LinearCodec()
    for seed, buffer in enumerate(codec.buffers()):
        buffer.uniform_(0.1, 1, generator=torch.Generator().manual_seed(seed))
    return codec


def decode_in_calls(decode_next, latents: torch.Tensor, chunking: list[int]) -> torch.Tensor:
    """All frames; checks the number of frames of every call."""
    frames, carry = [], None
    for chunk in latents.split(chunking, dim=2):
        begins = carry is None
        decoded, carry = decode_next(chunk, carry)
        assert decoded.shape[2] == 8 * chunk.shape[2] - 7 * begins
        frames.append(decoded)
    return torch.cat(frames, dim=2)


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_latent_by_latent_is_what_diffusers_decodes_in_one_pass(configuration):
    vae = tiny_vae(**CONFIGURATIONS[configuration])
    latents = randn(2, LATENT_CHANNELS, 5, 3, 5)
    mean, std = (statistic.view(1, -1, 1, 1, 1) for statistic in (vae.latents_mean, vae.latents_std))
    with torch.no_grad():
        expected = vae.decode(latents * std / vae.config.scaling_factor + mean, causal=True).sample
    frames = decode_in_calls(CausalDecoder(vae).decode_next, latents, [1] * 5)
    assert frames.shape[2] == 1 + 8 * 4 and expected.std() > 0.02
    torch.testing.assert_close(2 * frames - 1, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("chunking", CHUNKINGS, ids=str)
@pytest.mark.parametrize("decoder", ["ltx2", "codec", "codec difference"])
def test_any_cut_into_calls_gives_the_frames_of_the_whole(decoder, chunking):
    if decoder == "ltx2":
        latents, ltx2 = randn(1, LATENT_CHANNELS, 10, 2, 3), CausalDecoder(tiny_vae())
        whole, decode_next = ltx2.decode_next(latents, None)[0], ltx2.decode_next
    else:
        latents, codec = randn(2, 128, 10, 3, 5), linear_codec()
        if decoder == "codec":
            whole, decode_next = codec.decode(latents), codec.decode_next
        else:
            whole, decode_next = codec.decode_difference(latents), codec.decode_difference_next
    assert whole.shape[2] == 1 + 8 * 9
    torch.testing.assert_close(decode_in_calls(decode_next, latents, chunking), whole, atol=0, rtol=0)


def test_a_difference_is_decoded_without_the_mean_patch():
    codec, latents = linear_codec(), 1e-3 * randn(1, 128, 3, 2, 2)
    added = codec.decode_next(latents, None)[0] - codec.decode_difference_next(latents, None)[0]
    patch = codec.patch_mean.view(1, 3, 1, 8, 8).repeat(1, 1, 17, 2, 2)
    torch.testing.assert_close(added, patch, atol=1e-5, rtol=0)


def test_later_latents_change_no_earlier_frame():
    decoder, latents = CausalDecoder(tiny_vae()), randn(1, LATENT_CHANNELS, 6, 2, 3)
    changed = latents.clone()
    changed[:, :, 3:] += 1
    before, after = (decoder.decode_next(x, None)[0] for x in (latents, changed))
    assert torch.equal(before[:, :, :17], after[:, :, :17])
    assert (before[:, :, 17:] - after[:, :, 17:]).abs().amax(dim=(0, 1, 3, 4)).min() > 1e-3


def test_the_carry_stays_as_large_as_it_is_and_is_left_as_it_was():
    decoder, latents = CausalDecoder(tiny_vae()), randn(1, LATENT_CHANNELS, 51, 2, 2)
    carry = decoder.decode_next(latents[:, :, :1], None)[1]
    shapes = [tail.shape for tail in carry]
    assert {shape[2] for shape in shapes} == {2}
    for latent in latents[:, :, 1:].split(1, dim=2):
        handed_in = [tail.clone() for tail in carry]
        following = decoder.decode_next(latent, carry)[1]
        assert all(map(torch.equal, handed_in, carry)), "the carry was changed"
        carry = following
        assert [tail.shape for tail in carry] == shapes
        # Neither a view into more memory nor a graph of all that went before.
        assert all(tail.untyped_storage().nbytes() == tail.nbytes for tail in carry)
        assert not any(tail.requires_grad for tail in carry)


def test_the_released_decoder_carries_568_mib():
    with torch.device("meta"):
        vae = AutoencoderKLLTX2Video().to(torch.bfloat16)
        frames, carry = CausalDecoder(vae).decode_next(torch.empty(1, 128, 2, 22, 40), None)
    assert frames.shape == (1, 3, 9, 704, 1280)
    assert len(carry) == 45
    assert sum(tail.nbytes for tail in carry) == 595_189_760


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"timestep_conditioning": True}, "timestep conditioning"),
        ({"decoder_inject_noise": (False, True, False, False)}, "noise injection"),
        ({"decoder_causal": False}, "looks ahead in time"),
    ],
)
def test_a_decoder_of_another_kind_is_refused(changes, named):
    with pytest.raises(ValueError, match=named):
        CausalDecoder(tiny_vae(**changes))
