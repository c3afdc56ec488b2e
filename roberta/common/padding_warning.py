"""The warning of padding without an attention mask, a mistake that changes results and that nothing else would show."""

from __future__ import annotations

import warnings

_was_said: list[bool] = []


def was_said() -> bool:
    """Whether this process has warned already, so that callers need not look again."""
    return bool(_was_said)


def say(pad_token_id: int) -> None:
    """Warn, once per process, of ids that seem to be padded and come without a mask."""
    if not _was_said:
        _was_said.append(True)
        warnings.warn(
            f"input_ids begin or end with padding (id {pad_token_id}) and come without attention_mask, so that all "
            "tokens attend to the padding and get other results; give the attention_mask that the tokenizer returns, "
            "or one of ones if these are tokens",
            stacklevel=4,
        )
