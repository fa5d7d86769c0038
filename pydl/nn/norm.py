"""Normalisation layers with PyTorch's parameters and buffers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from pydl import ops
from pydl.errors import ArgumentError, ShapeError
from pydl.graph.engine import current_notes
from pydl.nn import init
from pydl.nn.linear import new_parameter
from pydl.nn.module import Module
from pydl.tensor import ones, tensor, zeros

__all__ = [
    "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "GroupNorm", "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d",
    "LayerNorm", "LocalResponseNorm", "RMSNorm",
]


class _ChannelNorm(Module):
    """Parameters and running statistics that batch and instance norm share."""

    ranks: ClassVar[tuple[int, ...]]   # accepted numbers of axes of the input
    expected: ClassVar[str]
    frozen = False  # set by `pydl.models.freeze`: the running statistics stay as they are, whatever mode the network is in

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self.register_parameter("weight", new_parameter(num_features) if affine else None)
        self.register_parameter("bias", new_parameter(num_features) if affine else None)
        self.register_buffer("running_mean", zeros(num_features) if track_running_stats else None)
        self.register_buffer("running_var", ones(num_features) if track_running_stats else None)
        self.register_buffer("num_batches_tracked", tensor(0, np.int64) if track_running_stats else None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Mean 0, variance 1, no batch seen."""
        if self.track_running_stats:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        self.reset_running_stats()
        if self.affine:
            init.ones_(self.weight)
            init.zeros_(self.bias)

    def train(self, mode: bool = True) -> Any:
        """Training mode, but a frozen norm stays in evaluation."""
        return super().train(mode and not self.frozen)

    def _check(self, input: Any, channel_axis: int = 1) -> None:
        if input.ndim not in self.ranks:
            raise ShapeError(f"{type(self).__name__}: input of shape {input.shape}; expected {self.expected}")
        if input.shape[channel_axis] != self.num_features:
            raise ShapeError(f"{type(self).__name__}: input of shape {input.shape} has {input.shape[channel_axis]} channels; "
                             f"expected num_features={self.num_features} on axis {channel_axis}")

    def extra_repr(self) -> str:
        return (f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
                f"track_running_stats={self.track_running_stats}")


class _BatchNorm(_ChannelNorm):
    def forward(self, input: Any, residual: Any = None, relu: bool = False) -> Any:
        """`residual` and `relu`: see `norm_act`, which calls with them."""
        self._check(input)
        batch_statistics = self.training or not self.track_running_stats
        use_running = self.track_running_stats
        return ops.batch_norm(
            input, self.running_mean if use_running else None, self.running_var if use_running else None, self.weight,
            self.bias, batch_statistics, self._momentum(), self.eps, residual=residual, relu=relu,
        )

    def _count(self, *_: Any) -> None:
        tracked = self.num_batches_tracked
        np.add(tracked.data, 1, out=tracked.data)
        tracked.bump_version()

    def _momentum(self) -> float:
        """The weight of this batch in the running statistics; without a momentum all batches weigh the same."""
        if not (self.training and self.track_running_stats):
            return 0.0
        self._count()
        if (notes := current_notes()) is not None:
            notes.hooks.append(self._count)
            notes.owned.append(self.num_batches_tracked)
        return 1.0 / self.num_batches_tracked.item() if self.momentum is None else self.momentum


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of (N, C) or (N, C, L); see `pydl.batch_norm`.

    While training, the batch's own statistics are used and the running ones move by `momentum` (None: their plain average);
    after ``eval()`` the running ones are used.
    """

    ranks, expected = (2, 3), "(N, C) or (N, C, L)"


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of (N, C, H, W); see `BatchNorm1d`."""

    ranks, expected = (4,), "(N, C, H, W)"


class BatchNorm3d(_BatchNorm):
    """Batch normalisation of (N, C, D, H, W); see `BatchNorm1d`."""

    ranks, expected = (5,), "(N, C, D, H, W)"


class _InstanceNorm(_ChannelNorm):
    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = False,
        track_running_stats: bool = False,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats)

    def forward(self, input: Any) -> Any:
        single = input.ndim == self.ranks[0]  # one sample without a batch axis
        self._check(input, 0 if single else 1)
        x = ops.unsqueeze(input, 0) if single else input
        out = ops.instance_norm(x, self.running_mean, self.running_var, self.weight, self.bias,
                                self.training or not self.track_running_stats, self.momentum or 0.0, self.eps)
        return ops.squeeze(out, 0) if single else out


class InstanceNorm1d(_InstanceNorm):
    """Normalisation of each channel of each sample: (C, L) or (N, C, L); see `pydl.instance_norm`.

    Has no parameters and no running statistics unless asked for.
    """

    ranks, expected = (2, 3), "(C, L) or (N, C, L)"


class InstanceNorm2d(_InstanceNorm):
    """Normalisation of each channel of each sample: (C, H, W) or (N, C, H, W); see `InstanceNorm1d`."""

    ranks, expected = (3, 4), "(C, H, W) or (N, C, H, W)"


class InstanceNorm3d(_InstanceNorm):
    """Normalisation of each channel of each sample: (C, D, H, W) or (N, C, D, H, W); see `InstanceNorm1d`."""

    ranks, expected = (4, 5), "(C, D, H, W) or (N, C, D, H, W)"


class GroupNorm(Module):
    """Normalisation of groups of channels of each sample: (N, C, ...); see `pydl.group_norm`."""

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__()
        if num_groups < 1 or num_channels % num_groups:
            raise ArgumentError(f"GroupNorm: num_groups={num_groups} must divide num_channels={num_channels}")
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        self.register_parameter("weight", new_parameter(num_channels) if affine else None)
        self.register_parameter("bias", new_parameter(num_channels) if affine else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        if self.affine:
            init.ones_(self.weight)
            init.zeros_(self.bias)

    def forward(self, input: Any) -> Any:
        if input.ndim < 2 or input.shape[1] != self.num_channels:
            raise ShapeError(f"GroupNorm: input of shape {input.shape}; expected (N, {self.num_channels}, ...)")
        return ops.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}"


class LayerNorm(Module):
    """Normalisation of the last axes of each sample; see `pydl.layer_norm`."""

    def __init__(
        self, normalized_shape: int | Sequence[int], eps: float = 1e-5, elementwise_affine: bool = True, bias: bool = True
    ) -> None:
        super().__init__()
        self.normalized_shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self.register_parameter("weight", new_parameter(*self.normalized_shape) if elementwise_affine else None)
        self.register_parameter("bias", new_parameter(*self.normalized_shape) if elementwise_affine and bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: Any) -> Any:
        return ops.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class RMSNorm(Module):
    """Division of the last axes of each sample by their root mean square; see `pydl.rms_norm`."""

    def __init__(
        self, normalized_shape: int | Sequence[int], eps: float | None = None, elementwise_affine: bool = True
    ) -> None:
        super().__init__()
        self.normalized_shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self.register_parameter("weight", new_parameter(*self.normalized_shape) if elementwise_affine else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, input: Any) -> Any:
        return ops.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class LocalResponseNorm(Module):
    """Division by the energy of neighbouring channels, as in AlexNet; see `pydl.local_response_norm`."""

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, input: Any) -> Any:
        return ops.local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
