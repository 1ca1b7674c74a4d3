# SPDX-License-Identifier: GPL-3.0-or-later
"""The sizes of a refiner: the released LTX-2 video stream by default, a small one by other numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# What the released model fixes and this implementation does not vary, by its name in a diffusers config.json.
_FIXED = {
    "patch_size": 1,
    "patch_size_t": 1,
    "qk_norm": "rms_norm_across_heads",
    "norm_elementwise_affine": False,
    "attention_bias": True,
    "attention_out_bias": True,
    "activation_fn": "gelu-approximate",
    "rope_type": "split",
    "rope_double_precision": True,
    "causal_offset": 1,
    "vae_scale_factors": [8, 32, 32],
    "timestep_scale_multiplier": 1000,
}
_RENAMED = {
    "in_channels": "in_channels",
    "num_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "attention_head_dim": "head_dim",
    "caption_channels": "caption_channels",
    "rope_theta": "rope_theta",
    "pos_embed_max_pos": "longest_s",
    "base_height": "tallest_px",
    "base_width": "widest_px",
    "norm_eps": "norm_eps",
}
# Entries that only LTX-2.3 has, with the values that stand for LTX-2; a file that says otherwise is of that model.
_LATER_MODEL = {
    "gated_attn": False,
    "cross_attn_mod": False,
    "perturbed_attn": False,
    "use_prompt_embeddings": True,
    "ff_bias": True,
    "use_keyframes_abs_pos_embedding": False,
}
_REPEATED = {"out_channels": "in_channels"}
# Settings of the audio stream, which does not run, and of others that change nothing in the video stream.
_IGNORED_STARTS = ("_", "audio_")
_IGNORED = {"cross_attn_timestep_scale_multiplier", "use_prompt_adaln_single"}


@dataclass(frozen=True)
class RefinerConfig:
    """Architecture of the refiner; the defaults are the video stream of LTX-2 19B (13.04 G parameters).

    Attributes:
        in_channels: latent channels, read and predicted.
        num_layers: transformer blocks.
        num_heads, head_dim: of self and cross attention; the token width is their product.
        caption_channels: width of the text connector's states.
        rope_theta: base of the rotary frequencies.
        longest_s, tallest_px, widest_px: what the rotary coordinates of time, rows and columns are divided by.
        norm_eps: of all root mean square norms.
    """

    in_channels: int = 128
    num_layers: int = 48
    num_heads: int = 32
    head_dim: int = 128
    caption_channels: int = 3840
    rope_theta: float = 10000.0
    longest_s: float = 20.0
    tallest_px: float = 2048.0
    widest_px: float = 2048.0
    norm_eps: float = 1e-6

    @property
    def hidden_size(self) -> int:
        return self.num_heads * self.head_dim

    @classmethod
    def from_diffusers(cls, entries: dict[str, Any]) -> RefinerConfig:
        """Read the dictionary of a diffusers `config.json` of LTX2VideoTransformer3DModel.

        Raises:
            ValueError: it is of another model, or asks for something this implementation does not have.
        """
        if "rope_type" not in entries:
            raise ValueError("The refiner's config does not say its rope_type; the released one has 'split'.")
        fields: dict[str, Any] = {}
        for name, value in entries.items():
            if name in _RENAMED:
                fields[_RENAMED[name]] = value
            elif name in _LATER_MODEL:
                if value != _LATER_MODEL[name]:
                    raise ValueError(
                        f"The refiner's config has {name} = {value!r}, which is LTX-2.3; SANA-WM refines with LTX-2."
                    )
            elif name in _FIXED:
                plain = list(value) if isinstance(value, tuple) else value
                if plain != _FIXED[name]:
                    raise ValueError(
                        f"The refiner's config has {name} = {value!r}; only {_FIXED[name]!r} is supported."
                    )
            elif name in _REPEATED:
                if value not in (None, entries.get(_REPEATED[name])):
                    raise ValueError(f"The refiner's config has {name} = {value!r}, unlike its input.")
            elif name == "cross_attention_dim":
                if value != entries.get("num_attention_heads", 32) * entries.get("attention_head_dim", 128):
                    raise ValueError(
                        f"The refiner's config has cross_attention_dim = {value!r}, unlike its token width."
                    )
            elif name not in _IGNORED and not name.startswith(_IGNORED_STARTS):
                raise ValueError(
                    f"The refiner's config has an unknown entry {name!r}; is it the LTX-2 transformer?"
                )
        return cls(**fields)
