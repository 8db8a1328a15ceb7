"""Neighbours merged in grids of any shape, against Qwen2.5-VL of transformers."""

from __future__ import annotations

import pytest
import torch
from nn.connectors.toys import (
    EXACT,
    INITIALISATIONS,
    SINGLE,
    Same,
    check_no_rows,
    copied,
    features,
    linear,
)
from nn.reference import reference
from torch import Tensor, nn
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLPatchMerger
from transformers.models.qwen2_vl.modeling_qwen2_vl import PatchMerger

from sensorium.core import ConfigError
from sensorium.nn.connectors.merged import Merged
from sensorium.nn.connectors.projector import Projector
from sensorium.nn.layers.norms import LayerNorm, RMSNorm

NAMES = {"ln_q": "norm", "mlp.0": "projector.layers.0", "mlp.2": "projector.layers.1"}


def squares(x: Tensor, grid: list[int]) -> Tensor:
    """The rows of one segment in the order in which the reference gets them."""
    frames, rows, columns = grid
    blocks = x.view(frames, rows // 2, 2, columns // 2, 2, -1)
    return blocks.permute(0, 1, 3, 2, 4, 5).flatten(0, 4)


@pytest.mark.parametrize("how", INITIALISATIONS)
@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize(("cls", "norm"), [(Qwen2_5_VLPatchMerger, RMSNorm), (PatchMerger, LayerNorm)])
def test_is_that_of_qwen(how: str, together: bool, cls, norm):
    known = reference(lambda width: cls(dim=8, context_dim=width), 6, how)
    ours = Merged(
        factor=2,
        norm=norm(width=6, eps=1e-6),
        projector=Projector(inner=24, hidden=24, width=8, depth=2),
        together=together,
    )
    state = known.state_dict()
    copied(ours, {f"{NAMES[n.rpartition('.')[0]]}.{n.rpartition('.')[2]}": v for n, v in state.items()})
    grids = [[1, 4, 6], [3, 2, 4], [1, 2, 2]]
    given = features([24, 24, 4], 6)
    parts = given.rows.split([24, 24, 4])
    if together:
        rows, found = given.rows, ours(given)
    else:
        rows = torch.cat([squares(x, grid) for x, grid in zip(parts, grids, strict=True)])
        found = ours(given, torch.tensor(grids))
    torch.testing.assert_close(found.rows, known(rows), **SINGLE)
    known.ln_q = ours.norm
    torch.testing.assert_close(found.rows, known(rows), **EXACT)
    assert found.lengths.tolist() == [6, 6, 1]


def test_frames_are_more_rows():
    """A layout of rows and columns is one of frames, rows and columns."""
    given, ours = features([24], 1), Merged(factor=2, norm=nn.Identity(), projector=Same(4))
    assert torch.equal(ours(given, torch.tensor([[3, 2, 4]])).rows, ours(given, torch.tensor([[6, 4]])).rows)


def test_no_rows_and_what_cannot_be():
    ours = Merged(factor=2, norm=LayerNorm(width=3), projector=linear(12))
    check_no_rows(ours, 3, layout=2)
    check_no_rows(ours, 3)
    with pytest.raises(ConfigError, match="need a layout"):
        ours(features([4], 3))
    with pytest.raises(ConfigError, match=r"found the layouts \[\[2, 4\]\] of \[4\] tokens"):
        ours(features([4], 3), torch.tensor([[2, 4]]))
    with pytest.raises(ConfigError, match="multiples of 2"):
        ours(features([4], 3), torch.tensor([[1, 4]]))
    with pytest.raises(ConfigError, match="4 tokens become one"):
        Merged(factor=2, norm=nn.Identity(), projector=linear(12), together=True)(features([4, 6], 3))
    with pytest.raises(ConfigError, match="at least 1, found 0"):
        Merged(factor=0, norm=nn.Identity(), projector=linear(12))
