"""Matrices held in 8 bits a number, and their products: what is read is a quarter, what is computed stays exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Int8
from torch import Tensor

from .kernels import int8_product
from .product import linear

_MOST = 127
#: Vectors up to which it is faster to convert the numbers for each four of them than to write them out once.
_FEW = 8
#: Numbers that are written out at once: so many stay in the cache until they are used.
_BLOCK = 1 << 21
#: Numbers of a matrix from which a second thread is worth its call.
_SHARED = 1 << 16


@dataclass(frozen=True, eq=False)
class Int8Matrix:
    """The matrix ``values * scale[:, None]``, in the type of its ``scale``.

    It may stand where ``core.product.linear`` expects a weight. Products are those of just this matrix, in the type of
    what it is multiplied with: only weights are rounded, once, and vectors never are.
    """

    values: Int8[Tensor, "e d"]
    scale: Float[Tensor, "e"]

    @classmethod
    @torch.no_grad()
    def of(cls, weight: Float[Tensor, "e d"]) -> Int8Matrix:
        """The nearest to ``weight`` with the largest number of each row at the end of the range."""
        wide = weight.to(torch.promote_types(weight.dtype, torch.float32))
        scale = (wide.abs().amax(1) / _MOST).to(weight.dtype)
        scale = torch.where(scale > 0, scale, 1.0)
        values = (wide / scale[:, None]).round_().clamp_(-_MOST, _MOST).to(torch.int8)
        return cls(values, scale)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def shape(self) -> torch.Size:
        return self.values.shape

    @property
    def dtype(self) -> torch.dtype:
        """Of the numbers that are meant."""
        return self.scale.dtype

    @property
    def device(self) -> torch.device:
        return self.values.device

    def dense(self) -> Float[Tensor, "e d"]:
        """Written out."""
        return self.values.to(self.dtype) * self.scale[:, None]

    def rows(self, ids: Int[Tensor, "*m"]) -> Float[Tensor, "*m d"]:
        """Some rows, written out."""
        return self.values[ids].to(self.dtype) * self.scale[ids][..., None]

    def split(self, sizes: Sequence[int]) -> list[Int8Matrix]:
        """So many rows each."""
        sizes = list(sizes)
        parts = zip(self.values.split(sizes), self.scale.split(sizes), strict=True)
        return [Int8Matrix(values, scale) for values, scale in parts]

    def linear(
        self, x: Float[Tensor, "*m d"], bias: Float[Tensor, "e"] | None = None
    ) -> Float[Tensor, "*m e"]:
        """``x @ self.T + bias``; with a gradient for ``x`` alone."""
        if self._kernel_serves(x):
            y = self._few(x)
            return y if bias is None else y.add_(bias)
        if x.dtype == torch.float16:  # whose range sums without their scale would leave
            return F.linear(x, self.dense().to(x.dtype), bias)
        y = self._unscaled(x)
        return y * self.scale if bias is None else torch.addcmul(bias, y, self.scale)

    def _kernel_serves(self, x: Tensor) -> bool:
        return (
            x.device.type == "cpu"
            and x.dtype == self.dtype == torch.float32
            and 0 < x.numel() <= _FEW * x.shape[-1]
            and not (torch.is_grad_enabled() and x.requires_grad)
            and not torch.compiler.is_compiling()
            and int8_product() is not None
        )

    def _few(self, x: Float[Tensor, "*m d"]) -> Float[Tensor, "*m e"]:
        kernel = int8_product()
        assert kernel is not None
        x, values, scale = x.contiguous(), self.values.contiguous(), self.scale.contiguous()
        height, width = values.shape
        y = x.new_empty(*x.shape[:-1], height)
        pointers = (part.data_ptr() for part in (values, scale, x, y))
        threads = torch.get_num_threads() if values.numel() >= _SHARED else 1
        kernel(*pointers, x.numel() // width, height, width, threads)
        return y

    def _unscaled(self, x: Float[Tensor, "*m d"]) -> Float[Tensor, "*m e"]:
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            # Compilers, and torch's on a GPU above all, make one kernel of both: the numbers are never written out.
            return F.linear(x, self.values.to(x.dtype))
        blocks = self.values.split(max(_BLOCK // self.values.shape[1], 1))
        parts = [linear(x, block.to(x.dtype)) for block in blocks]
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)
