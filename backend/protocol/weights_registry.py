# SPDX-License-Identifier: GPL-3.0-or-later
"""The released model's files: where they are published, what they weigh, which of them a preset needs.

| component | published | of that read | as |
|---|---:|---:|---|
| stage 1, each of three variants | 10.65 GB | 10.65 GB | fp32 |
| video VAE, each of two | 2.44 GB | 2.44 GB | bf16 |
| refiner, each of two | 37.75 GB | 26.08 GB | bf16; the rest makes sound |
| connectors, each of two | 2.86 GB | 2.15 GB | bf16; the rest makes sound |
| Gemma-3-12B | 48.75 GB | 47.06 GB | fp32, 23.5 GB in bf16; the rest reads pictures |
| Gemma-2-2B | 5.23 GB | 5.23 GB | bf16 |

The bidirectional repository holds 96 GB. With Gemma-3 in bf16 a preset with refiner lives on 64 GB of it, and on 41 GB
where cached prompts stand in for Gemma-3. Files are fetched whole all the same, because only whole files can be held
against the hub's SHA-256.

A component without a revision is taken at the repository's newest commit when it is first downloaded. That commit and
the SHA-256 of every file are written to `installed.json`, and every later download and check holds to them.
"""

from __future__ import annotations

from dataclasses import dataclass

from .preset import Preset

_OWNER = "Efficient-Large-Model"
_BIDIRECTIONAL = "SANA-WM_bidirectional"
_CHUNK_CAUSAL = "SANA-WM_chunk_causal"
_STREAMING = "SANA-WM_streaming"
_DIFFUSERS = "SANA-WM_bidirectional-diffusers"
_DIFFUSERS_REFINER = "SANA-WM_bidirectional-diffusers-refiner"
_REVISIONS = {
    _BIDIRECTIONAL: "90e0ff3b8f1f9b54a92b4b707edeaa27073aec84",
    _STREAMING: "c7694938c854b1fcc29468e9514f1ea2d0c4ba8e",
    "gemma-2-2b-it": "569d9809d0c8b6722d4d31b5a77a2ec7a400650a",
}
# How the diffusers library names the weights of a component.
_LIBRARY_NAME = "diffusion_pytorch_model.safetensors"
_STAGE1_CLASSES = ("SanaWMTransformer3DModel",)
_REFINER_CLASSES = ("LTX2VideoTransformer3DModel", "SanaWMLTX2RefinerTransformer3DModel")
_GEMMA_3_CLASSES = ("Gemma3ForConditionalGeneration", "Gemma3ForCausalLM", "Gemma3Model", "Gemma3TextModel")


@dataclass(frozen=True)
class WeightFile:
    """One published file; `sha256` is None where only the hub knows it."""

    path: str
    sha256: str | None = None

    @property
    def name(self) -> str:
        """In the component's own folder."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class Component:
    """A part of the model that is published, licensed, downloaded and loaded as one.

    Attributes:
        id: also the name of its folder below the weights folder.
        title: for people.
        licence: key of LICENCES.
        repository: on the hub, "owner/name".
        revision: full commit hash; None if it is fixed by the first download.
        files: what is downloaded.
        size_gb: of these files, in 1e9 bytes; None where it is not known before the download.
        weights: names that its weights may have, the first one in its own folder; NAME.index.json stands for shards.
        classes: what its config.json may call itself; where stage 1 has no config.json, none is asked for.
        tensor: the end of a tensor name that all its checkpoints have.
        places: folders below a folder of the user's where the releases and the diffusers library keep it.
    """

    id: str
    title: str
    licence: str
    repository: str
    revision: str | None
    files: tuple[WeightFile, ...]
    size_gb: float | None
    weights: tuple[str, ...]
    classes: tuple[str, ...]
    tensor: str
    places: tuple[str, ...]

    @property
    def is_one_file(self) -> bool:
        """Stage 1 is one file under several names; the others are a folder with a config.json."""
        return self.classes == _STAGE1_CLASSES


def _within(repository: str, *folders: str) -> tuple[str, ...]:
    """The folders in a copy of the repository, or where the user's folder is that copy."""
    return tuple(f"{top}{folder}" for folder in folders for top in (f"{repository}/", ""))


def _published(folder: str, *names: str) -> tuple[WeightFile, ...]:
    return tuple(WeightFile(f"{folder}/{name}" if folder else name) for name in names)


def _stage1(
    variant: str,
    title: str,
    repository: str,
    checkpoint: str,
    size_gb: float | None,
    weights: str,
    *places: str,
) -> Component:
    return Component(
        id=f"stage1_{variant}",
        title=f"Stage 1, {title}",
        licence="sana_wm",
        repository=f"{_OWNER}/{repository}",
        revision=_REVISIONS.get(repository),
        files=(WeightFile(checkpoint),),
        size_gb=size_gb,
        weights=(weights, _LIBRARY_NAME),
        classes=_STAGE1_CLASSES,
        tensor="blocks.0.attn.qkv.weight",
        places=places,
    )


def _ltx2(
    id: str,
    title: str,
    repository: str,
    folder: str,
    size_gb: float,
    classes: tuple[str, ...],
    tensor: str,
    *places: str,
) -> Component:
    return Component(
        id=id,
        title=title,
        licence="ltx2",
        repository=f"{_OWNER}/{repository}",
        revision=_REVISIONS.get(repository),
        files=_published(folder, "config.json", _LIBRARY_NAME),
        size_gb=size_gb,
        weights=(_LIBRARY_NAME, "model.safetensors"),
        classes=classes,
        tensor=tensor,
        places=(*_within(repository, folder), *places),
    )


# The causal decoder was published with a class of its own around the same tensors.
_VAE_CLASSES = ("AutoencoderKLLTX2Video", "AutoencoderKLCausalLTX2Video")
_VAE = (2.44, _VAE_CLASSES, "decoder.conv_in.conv.weight")
_REFINER = (37.75, _REFINER_CLASSES, "transformer_blocks.0.scale_shift_table")
_CONNECTORS = (2.86, ("LTX2TextConnectors",), "text_proj_in.weight")

_ALL = (
    _stage1(
        "bidirectional",
        "bidirectional",
        _BIDIRECTIONAL,
        "dit/sana_wm_1600m_720p.safetensors",
        10.65,
        "sana_wm_1600m_720p.safetensors",
        *_within(_BIDIRECTIONAL, "dit"),
        *_within(_DIFFUSERS, "transformer"),
    ),
    _stage1(
        "chunk_causal",
        "chunk-causal",
        _CHUNK_CAUSAL,
        "dit/sana_wm_chunk_causal_1600m_720p.safetensors",
        10.65,
        "sana_wm_chunk_causal_1600m_720p.safetensors",
        *_within(_CHUNK_CAUSAL, "dit"),
    ),
    # Published as a pickle, and loaded only as what `weights convert` makes of it.
    _stage1(
        "streaming",
        "streaming",
        _STREAMING,
        "sana_dit/model.pt",
        None,
        "model.safetensors",
        *_within(_STREAMING, "sana_dit"),
    ),
    _ltx2(
        "vae",
        "Video VAE",
        _BIDIRECTIONAL,
        "vae",
        *_VAE,
        *_within(_DIFFUSERS, "vae"),
        *_within(_DIFFUSERS_REFINER, "vae"),
    ),
    _ltx2("vae_causal", "Video VAE, causal", _STREAMING, "ltx2_causal_vae", *_VAE),
    _ltx2(
        "refiner",
        "Refiner",
        _BIDIRECTIONAL,
        "refiner/transformer",
        *_REFINER,
        *_within(_DIFFUSERS_REFINER, "transformer"),
    ),
    _ltx2(
        "connectors",
        "Text connectors",
        _BIDIRECTIONAL,
        "refiner/connectors",
        *_CONNECTORS,
        *_within(_DIFFUSERS_REFINER, "connectors"),
    ),
    _ltx2("refiner_streaming", "Refiner, streaming", _STREAMING, "refiner_diffusers/transformer", *_REFINER),
    _ltx2(
        "connectors_streaming",
        "Text connectors, streaming",
        _STREAMING,
        "refiner_diffusers/connectors",
        *_CONNECTORS,
    ),
    Component(
        id="gemma_3_12b",
        title="Gemma-3-12B, the refiner's text encoder",
        licence="gemma",
        repository=f"{_OWNER}/{_BIDIRECTIONAL}",
        revision=_REVISIONS[_BIDIRECTIONAL],
        files=_published(
            "refiner/text_encoder",
            "config.json",
            "model.safetensors.index.json",
            *(f"model-{number:05}-of-00011.safetensors" for number in range(1, 12)),
            "added_tokens.json",
            "special_tokens_map.json",
            "tokenizer.json",
            "tokenizer.model",
            "tokenizer_config.json",
        ),
        size_gb=48.75,
        weights=("model.safetensors",),
        classes=_GEMMA_3_CLASSES,
        tensor="embed_tokens.weight",
        places=(
            *_within(_BIDIRECTIONAL, "refiner/text_encoder"),
            *_within(_STREAMING, "gemma3_12b"),
            *_within(_DIFFUSERS_REFINER, "text_encoder"),
        ),
    ),
    Component(
        id="gemma_2_2b",
        title="Gemma-2-2B, stage 1's text encoder",
        licence="gemma",
        repository=f"{_OWNER}/gemma-2-2b-it",
        revision=_REVISIONS["gemma-2-2b-it"],
        files=(
            WeightFile("config.json", "b3195cba8e4a8e637f15bc0bab6b48fd0f4e02967fac72925e2dfb02c4d5b8d7"),
            *_published(
                "",
                "model.safetensors.index.json",
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
            ),
            WeightFile(
                "special_tokens_map.json", "baec30ea10906f16adb8c18af7a34023002c1746542612b8b41c9f09e1351351"
            ),
            WeightFile("tokenizer.json", "3f289bc05132635a8bc7aca7aa21255efd5e18f3710f43e3cdb96bcd41be4922"),
            WeightFile("tokenizer.model", "61a7b147390c64585d6c3543dd6fc636906c9af3865a5548f27f31aee1d4c8e2"),
            WeightFile(
                "tokenizer_config.json", "cb32b7929c62608d46572e813112b3ad8a841fb98fdd6a4da8559e368a951c89"
            ),
        ),
        size_gb=5.25,
        weights=("model.safetensors", "gemma-2-2b-it.safetensors"),
        classes=("Gemma2ForCausalLM", "Gemma2Model"),
        tensor="embed_tokens.weight",
        places=("gemma-2-2b-it", *_within(_DIFFUSERS, "text_encoder")),
    ),
)
COMPONENTS: dict[str, Component] = {component.id: component for component in _ALL}


def needed_for(preset: Preset) -> tuple[str, ...]:
    """The ids of the components that a preset runs on, in the order in which they act; none for the embedded model.

    The chunk-causal teacher borrows VAE and refiner of the bidirectional release. Gemma-3 is needed with a refiner,
    unless its prompts are cached.
    """
    if preset.model != "sana_wm":
        return ()
    is_streaming = preset.variant == "streaming"
    ids = ["gemma_2_2b", "gemma_3_12b", f"stage1_{preset.variant}"]
    if preset.refiner:
        ids += ["connectors_streaming", "refiner_streaming"] if is_streaming else ["connectors", "refiner"]
    else:
        ids.remove("gemma_3_12b")
    return (*ids, "vae_causal" if is_streaming else "vae")
