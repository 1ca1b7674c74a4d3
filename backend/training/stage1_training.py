# SPDX-License-Identifier: GPL-3.0-or-later
"""A recipe of stage 1 from its configuration: model, data, figures and sheets, and the weights at the end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Generator, Tensor, nn

from ..models.embedded import EmbeddedConfig, EmbeddedVelocity
from ..models.stage1 import Stage1Config, Stage1Transformer, load
from ..models.tensor_file import FileTensor
from .batch import Batch, ClipSamples, ClipSource
from .checkpoint import TrainingState, tensor_entry, write_whole
from .chunk_causal import ChunkCausal
from .flow_matching import FlowMatching
from .loop import Progress, Recipe, run
from .lora import adapt, adapter_file
from .ode_init import OdeInit
from .ranks import ALONE, Ranks
from .self_forcing import SelfForcing
from .sheet import write_sheet
from .stage1_config import ModelSettings, Stage1Run
from .stage1_data import Data, trajectories
from .trajectories import make_missing

RECIPES = {
    "flow_matching": FlowMatching,
    "chunk_causal": ChunkCausal,
    "ode_init": OdeInit,
    "self_forcing": SelfForcing,
}
WEIGHTS, ADAPTER = "averaged.safetensors", "adapter.safetensors"
_CODEC = "latents_codec"
_SHEET_CLIPS = 2


class Stage1Recipe(Protocol):
    """What a recipe of stage 1 has to offer.

    Attributes:
        trained: the model, or a ModuleDict of models with the one that is the result as `generator`.
        settings_type: of section `recipe` of its configuration.
    """

    trained: nn.Module
    settings_type: type

    def losses(self, step: int) -> dict[str, Any]:
        """See Recipe."""
        ...

    def sample(self, model: nn.Module, batch: Batch, generator: Generator) -> Tensor:
        """Clips (B,C,T,H,W) with the first frames, cameras and prompts of the batch; `model` is as `trained`."""
        ...


def train(
    name: str, config: Stage1Run, data: Data, device: str = "cpu", until_step: int | None = None
) -> Iterator[Progress | str]:
    """Run a recipe to its end, or to `until_step`, from the last checkpoint if there is one.

    At the end the averaged weights, or the adapter, are written to the run's folder.

    Raises:
        ValueError, FileNotFoundError, FloatingPointError: with a sentence.
    """
    # Only a run in several processes needs what is imported here.
    from .sharding import processes, recompute, shard

    with processes(config.parallel, device) as (ranks, mesh, device):
        yield from data.prepared(Path(config.folder), device, ranks.is_first)
        recipe, models = _recipe(name, config, data, device, ranks)
        for model in models:
            if config.parallel.recompute:
                recompute(model)
            if mesh is not None:
                shard(model, mesh, config.parallel)
        state = TrainingState(recipe.trained, config, getattr(recipe, "rate_scales", None))
        yield from run(
            state,
            looked_at(recipe, data.heldout, config, device, ranks),
            ClipSamples(data.train, device),
            config,
            until_step,
            ranks,
        )
        if state.step == config.steps:
            path = Path(config.folder) / (WEIGHTS if config.lora is None else ADAPTER)
            write_whole(path, result(recipe.trained, state, config), ranks.is_first, _of_codec(data))
            yield f"written to {path}"


def looked_at(
    recipe: Stage1Recipe, heldout: ClipSource, config: Stage1Run, device: str = "cpu", ranks: Ranks = ALONE
) -> Recipe:
    """A recipe of stage 1 as the loop runs it: with the held-out loss, the error of samples, and their sheet."""
    count = min(config.figure_clips, len(heldout))
    chosen = ClipSamples(heldout, device)

    def sampled(model: nn.Module, clips: int) -> tuple[Batch, Tensor]:
        batch = chosen.batch(range(clips), Generator())
        return batch, recipe.sample(model, batch, Generator().manual_seed(config.seed))

    def figures(model: nn.Module) -> dict[str, float]:
        batch, made = sampled(model, count)
        loss = next(iter(recipe.losses(1).values()))
        error = (made - batch.latents)[:, :, 1:].square().mean()
        own = float(loss(batch, Generator().manual_seed(config.seed)))
        return {"loss": round(ranks.mean(own), 5), "sample_error": round(float(error), 5)}

    def sheet(model: nn.Module, path: Path) -> None:
        batch, made = sampled(model, min(_SHEET_CLIPS, count))
        if ranks.is_first:
            pairs = zip(batch.latents.cpu(), made.float().cpu(), strict=True)
            write_sheet(path, [heldout.pictures(latents) for pair in pairs for latents in pair])

    return Recipe(recipe.losses, figures, sheet)


def result(trained: nn.Module, state: TrainingState, config: Stage1Run) -> dict[str, FileTensor]:
    """What a run is for: tensors of a stage-1 checkpoint with the averaged weights, or of an adapter."""
    averages = state.averages()
    if config.lora is not None:
        return adapter_file(averages, config.lora)
    entries = {name: tensor_entry(value) for name, value in trained.state_dict().items()} | averages
    if isinstance(trained, nn.ModuleDict):
        entries = {n.removeprefix("generator."): e for n, e in entries.items() if n.startswith("generator.")}
    return entries


def new_model(settings: ModelSettings, seed: int) -> Stage1Transformer:
    """In training mode, fp32, from the checkpoint, or with weights drawn from the seed."""
    torch.manual_seed(seed)
    if settings.embedded:
        model = _embedded(settings)
    elif settings.checkpoint:
        model = load(Path(settings.checkpoint), settings.architecture)
    else:
        try:
            model = Stage1Transformer(Stage1Config(**settings.architecture))
        except TypeError as error:
            raise ValueError(f"Section model: architecture does not fit ({error}).") from error
    return model.requires_grad_(True).train()


def _embedded(settings: ModelSettings) -> EmbeddedVelocity:
    """The embedded network, from a checkpoint of the same sizes if one is named."""
    try:
        model = EmbeddedVelocity(EmbeddedConfig(**settings.architecture).stage1)
        if settings.checkpoint:
            model.load_state_dict({name: t.float() for name, t in load_file(settings.checkpoint).items()})
    except (TypeError, RuntimeError) as error:
        why = " ".join(str(error).split())
        raise ValueError(f"Section model: the embedded network does not fit ({why}).") from error
    return model


def make_trajectories(config: Stage1Run, data: Data, device: str) -> Iterator[str]:
    """The step before `ode_init`: its model's checkpoint, the teacher, sampled for every clip of its data."""
    yield from data.prepared(Path(config.folder), device)
    teacher = new_model(config.model, config.seed).eval().requires_grad_(False).to(device)
    _require_fit(teacher.config, config.model.checkpoint, data)
    settings = config.recipe
    for part in ("heldout", "train"):
        yield from make_missing(
            teacher,
            getattr(data, part),
            trajectories(config, part),
            settings.step_list,
            settings.teacher_steps,
            settings.teacher_guidance,
            config.seed,
        )


def _recipe(
    name: str, config: Stage1Run, data: Data, device: str, ranks: Ranks
) -> tuple[Stage1Recipe, list[Stage1Transformer]]:
    """The recipe, and all of its models."""
    model = new_model(config.model, config.seed).to(device)
    _require_fit(model.config, config.model.checkpoint, data)
    if config.lora is not None:
        adapt(model, config.lora)
    if name != "self_forcing":
        return RECIPES[name](model, config.recipe, ranks.context), [model]
    if ranks.context is not None:
        raise ValueError(
            "self_forcing rolls out chunk by chunk, and a chunk is too short to be shared by processes; set "
            "parallel.context_ranks to 1."
        )
    if config.lora is not None:
        raise ValueError("self_forcing trains whole weights; leave out the section lora.")
    score = replace(config.model, checkpoint=config.recipe.real_score)
    critic, real = (new_model(score, config.seed).to(device) for _ in range(2))
    _require_fit(real.config, score.checkpoint, data)
    return SelfForcing(model, critic, real, data.train.no_text(), config.recipe), [model, critic, real]


def _require_fit(model: Stage1Config, checkpoint: str, data: Data) -> None:
    """The clips are what the model reads, as far as its sizes and its file tell."""
    clip = data.train.clip(0)
    found = clip.inputs(clip.latents).shape[1], clip.text.shape[-1]
    wanted = model.in_channels, model.caption_channels
    if found != wanted:
        raise ValueError(
            f"The clips have {found[0]} latent channels and prompts of {found[1]} numbers a token; the model reads "
            f"{wanted[0]} and {wanted[1]}. Name data that was made for it and, where it reads captions, the folder "
            "with the text encoder as weights; or set architecture."
        )
    codec = _codec_of(model, checkpoint)
    if data.record is not None and _of_codec(data)[_CODEC].split()[: len(codec)] != codec:
        raise ValueError(
            f"{checkpoint} was trained on latents of the codec {' '.join(codec)[:15]}, and the clips have those of "
            f"{data.record.codec} ({data.record.codec_sha256[:8]}); make the dataset with that codec (--codec), or "
            "start from other weights."
        )


def _of_codec(data: Data) -> dict[str, str]:
    """What a result says of the latents that it was trained on."""
    record = data.record
    return {} if record is None else {_CODEC: f"{record.codec} {record.codec_sha256}"}


def _codec_of(model: Stage1Config, checkpoint: str) -> list[str]:
    """Name and perhaps SHA-256 of the codec that a checkpoint was trained on; [] if nothing says it."""
    if not checkpoint:
        return []
    said = ""
    if Path(checkpoint).is_file():
        with safe_open(checkpoint, "pt") as file:
            said = (file.metadata() or {}).get(_CODEC, "")
    released = "ltx2" if model.hidden_size == Stage1Config().hidden_size else ""
    return (said or released).split()
