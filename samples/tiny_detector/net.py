"""The network: an anchor-free detector with one scale, as small as the task allows.

::

    picture ──► stem 1/4 ──► 1/8 ──────────────────► join ──► head: per cell of 8x8 pixels
                              └──► 1/16 ──► enlarge ──┘        6 class scores and 4 distances

Each cell says for each class whether the middle of such an object lies in it (a heat map, trained
with the penalty-reduced focal loss of CornerNet, https://arxiv.org/abs/1808.01244), and how far the
four edges of that object's box are from the middle of the cell (as in FCOS,
https://arxiv.org/abs/1904.01355, here as logarithms of cells, trained with the generalised IoU,
https://arxiv.org/abs/1902.09630).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDE = 8
"""Pixels to the side of a cell of the output."""
MULTIPLE = 16
"""Sides of the input are multiples of this."""
_MIDDLE_GREY = 0.45
"""What counts as zero inside: the network's own padding then looks like a table, not like black."""
_MOST_CANDIDATES = 1000
"""Beyond these the least confident are no longer compared: the time stays bounded on any picture."""
_LOG_CELLS = 4.0
"""Distances beyond exp(±4) cells (0.1 to 437 pixels) are cut: the exponential stays finite."""


class TinyNet(nn.Module):
    """Pictures ``(B, 3, H, W)``, RGB in 0..1, to ``(B, classes + 4, H/8, W/8)``.

    The first channels are logits of the heat map; the last four are the logarithms of the distances,
    in cells, from the middle of a cell to the left, upper, right and lower edge.
    """

    def __init__(self, classes: int, widths: tuple[int, int, int, int] = (16, 32, 64, 96)) -> None:
        super().__init__()
        half, quarter, eighth, sixteenth = widths
        self.classes = classes
        self.stem = nn.Sequential(
            _convolution(3, half, 3, stride=2), _convolution(half, quarter, 3, stride=2)
        )
        self.fine = nn.Sequential(
            _convolution(quarter, eighth, 3, stride=2), _Block(eighth), _Block(eighth)
        )
        self.coarse = nn.Sequential(
            _convolution(eighth, sixteenth, 3, stride=2),
            *(_Block(sixteenth) for _ in range(4)),
            _convolution(sixteenth, eighth, 1),
        )
        self.join = nn.Sequential(
            _convolution(2 * eighth, eighth, 1), _Block(eighth), _Block(eighth)
        )
        self.head = nn.Conv2d(eighth, classes + 4, 1)
        # At first no cell holds anything: the few that do are not drowned (RetinaNet's prior).
        nn.init.constant_(self.head.bias[:classes], -4.0)  # type: ignore[index]

    def forward(self, pictures: Tensor) -> Tensor:
        fine = self.fine(self.stem(pictures - _MIDDLE_GREY))
        coarse = functional.interpolate(self.coarse(fine), scale_factor=2.0, mode="nearest")
        out: Tensor = self.head(self.join(torch.cat([fine, coarse], dim=1)))
        return out


class _Block(nn.Module):
    """A residual step: each channel looks around (5x5), then the channels are mixed (1x1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.look = _convolution(channels, channels, 5, groups=channels)
        self.mix = _convolution(channels, channels, 1, activate=False)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.mix(self.look(x)))


def _convolution(
    inputs: int,
    outputs: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    activate: bool = True,
) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if activate else []))


def fold_batch_norm(net: nn.Module) -> nn.Module:
    """Writes every batch normalisation into the convolution before it; for inference only.

    The result computes the same in about two thirds of the time. Changes `net` and returns it.
    """
    for module in list(net.modules()):
        if isinstance(module, nn.Sequential) and len(module) > 1:
            convolution, norm = module[0], module[1]
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                fused = nn.utils.fusion.fuse_conv_bn_eval(convolution.eval(), norm.eval())
                module[0], module[1] = fused, nn.Identity()
    return net


def cell_middles(rows: int, columns: int, device: torch.device | None = None) -> Tensor:
    """``(rows, columns, 2)``: x and y of the middle of each cell, in pixels."""
    y, x = torch.meshgrid(
        torch.arange(rows, device=device), torch.arange(columns, device=device), indexing="ij"
    )
    return (torch.stack([x, y], dim=-1) + 0.5) * STRIDE


def boxes_of(distances: Tensor) -> Tensor:
    """Logarithms of distances ``(B, 4, rows, columns)`` to edges in pixels ``(B, rows, columns, 4)``."""
    pixels = distances.clamp(-_LOG_CELLS, _LOG_CELLS).exp().permute(0, 2, 3, 1) * STRIDE
    middles = cell_middles(distances.shape[2], distances.shape[3], distances.device)
    return torch.cat([middles - pixels[..., :2], middles + pixels[..., 2:]], dim=-1)


def candidates(output: Tensor, *, classes: int, min_confidence: float) -> list[Tensor]:
    """The peaks of the heat map: for each picture ``(N, 6)`` of x1, y1, x2, y2, confidence, class.

    A peak is a cell that none of its eight neighbours surpasses in its class. Not in any order, and
    objects may still have two: `suppress` decides between them.
    """
    heat = output[:, :classes].sigmoid()
    peaks = heat * (functional.max_pool2d(heat, 3, stride=1, padding=1) == heat)
    boxes = boxes_of(output[:, classes:])
    found = []
    for heat_map, edges in zip(peaks, boxes, strict=True):
        kind, row, column = torch.nonzero(heat_map > min_confidence, as_tuple=True)
        confidence = heat_map[kind, row, column]
        found.append(
            torch.cat([edges[row, column], confidence[:, None], kind[:, None].float()], dim=1)
        )
    return found


def iou(boxes: Tensor, others: Tensor) -> Tensor:
    """``(N, M)``: intersection over union of each of N boxes with each of M, as edges ``(·, 4)``."""
    upper_left = torch.maximum(boxes[:, None, :2], others[None, :, :2])
    lower_right = torch.minimum(boxes[:, None, 2:4], others[None, :, 2:4])
    common = (lower_right - upper_left).clamp(min=0).prod(dim=2)
    union = _area(boxes)[:, None] + _area(others)[None, :] - common
    return common / union.clamp(min=1e-9)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:4] - boxes[:, :2]).clamp(min=0).prod(dim=1)


def suppress(
    found: Tensor, *, max_iou: float, max_detections: int, across_classes: bool = False
) -> Tensor:
    """Non-maximum suppression: of boxes that overlap by more than `max_iou` the most confident stays.

    Takes and returns ``(N, 6)`` as `candidates` makes them; what stays is in order of confidence.
    Boxes of different classes suppress each other only with `across_classes`.
    """
    order = found[:, 4].argsort(descending=True, stable=True)
    found = found[order[:_MOST_CANDIDATES]]
    rivals = iou(found, found) > max_iou
    if not across_classes:
        rivals &= found[:, None, 5] == found[None, :, 5]
    kept: list[int] = []
    beaten = torch.zeros(len(found), dtype=torch.bool, device=found.device)
    for number in range(len(found)):
        if not beaten[number]:
            kept.append(number)
            if len(kept) == max_detections:
                break
            beaten |= rivals[number]
    return found[kept]
