"""Vision Transformer: an image as a row of patches.

Sources: Dosovitskiy et al., "An Image is Worth 16x16 Words" (2020), arXiv:2010.11929, table 1; the small and tiny sizes
are those of Touvron et al., "Training data-efficient image transformers" (2020), arXiv:2012.12877, table 1.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pydl
from pydl import nn
from pydl.errors import ArgumentError, ShapeError
from pydl.models.registry import register

__all__ = ["VisionTransformer"]


class EncoderBlock(nn.Module):
    """Self-attention and a perceptron, each with the norm before it and a skip around both. (N, T, D) -> (N, T, D)."""

    def __init__(self, heads: int, width: int, mlp: int, dropout: float) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, eps=1e-6)
        self.self_attention = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.ln_2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, mlp), nn.GELU(), nn.Dropout(dropout), nn.Linear(mlp, width),
                                 nn.Dropout(dropout))
        for layer in (self.mlp[0], self.mlp[3]):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.normal_(layer.bias, std=1e-6)

    def forward(self, input: Any) -> Any:
        x = self.ln_1(input)
        x = input + self.dropout(self.self_attention(x, x, x, need_weights=False)[0])
        return x + self.mlp(self.ln_2(x))


class Encoder(nn.Module):
    """Learnt positions, the blocks, and a norm. Shapes: (N, T, D) -> (N, T, D)."""

    def __init__(self, length: int, layers: int, heads: int, width: int, mlp: int, dropout: float) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(pydl.zeros(1, length, width))
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.Sequential()
        for i in range(layers):
            self.layers.add_module(f"encoder_layer_{i}", EncoderBlock(heads, width, mlp, dropout))
        self.ln = nn.LayerNorm(width, eps=1e-6)
        nn.init.normal_(self.pos_embedding, std=0.02)

    def forward(self, input: Any) -> Any:
        return self.ln(self.layers(self.dropout(input + self.pos_embedding)))


class VisionTransformer(nn.Module):
    """Patches through one linear map, a class token before them, a transformer encoder; the token's output is classified.

    Shapes: (N, in_channels, image_size, image_size) -> (N, num_classes).

    Parameters
    ----------
    image_size, patch_size : int
        Sides of the square image and of its patches; the second divides the first.
    layers, heads, width, mlp : int
        Blocks; attention heads; features of a token; hidden units of the perceptrons.
    num_classes, in_channels : int
        Classes; channels of the image.
    dropout : float
        Probability everywhere.

    Source: Dosovitskiy et al. 2020; names of parts as in torchvision.
    """

    def __init__(
        self, image_size: int = 224, patch_size: int = 16, layers: int = 12, heads: int = 12, width: int = 768,
        mlp: int = 3072, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if patch_size < 1 or image_size % patch_size:
            raise ArgumentError(f"VisionTransformer: patch_size={patch_size} must divide image_size={image_size}")
        self.image_size, self.width = image_size, width
        self.class_token = nn.Parameter(pydl.zeros(1, 1, width))
        self.conv_proj = nn.Conv2d(in_channels, width, patch_size, patch_size)
        self.encoder = Encoder((image_size // patch_size) ** 2 + 1, layers, heads, width, mlp, dropout)
        self.heads = nn.Sequential(OrderedDict(head=nn.Linear(width, num_classes)))
        deviation = (in_channels * patch_size**2) ** -0.5
        nn.init.trunc_normal_(self.conv_proj.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
        nn.init.zeros_(self.conv_proj.bias)
        nn.init.zeros_(self.heads.head.weight)
        nn.init.zeros_(self.heads.head.bias)

    def forward(self, input: Any) -> Any:
        n, _, h, w = input.shape
        if (h, w) != (self.image_size, self.image_size):
            raise ShapeError(f"VisionTransformer: image of {h} x {w}; expected {self.image_size} x {self.image_size}, for which "
                             "the positions are learnt; resize it, or give image_size")
        x = self.conv_proj(input)  # (N, D, H/p, W/p)
        x = pydl.flatten(x, 2).permute(0, 2, 1)  # (N, patches, D)
        x = pydl.cat([self.class_token.expand(n, -1, -1), x], 1)
        return self.heads(self.encoder(x)[:, 0])


@register("vit_tiny_16", input_size=(3, 224, 224))
def vit_tiny_16(**options: Any) -> VisionTransformer:
    """ViT-Ti/16: 5,717,416 parameters. Options: of `VisionTransformer`."""
    return VisionTransformer(**{"heads": 3, "width": 192, "mlp": 768, **options})


@register("vit_small_16", input_size=(3, 224, 224))
def vit_small_16(**options: Any) -> VisionTransformer:
    """ViT-S/16: 22,050,664 parameters."""
    return VisionTransformer(**{"heads": 6, "width": 384, "mlp": 1536, **options})


@register("vit_b_16", input_size=(3, 224, 224))
def vit_b_16(**options: Any) -> VisionTransformer:
    """ViT-B/16: 86,567,656 parameters."""
    return VisionTransformer(**options)
