# SPDX-License-Identifier: GPL-3.0-or-later
"""A sheet of samples: for every clip its true frames above, the sampled ones below."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

COLUMNS = 5
_SMALLEST_HEIGHT = 96


def write_sheet(path: Path, rows: list[Tensor]) -> None:
    """Rows of frames (F,3,h,w), 0..1, as one picture that appears as a whole."""
    lines = []
    for frames in rows:
        chosen = np.linspace(0, len(frames) - 1, min(COLUMNS, len(frames))).round().astype(int)
        lines.append(torch.cat([frames[int(index)] for index in chosen], dim=2))
    picture = torch.cat(lines, dim=1).clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
    scale = max(1, round(_SMALLEST_HEIGHT / rows[0].shape[2]))
    image = Image.fromarray(picture)
    partial = path.with_name(f".{path.name}")
    image.resize((image.width * scale, image.height * scale), Image.NEAREST).save(partial, "png")
    partial.replace(path)
