"""docs/scale.md: its table is what the formulas give, and the formulas give what PyTorch keeps at small size."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import scale
from roberta import RobertaConfig

ROWS, SEQ, HIDDEN, HEADS = 4, 64, 128, 2


def test_the_table_is_that_of_the_formulas() -> None:
    page = scale.PAGE.read_text("utf-8")
    assert scale.with_table(page) == page


def kept(layers: int, dtype: str, again: bool) -> int:
    """Bytes that PyTorch keeps for the backward pass of an encoder, weights and their copies in 16 bits left out."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    import roberta

    config = RobertaConfig(
        vocab_size=99, hidden_size=HIDDEN, num_hidden_layers=layers, num_attention_heads=HEADS,
        intermediate_size=4 * HIDDEN, max_position_embeddings=SEQ + 2, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    model = roberta.RobertaModel(config).train()
    if again:
        model.gradient_checkpointing_enable()
    shapes = {tuple(shape) for one in model.parameters() for shape in (one.shape, one.shape[::-1])}
    sizes: dict[int, int] = {}
    held: list[Any] = []

    def pack(tensor: Any) -> Any:
        if tuple(tensor.shape) not in shapes:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            held.append(tensor)  # or its memory, and so its address, is used again
        return tensor

    low = torch.bfloat16 if dtype == "bfloat16" else None
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", low, enabled=low is not None),
    ):
        model(torch.randint(4, 99, (ROWS, SEQ)))
    return sum(sizes.values())


@pytest.mark.parametrize(("dtype", "again"), [("float32", False), ("bfloat16", False), ("bfloat16", True)])
def test_what_is_kept_for_the_backward_pass(dtype: str, again: bool) -> None:
    found = (kept(4, dtype, again) - kept(2, dtype, again)) / 2 / (ROWS * SEQ * HIDDEN)
    assert found == pytest.approx(scale.KEPT["again" if again else dtype], rel=0.02)
