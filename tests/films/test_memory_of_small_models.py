# SPDX-License-Identifier: GPL-3.0-or-later
"""Small models run on a CPU, every tensor counted: the peak of a stage is what the plan says, in every layout."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLLTX2Video
from safetensors.torch import save_file
from torch import nn

from backend.models.refiner import RefinerConfig, RefinerRun, RefinerTransformer, load_refiner
from backend.models.stage1 import CarryPlan, Stage1Config, Stage1Transformer, load
from backend.models.vae import CausalDecoder
from backend.models.vae.ltx2 import load_vae
from backend.models.vae.tiled_decoder import TiledDecoder
from backend.protocol import list_presets
from backend.protocol.limits import TEMPORAL_STRIDE
from backend.protocol.memory_plan import Budget, ModelSizes, StagePlan, layouts
from tests.live_bytes import LiveBytes
from tests.vae_reference import TINY as VAE

PRESETS = list_presets(Path(__file__).parents[2] / "presets" / "quality")
VARIANTS = [PRESETS["sana_wm_final"], PRESETS["sana_wm_draft"]]
GRID, SMALL_GRID, LATENTS = (11, 20), (4, 5), 13
WIDTH = 32  # of the decoder at full size
CHANNELS = 16
STAGE1 = Stage1Config(
    in_channels=CHANNELS,
    out_channels=CHANNELS,
    num_layers=8,
    hidden_size=448,
    head_dim=112,
    num_cross_heads=4,
    caption_channels=256,
)
REFINER = RefinerConfig(in_channels=CHANNELS, num_layers=6, num_heads=4, head_dim=64, caption_channels=256)
REFINER_ENTRIES = {
    "in_channels": CHANNELS,
    "num_layers": 6, "num_attention_heads": 4, "attention_head_dim": 64, "cross_attention_dim": 256,
    "caption_channels": 256, "rope_type": "split",
}  # fmt: skip
TEXT_TOKENS = 128
# Nothing but what is being looked at takes memory.
NOTHING = ModelSizes(
    stage1=0, stage1_linears=0, stage1_block=0, refiner=0, refiner_linears=0, refiner_block=0, encoder=0,
    decoder=0, text_layer=0, text_tokens=TEXT_TOKENS,
)  # fmt: skip


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def sizes_of_stage1() -> ModelSizes:
    with torch.device("meta"):
        model = Stage1Transformer(STAGE1)
    return replace(
        NOTHING,
        stage1=parameters(model),
        stage1_block=max(map(parameters, model.blocks)),
        stage1_width=STAGE1.hidden_size,
        stage1_blocks=STAGE1.num_layers,
        stage1_softmax_blocks=1,
    )


def sizes_of_refiner() -> ModelSizes:
    with torch.device("meta"):
        model = RefinerTransformer(REFINER)
    return replace(
        NOTHING,
        refiner=parameters(model),
        refiner_block=parameters(model.transformer_blocks[0]),
        refiner_width=REFINER.hidden_size,
        refiner_blocks=REFINER.num_layers,
    )


def planned(preset, sizes: ModelSizes, streamed: bool, name: str) -> StagePlan:
    """The stage where all of its weights are on the device, or only the block that works."""
    frames = TEMPORAL_STRIDE * (LATENTS - 1) + 1
    layout = next(
        layout
        for layout in layouts(preset, frames, Budget(99, 99, is_cpu=True), sizes)
        if layout.stage1_streamed == streamed and not layout.spatial_tiles
    )
    return next(stage for stage in layout.stages if stage.name == name)


def small(preset, grid=GRID, **changes):
    height, width = grid
    return replace(preset, precision="fp32", image_size=(32 * width, 32 * height), **changes)


def assert_as_planned(row: StagePlan, counted_bytes: int) -> None:
    # In fp32 fewer copies live than in bf16, which the plan counts with; a CPU makes some of them in portions.
    assert 0.55 * row.peak_gb <= counted_bytes / 1e9 <= 1.1 * row.peak_gb, (
        f"{row.name}: {counted_bytes / 1e6:.1f} MB counted, {row.peak_gb * 1e3:.1f} MB planned"
    )


def write_bf16(model: nn.Module, path: Path) -> Path:
    """Random weights as they are released: in half of the bytes that they have on a CPU."""
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: (0.02 * torch.randn(tensor.shape, generator=generator)).bfloat16()
        for name, tensor in model.state_dict().items()
    }
    path.parent.mkdir(exist_ok=True)
    save_file(tensors, path)
    return path


@pytest.fixture(autouse=True)
def without_denormals():
    torch.set_flush_denormal(True)  # random weights make many, and they are slow
    yield
    torch.set_flush_denormal(False)


@pytest.fixture(scope="module")
def stage1_file(tmp_path_factory):
    with torch.device("meta"):
        model = Stage1Transformer(STAGE1)
    return write_bf16(model, tmp_path_factory.mktemp("stage1") / "model.safetensors")


@pytest.fixture(scope="module")
def refiner_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("refiner")
    with torch.device("meta"):
        model = RefinerTransformer(REFINER)
    write_bf16(model, folder / "diffusion_pytorch_model.safetensors")
    (folder / "config.json").write_text(json.dumps(REFINER_ENTRIES))
    return folder


@pytest.mark.parametrize("streamed", [False, True], ids=["resident", "streamed"])
@pytest.mark.parametrize("preset", VARIANTS, ids=lambda preset: preset.variant)
def test_stage_1(preset, streamed, stage1_file):
    row = planned(small(preset, refiner=False), sizes_of_stage1(), streamed, "Stage 1")
    chunks = (
        [slice(0, 4), slice(4, 7), slice(7, 10)] if preset.variant == "streaming" else [slice(0, LATENTS)]
    )
    with torch.inference_mode(), LiveBytes("cpu") as live:
        network = load(stage1_file, STAGE1, torch.float32, streamed=streamed)
        is_carried = preset.variant == "streaming"
        prompts = [
            network.condition_blocks(torch.randn(1, 1, 300, 256), torch.ones(1, 300))
            for _ in range(1 if is_carried else 2)
        ]
        carry = network.empty_carry(CarryPlan(4, 3), 1, GRID[0] * GRID[1]) if is_carried else None
        for chunk in chunks:
            frames = chunk.stop - chunk.start
            camera = torch.cat([torch.eye(4).flatten(), torch.tensor([18.0, 18.0, 10.0, 5.5])]).expand(
                1, frames, 20
            )
            look = network.condition_frames(
                prompts[0], camera, torch.randn(1, 48, frames, *GRID), (frames, *GRID), (0,), chunk.start
            )
            latents, timesteps = torch.randn(1, CHANNELS, frames, *GRID), torch.full((1, 1, frames), 623.0)
            network.denoise(latents, timesteps, look, carry)
            if is_carried:
                network.denoise(latents, timesteps, look, carry, save=True)
    assert_as_planned(row, live.peak)


@pytest.mark.parametrize("streamed", [False, True], ids=["resident", "streamed"])
@pytest.mark.parametrize("preset", VARIANTS, ids=lambda preset: preset.variant)
def test_the_refiner(preset, streamed, refiner_folder):
    preset = small(preset)
    row = planned(preset, sizes_of_refiner(), streamed, "Refiner")
    length = 3 if preset.variant == "streaming" else LATENTS - 1
    with torch.inference_mode(), LiveBytes("cpu") as live:
        model = load_refiner(refiner_folder, torch.float32, streamed=streamed)
        run = RefinerRun(model, torch.randn(1, TEXT_TOKENS, 256), GRID, preset.refiner_window)
        run.begin(torch.randn(1, CHANNELS, 1, *GRID))
        for start in range(1, LATENTS, length):
            run.place(slice(start, start + length))
            run.velocity(torch.randn(1, CHANNELS, length, *GRID), 0.9)
            if preset.variant == "streaming":
                run.remember(torch.randn(1, CHANNELS, length, *GRID))
    assert_as_planned(row, live.peak)


@pytest.mark.parametrize("causal", [False, True], ids=["tiled", "causal"])
def test_the_decoder(causal, tmp_path):
    preset = small(VARIANTS[causal], SMALL_GRID, refiner=False)
    vae = AutoencoderKLLTX2Video(
        **{
            **VAE,
            "decoder_block_out_channels": (2 * WIDTH, 4 * WIDTH, 8 * WIDTH),
            "decoder_layers_per_block": (5, 5, 5, 5),
        },
        latent_channels=CHANNELS,
        decoder_causal=causal,
    )
    vae.latents_mean.normal_()
    vae.latents_std.uniform_(0.5, 2)
    vae.save_pretrained(tmp_path)
    with torch.inference_mode(), LiveBytes("cpu") as live:
        vae = load_vae(tmp_path, "decoder", causal, torch.float32, "cpu")
        weights = live.now
        latents = torch.randn(1, CHANNELS, LATENTS, *SMALL_GRID)
        if causal:
            decoder, carry = CausalDecoder(vae), None
            for start in range(0, 6, 3):
                _, carry = decoder.decode_next(latents[:, :, start : start + 3], carry)
        else:
            for _ in TiledDecoder(vae).decode(latents):
                pass
    row = planned(preset, replace(NOTHING, decoder=weights // 4, decoder_width=WIDTH), False, "Decoder")
    assert_as_planned(row, live.peak)
