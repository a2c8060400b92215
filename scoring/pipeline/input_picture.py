"""A picture of sixteen inputs as the model receives them, which ``hardlook check`` stores.

(n, c, h, w) inputs → one PNG. Cost: none beyond drawing. Limits: inputs of one or three channels; others have none.
"""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from scoring.audit.storage import atomic_path


def save_picture(batch: torch.Tensor, path: Path) -> None:
    """Sixteen inputs as the model sees them, in one 4×4 picture; channels stretched to the batch's own range."""
    if batch.ndim != 4 or batch.shape[1] not in (1, 3) or not len(batch):
        return
    low, high = batch.amin((0, 2, 3), keepdim=True), batch.amax((0, 2, 3), keepdim=True)
    scaled = ((batch - low) / (high - low).clamp_min(1e-9)).nan_to_num(0).clamp(0, 1)
    pictures = [tile(image) for image in scaled]
    side = pictures[0].width, pictures[0].height
    sheet = Image.new("RGB", (4 * (side[0] + 4) + 4, 4 * (side[1] + 4) + 4), "white")
    for number, picture in enumerate(pictures):
        sheet.paste(picture, (4 + number % 4 * (side[0] + 4), 4 + number // 4 * (side[1] + 4)))
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG")


def tile(image: torch.Tensor, least: int = 96) -> Image.Image:
    """(1 or 3, h, w) in 0…1 → an RGB picture, small ones enlarged by a whole factor without blur."""
    pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).expand(-1, -1, 3).contiguous().cpu().numpy()
    picture = Image.fromarray(pixels)
    factor = max(1, least // max(picture.size))
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
