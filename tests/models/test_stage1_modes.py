# SPDX-License-Identifier: GPL-3.0-or-later
"""One stage-1 module looking at time in three ways: bidirectional, chunk-causal, and chunk by chunk with a carry."""

import pytest
import torch

from backend.models.stage1 import CarryPlan, Stage1Config, Stage1Transformer
from backend.models.stage1.attend import BackwardInFp32, attend
from backend.models.stage1.carry import KeyWindow
from backend.models.stage1.conditioning import chunk_slices
from backend.models.stage1.feed_forward import TemporalConv
from backend.models.stage1.rotary import rotary_tables
from tests.stage1_reference import camera_poses, randn, randomize

CELLS = (3, 4)
SIZES = {
    "in_channels": 8, "out_channels": 8, "hidden_size": 48, "head_dim": 24, "num_cross_heads": 4,
    "caption_channels": 20, "softmax_in_bf16": False,
}  # fmt: skip
# name: (config changes, chunk starts, latent frames)
CASES = {
    "Gated DeltaNet block": ({"num_layers": 1}, (0, 4, 7), 10),
    "softmax block": ({"num_layers": 1, "softmax_every_n": 1}, (0, 4, 7), 10),
    "all blocks": ({"num_layers": 4}, (0, 4, 7, 10), 13),
    "chunk 0 of five frames": ({"num_layers": 4}, (0, 5), 8),
    "chunks of one frame": ({"num_layers": 4}, (0, 1, 2, 3), 4),
    "isolated camera keys, padded scales": (
        {"num_layers": 4, "carry_camera_keys": False, "padded_scale_main": True}, (0, 4, 7), 10,
    ),
    "two taps": ({"num_layers": 2, "conv_kernel_size": 2}, (0, 4, 7), 10),
}  # fmt: skip


def make(changes: dict, starts: tuple[int, ...], frames: int, batch: int = 1):
    """A model with random weights, and latents, timesteps, text, mask, camera, Plücker rays for it."""
    model = Stage1Transformer(Stage1Config(**{**SIZES, **changes}))
    randomize(model, 11)
    grid = (frames, *CELLS)
    timesteps = torch.linspace(900, 100, frames).expand(batch, 1, frames).clone()
    timesteps[..., 0] = 0
    mask = torch.ones(batch, 7)
    mask[0, 4:] = 0
    camera, plucker = camera_poses(grid), randn((1, 48, *grid), 3)
    given = randn((batch, 8, *grid), 1), timesteps, randn((batch, 1, 7, 20), 2), mask, camera, plucker
    return model.eval().requires_grad_(False), given


def dense(model, given, starts):
    latents, timesteps, text, mask, camera, plucker = given
    conditioning = model.condition(text, mask, camera, plucker, tuple(latents.shape[2:]), starts)
    return model.denoise(latents, timesteps, conditioning)


def plan_for(starts, frames, **window):
    chunks = chunk_slices(starts, frames)
    first, other = chunks[0].stop, chunks[-1].stop - chunks[-1].start
    return CarryPlan(first, other, **window) if window else CarryPlan.unlimited(first, other, len(chunks))


def cached(model, given, starts, plan):
    """Every chunk denoised twice, the first time with other latents, then saved; the outputs and the carry."""
    latents, timesteps, text, mask, camera, plucker = given
    carry = model.empty_carry(plan, len(latents), CELLS[0] * CELLS[1])
    blocks = model.condition_blocks(text, mask)
    outputs = []
    for chunk in chunk_slices(starts, latents.shape[2]):
        grid = (chunk.stop - chunk.start, *CELLS)
        at = model.condition_frames(
            blocks, camera[:, chunk], plucker[:, :, chunk], grid, first_frame=chunk.start
        )
        part = latents[:, :, chunk], timesteps[..., chunk], at
        model.denoise(3 * part[0] + 1, *part[1:], carry)
        outputs.append(model.denoise(*part, carry))
        # The oracle of chunk k sees the chunks before it in the state in which they were given.
        model.denoise(*part, carry, save=True)
    return outputs, carry


def assert_close(name: str, actual: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-5) -> None:
    error = (actual - expected).abs().max().item() / max(1, expected.abs().max().item())
    assert error <= tolerance, f"{name} differs by {error:.2e}"


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_chunk_by_chunk_with_an_unlimited_window_equals_the_dense_forward(case):
    changes, starts, frames = CASES[case]
    model, given = make(changes, starts, frames, batch=2)
    expected = dense(model, given, starts)
    outputs, _ = cached(model, given, starts, plan_for(starts, frames))
    for chunk, output in zip(chunk_slices(starts, frames), outputs, strict=True):
        assert_close(f"{case}: velocity of frames {chunk.start}..", output, expected[:, :, chunk])


@torch.no_grad()
def test_a_single_chunk_with_an_empty_carry_is_bidirectional():
    model, given = make({"num_layers": 4}, (0,), 5)
    outputs, _ = cached(model, given, (0,), plan_for((0,), 5))
    assert_close("velocity", outputs[0], model(*given))


@pytest.mark.parametrize("case", ["all blocks", "softmax block", "Gated DeltaNet block"])
@torch.no_grad()
def test_later_chunks_change_nothing_before_them_and_earlier_ones_do(case):
    changes, starts, frames = CASES[case]
    model, given = make(changes, starts, frames)
    before = dense(model, given, starts)
    changed = given[0].clone()
    changed[:, :, 7:] += 1
    after = dense(model, (changed, *given[1:]), starts)
    assert torch.equal(after[:, :, :7], before[:, :, :7])
    changed = given[0].clone()
    changed[:, :, 0] += 1
    after = dense(model, (changed, *given[1:]), starts)
    assert (after[:, :, -1] - before[:, :, -1]).abs().max() > 1e-4


@torch.no_grad()
def test_first_chunks_of_a_conditioning_are_the_clip_cut_there():
    changes, starts, frames = CASES["all blocks"]
    model, (latents, timesteps, text, mask, camera, plucker) = make(changes, starts, frames)
    whole = model.condition(text, mask, camera, plucker, (frames, *CELLS), starts)
    expected = model.denoise(latents, timesteps, whole)
    part = whole.first_chunks(2)
    assert part.grid == (7, *CELLS)
    assert_close("velocity", model.denoise(latents[:, :, :7], timesteps[..., :7], part), expected[:, :, :7])


@pytest.mark.parametrize("sink", [True, False])
@torch.no_grad()
def test_denoising_leaves_the_carry_alone(sink):
    changes, starts, frames = CASES["all blocks"]
    model, given = make(changes, starts, frames)
    _, carry = cached(model, given, starts, plan_for(starts, frames, window=2, sink=sink))
    latents, timesteps, text, mask, camera, plucker = given
    before = {name: tensor.clone() for name, tensor in carry.tensors().items()}
    at = model.condition(text, mask, camera[:, :3], plucker[:, :, :3], (3, *CELLS))
    for seed in range(3):
        model.denoise(randn((1, 8, 3, *CELLS), seed), timesteps[..., :3], at, carry)
    for name, tensor in carry.tensors().items():
        assert torch.equal(tensor, before[name]), name
        assert not tensor.isnan().any(), name


@torch.no_grad()
def test_fifty_chunks_take_the_memory_of_two():
    model, given = make({"num_layers": 4}, (0, 4), 7)
    latents, timesteps, text, mask, camera, plucker = given
    carry = model.empty_carry(CarryPlan(4, 3), 1, CELLS[0] * CELLS[1])
    blocks = model.condition_blocks(text, mask)

    def save(frames, first_frame):
        rows = camera[:, :frames], plucker[:, :, :frames]
        at = model.condition_frames(blocks, *rows, (frames, *CELLS), first_frame=first_frame)
        model.denoise(latents[:, :, :frames], torch.zeros(1, 1, frames), at, carry, save=True)

    def buffers():  # windows are read as copies
        named = carry.tensors().items()
        return {name: tensor.data_ptr() for name, tensor in named if not name.endswith(("keys", "values"))}

    save(4, 0)
    save(3, 4)
    save(3, 7)
    at_first = buffers(), {name: tensor.shape for name, tensor in carry.tensors().items()}
    for chunk in range(47):
        save(3, 10 + 3 * chunk)
    assert (buffers(), {name: tensor.shape for name, tensor in carry.tensors().items()}) == at_first
    assert all(tensor.isfinite().all() for tensor in carry.tensors().values())


def visible(chunk: int, window: int, sink: bool) -> set[int]:
    """Which chunks the released streaming code keeps visible to `chunk`."""
    if sink and chunk - window + 1 > 0:
        return {0, *range(chunk - window + 1, chunk)}
    return set(range(max(chunk - window, 0), chunk))


@pytest.mark.parametrize("sink", [True, False])
@pytest.mark.parametrize("window", [1, 2, 3])
@torch.no_grad()
def test_the_window_holds_the_sink_and_the_latest_chunks(window, sink):
    plan = CarryPlan(4, 3, window, sink)
    keys = KeyWindow(plan, (1, 2, 5, 3), torch.float32, torch.device("cpu"))
    for chunk in range(9):
        frames = 3 if chunk else 4
        own = torch.full((1, 2, 5 * frames, 3), float(chunk))
        seen, values = keys.joined(own, own + 100)
        found = {
            int(number): int(count) for number, count in zip(*seen.unique(return_counts=True), strict=True)
        }
        expected = {number: 30 * (3 if number else 4) for number in {*visible(chunk, window, sink), chunk}}
        assert found == expected, f"chunk {chunk}"
        assert torch.equal(values, seen + 100)
        with torch.enable_grad():  # as in training, where nothing is written in place
            assert torch.equal(keys.joined(own, own)[0].sort(dim=2).values, seen.sort(dim=2).values)
        keys.keep(own, own + 100)


def test_a_plan_or_a_call_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="window"):
        CarryPlan(4, 3, window=0)
    with pytest.raises(ValueError, match="rise below 4"):
        chunk_slices((0, 4), 4)
    model, (latents, timesteps, text, mask, camera, plucker) = make({"num_layers": 1}, (0,), 5)
    carry = model.empty_carry(CarryPlan(4, 3), 1, CELLS[0] * CELLS[1])
    at = model.condition(text, mask, camera, plucker, (5, *CELLS))
    with pytest.raises(ValueError, match="one chunk of 4 frames, not 5"):
        model.denoise(latents, timesteps, at, carry)


def test_positions_are_absolute():
    whole, camera = rotary_tables((13, *CELLS), 24, torch.device("cpu"))
    part, camera_part = rotary_tables((3, *CELLS), 24, torch.device("cpu"), first_frame=7)
    assert torch.equal(part, whole[7:10])
    assert torch.equal(camera_part, camera[7:10])


CHUNKS = chunk_slices((0, 4, 7), 10)


@torch.no_grad()
def test_temporal_convolution_by_definition():
    conv = TemporalConv(6)
    x = randn((2, 10, 5, 6), 3)
    before, center, after = conv.weight[..., 0].unbind(2)
    expected = x + x @ center.T
    expected[:, 1:] += x[:, :-1] @ before.T
    for chunk in CHUNKS:
        expected[:, chunk.start : chunk.stop - 1] += x[:, chunk.start + 1 : chunk.stop] @ after.T
    assert_close("temporal convolution", conv(x, CHUNKS, None), expected)
    for chunk in CHUNKS[1:]:
        tail = x[:, chunk.start - 1 : chunk.start]
        part = conv(x[:, chunk], [slice(0, chunk.stop - chunk.start)], tail)
        assert_close(f"frames {chunk.start}..", part, expected[:, chunk])


@torch.no_grad()
def test_softmax_attention_by_mask():
    model, (latents, _, text, mask, camera, plucker) = make({"num_layers": 1, "softmax_every_n": 1}, (0,), 10)
    attention, cells = model.blocks[0].attn, CELLS[0] * CELLS[1]
    q, k, v = (randn((2, 10, cells, 2, 24), seed) for seed in (1, 2, 3))
    heads_first = (x.permute(0, 3, 1, 2, 4) for x in (q, k, v))
    out = attention._attend(*heads_first, 0.2, CHUNKS, None, False)
    ends = torch.repeat_interleave(torch.tensor([4, 7, 10]), torch.tensor([4, 3, 3])).repeat_interleave(cells)
    frame = torch.arange(10).repeat_interleave(cells)
    scores = 0.2 * torch.einsum("bqhd,bkhd->bhqk", q.flatten(1, 2), k.flatten(1, 2))
    scores = scores.masked_fill(frame[None, :] >= ends[:, None], -torch.inf)
    expected = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v.flatten(1, 2)).view_as(q)
    assert_close("attention", out, expected)


def test_gradients_through_a_chunk_survive_the_next_save():
    changes, starts, frames = CASES["all blocks"]
    model, given = make(changes, starts, frames)
    model.requires_grad_(True)
    latents, timesteps, text, mask, camera, plucker = given
    carry = model.empty_carry(CarryPlan(4, 3), 1, CELLS[0] * CELLS[1])
    total = 0
    for chunk in chunk_slices(starts, frames):
        grid = (chunk.stop - chunk.start, *CELLS)
        blocks = model.condition_blocks(text, mask)
        at = model.condition_frames(
            blocks, camera[:, chunk], plucker[:, :, chunk], grid, first_frame=chunk.start
        )
        part = latents[:, :, chunk], timesteps[..., chunk], at
        total = total + model.denoise(*part, carry).square().mean()
        with torch.no_grad():
            model.denoise(*part, carry, save=True)
    total.backward()
    used = [p for name, p in model.named_parameters() if "raymap" not in name and p.grad is not None]
    assert all(p.grad.isfinite().all() for p in used)
    assert model.blocks[0].attn.conv_k.weight.grad.abs().max() > 0


@pytest.mark.parametrize(
    "attention", [attend, BackwardInFp32.apply], ids=["as this processor", "as any processor"]
)
def test_gradients_of_attention_in_bf16_are_those_of_fp32_rounded(attention):
    q, k, v = (randn((1, 2, 7, 8), seed).bfloat16().requires_grad_() for seed in (1, 2, 3))
    exact = [x.detach().float().requires_grad_() for x in (q, k, v)]
    out = torch.nn.functional.scaled_dot_product_attention(*exact, scale=0.3)
    weights = randn((1, 2, 7, 8), 4)
    (attention(q, k, v, 0.3).float() * weights).sum().backward()
    (out * weights).sum().backward()
    for name, x, reference in zip("qkv", (q, k, v), exact, strict=True):
        assert_close(f"gradient of {name}", x.grad.float(), reference.grad, 1e-2)


@pytest.mark.parametrize("carried", [False, True])
@pytest.mark.parametrize("starts", [(0,), (0, 4, 5)])
def test_temporal_convolution_and_its_gradients_are_those_of_its_definition(starts, carried):
    chunks, x = chunk_slices(starts, 7), randn((2, 7, 5, 6), 1).requires_grad_()
    conv, tail = TemporalConv(6), randn((2, 1, 5, 6), 2) if carried else None
    padding = torch.zeros(2, 1, 5, 6)
    seen = torch.cat([padding if tail is None else tail, x, padding], dim=1)
    rows = []
    for chunk in chunks:
        for t in range(chunk.start, chunk.stop):
            around = seen[:, t], seen[:, t + 1], seen[:, t + 2] * (t + 1 < chunk.stop)
            rows.append(
                x[:, t] + sum(frame @ conv.weight[:, :, tap, 0].T for tap, frame in enumerate(around))
            )
    expected, weights = torch.stack(rows, dim=1), randn((2, 7, 5, 6), 3)
    found = conv(x, chunks, tail)
    assert_close("convolution", found, expected, 1e-6)
    gradients = [torch.autograd.grad((out * weights).sum(), (x, conv.weight)) for out in (found, expected)]
    for name, fast, plain in zip(("x", "weight"), *gradients, strict=True):
        assert_close(f"gradient of {name}", fast, plain, 1e-5)
