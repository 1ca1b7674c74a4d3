# SPDX-License-Identifier: GPL-3.0-or-later
"""The sizes and switches of a stage-1 model: the released 2.6B one by default, a small one by other numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# What the released model fixes and this implementation does not vary, by its name in a diffusers config.json.
_FIXED = {
    "patch_size": [1, 1, 1],
    "ffn_type": "GLUMBConvTemp",
    "t_kernel_size": 3,
    "k_conv_only": True,
    "pos_embed_type": "wan_rope",
    "use_pe": True,
    "qk_norm": True,
    "cross_norm": True,
    "y_norm": True,
    "cam_attn_compress": 1,
    "use_chunk_plucker_post_attn": True,
    "mlp_acts": ["silu", "silu", None],
    "learn_sigma": False,
    "pred_sigma": False,
}
_RENAMED = {
    "in_channels": "in_channels",
    "num_layers": "num_layers",
    "hidden_size": "hidden_size",
    "num_attention_heads": "num_cross_heads",
    "linear_head_dim": "head_dim",
    "softmax_every_n": "softmax_every_n",
    "conv_kernel_size": "conv_kernel_size",
    "caption_channels": "caption_channels",
    "chunk_plucker_channels": "plucker_channels",
    "chunk_plucker_post_attn_blocks": "plucker_blocks",
    "mlp_ratio": "mlp_ratio",
}
# Training-time or informative entries.
_IGNORED = {"init_cam_from_base", "fp32_attention", "image_size", "mixed_precision"}


@dataclass(frozen=True)
class Stage1Config:
    """Architecture of the stage-1 transformer; the defaults are SANA-WM 1600M P1 D20 (2.66 G parameters).

    Attributes:
        in_channels, out_channels: latent channels read and predicted.
        num_layers: blocks; block i uses softmax attention iff (i + 1) % softmax_every_n == 0, else Gated DeltaNet.
        hidden_size: token width.
        head_dim: width of a self-attention head, main and camera branch; a multiple of 8.
        num_cross_heads: heads of the text cross attention.
        conv_kernel_size: stored taps of the temporal key convolution (mirrored: 2 k - 1 taps in effect).
        mlp_ratio: width of the gated feed-forward relative to hidden_size.
        caption_channels: width of the text encoder's states.
        plucker_channels: 6 ray numbers for each of the 8 pixel frames of a latent frame.
        plucker_blocks: the first so many blocks mix in the Plücker embedding; -1 means all.
        cam_renorm_gdn, cam_renorm_softmax: scale camera q, k, v back to their length before the ray transform.
            The released weights were trained with (False, True); diffusers 0.42 computes (True, True).
        softmax_in_bf16: round q, k, v to bf16 inside softmax attention, as the released code does in any precision.
        carry_camera_keys: whether the camera branch's key convolution sees the chunk before its own. The streaming
            code of May 2026 isolates chunks there, the later one does not. Bidirectional runs do not tell.
        padded_scale_main, padded_scale_camera: scale the softmax of that branch by the width that kernels pad a head
            to (128 for 112) instead of its own. Bidirectional weights were trained with (False, True). For the
            streaming release the code of May 2026 has (True, True), the later one (False, False).
    """

    in_channels: int = 128
    out_channels: int = 128
    num_layers: int = 20
    hidden_size: int = 2240
    head_dim: int = 112
    num_cross_heads: int = 20
    softmax_every_n: int = 4
    conv_kernel_size: int = 4
    mlp_ratio: float = 3.0
    caption_channels: int = 2304
    plucker_channels: int = 48
    plucker_blocks: int = -1
    cam_renorm_gdn: bool = False
    cam_renorm_softmax: bool = True
    softmax_in_bf16: bool = True
    carry_camera_keys: bool = True
    padded_scale_main: bool = False
    padded_scale_camera: bool = True

    def __post_init__(self) -> None:
        if self.hidden_size % self.head_dim:
            raise ValueError(
                f"hidden_size {self.hidden_size} must be a multiple of head_dim {self.head_dim}."
            )
        if self.hidden_size % self.num_cross_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} must be a multiple of num_cross_heads {self.num_cross_heads}."
            )
        if self.head_dim % 8:
            raise ValueError(
                f"head_dim {self.head_dim} must be a multiple of 8: half of it is turned by 4x4 matrices."
            )

    @property
    def num_heads(self) -> int:
        """Self-attention heads."""
        return self.hidden_size // self.head_dim

    @property
    def mlp_hidden(self) -> int:
        """Width of the feed-forward after its gate."""
        return int(self.hidden_size * self.mlp_ratio)

    def is_softmax(self, block: int) -> bool:
        return self.softmax_every_n > 0 and (block + 1) % self.softmax_every_n == 0

    def mixes_plucker(self, block: int) -> bool:
        return self.plucker_blocks < 0 or block < self.plucker_blocks

    @classmethod
    def from_diffusers(cls, entries: dict[str, Any], **switches: bool) -> Stage1Config:
        """Read the dictionary of a diffusers `config.json` of SanaWMTransformer3DModel.

        Args:
            entries: the parsed json; names with a leading underscore are ignored.
            switches: cam_renorm_gdn and the fields after it, which that layout does not store.

        Raises:
            ValueError: an entry asks for something this implementation does not have.
        """
        fields: dict[str, Any] = {}
        for name, value in entries.items():
            if name in _RENAMED:
                fields[_RENAMED[name]] = value
            elif name in _FIXED:
                plain = list(value) if isinstance(value, tuple) else value
                if plain != _FIXED[name]:
                    raise ValueError(
                        f"The model's config has {name} = {value!r}; only {_FIXED[name]!r} is supported."
                    )
            elif name not in _IGNORED and not name.startswith("_"):
                raise ValueError(
                    f"The model's config has an unknown entry {name!r}; is it a SANA-WM stage-1 model?"
                )
        if "in_channels" in fields:
            fields["out_channels"] = fields["in_channels"]
        return cls(**fields, **switches)

    @classmethod
    def from_shapes(cls, shapes: Mapping[str, tuple[int, ...]], **switches: bool) -> Stage1Config:
        """Read the sizes off a checkpoint, whose layouts do not all come with a config.

        The heads of self and cross attention are as many as each other, as in every released model.

        Args:
            shapes: of its tensors, by the names of `Stage1Transformer`.
            switches: cam_renorm_gdn and the fields after it.

        Raises:
            ValueError: it is no stage-1 checkpoint.
        """
        try:
            width, in_channels = shapes["x_embedder.proj.weight"][:2]
            blocks = 1 + max(int(name.split(".")[1]) for name in shapes if name.startswith("blocks."))
            heads = shapes["blocks.0.attn.A_log"][0]
            convolved = {name.split(".")[1] for name in shapes if ".attn.conv_k" in name}
            softmax = [block for block in range(blocks) if str(block) not in convolved]
            mixes = [i for i in range(blocks) if f"blocks.{i}.plucker_proj.weight" in shapes]
            return cls(
                in_channels=in_channels,
                out_channels=shapes["final_layer.linear.weight"][0],
                num_layers=blocks,
                hidden_size=width,
                head_dim=width // heads,
                num_cross_heads=heads,
                softmax_every_n=softmax[0] + 1 if softmax else 0,
                conv_kernel_size=shapes["blocks.0.attn.conv_k.weight"][-1],
                mlp_ratio=shapes["blocks.0.mlp.point_conv.conv.weight"][1] / width,
                caption_channels=shapes["y_embedder.y_proj.fc1.weight"][1],
                plucker_channels=shapes["plucker_embedder.proj.weight"][1],
                plucker_blocks=-1 if len(mixes) == blocks else len(mixes),
                **switches,
            )
        except (KeyError, ValueError, IndexError) as error:
            raise ValueError(f"This is no stage-1 checkpoint: {error} is missing.") from error
