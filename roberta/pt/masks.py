"""Masks as transformers' classes make them, for code that calls its methods; the layers here use `attention_bias`."""

from collections.abc import Sequence

import torch
from torch import Tensor

from roberta.pt.facts import Facts
from roberta.pt.layers import warn_of_padding


class Masks(Facts):
    """The methods that turn a mask of 1 and 0 into what is added to scores; part of `RobertaPreTrainedModel`."""

    def get_extended_attention_mask(
        self,
        attention_mask: Tensor,
        input_shape: Sequence[int],
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """The term added to attention scores: 0 to attend, the lowest number of `dtype` not to.

        Args:
            attention_mask: 1 and 0, (batch, key) or (batch, seq, key).
            input_shape: (batch, seq) of the tokens; read in a decoder only.
            device: ignored: the result is where the mask is.
            dtype: of the result; by default the model's own.

        Returns:
            (batch, 1, 1 or seq, key); of a decoder causal, where the mask is (batch, key).
        """
        if attention_mask.dim() not in (2, 3):
            raise ValueError(
                f"attention_mask of shape {tuple(attention_mask.shape)} does not fit input_shape {tuple(input_shape)}; "
                "give (batch, key) or (batch, seq, key)"
            )
        if attention_mask.dim() == 2 and self.config.is_decoder:
            attention_mask = self.create_extended_attention_mask_for_decoder(input_shape, attention_mask)
        return self.invert_attention_mask(attention_mask, dtype)

    @staticmethod
    def create_extended_attention_mask_for_decoder(
        input_shape: Sequence[int], attention_mask: Tensor, device: torch.device | None = None
    ) -> Tensor:
        """A causal mask of 1 and 0, (batch, 1, seq, key), of tokens that follow key - seq cached ones.

        Args:
            input_shape: (batch, seq).
            attention_mask: 1 and 0, (batch, key).
            device: ignored: the result is where the mask is.
        """
        seq, keys = input_shape[1], attention_mask.shape[1]
        key_index = torch.arange(keys, device=attention_mask.device)
        seen = key_index <= key_index[keys - seq :].reshape(-1, 1)  # (seq, key)
        return seen.to(attention_mask.dtype) * attention_mask[:, None, None, :]

    def invert_attention_mask(self, encoder_attention_mask: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """The term added to scores, (batch, 1, 1 or seq, key), from a mask of 1 and 0 of 2 to 4 dimensions."""
        mask = encoder_attention_mask
        if mask.dim() < 4:
            mask = mask[:, None, None, :] if mask.dim() == 2 else mask[:, None]
        dtype = self.dtype if dtype is None else dtype
        return (1.0 - mask.to(dtype)) * torch.finfo(dtype).min

    def get_head_mask(
        self, head_mask: Tensor | None, num_hidden_layers: int, is_attention_chunked: bool = False
    ) -> Tensor | list[None]:
        """A mask of heads for each layer.

        Args:
            head_mask: 1 to keep a head, (head,) or (layer, head).
            is_attention_chunked: add a dimension at the end.

        Returns:
            (layer, 1, head, 1, 1), in the model's dtype; of None a list of None.
        """
        if head_mask is None:
            return [None] * num_hidden_layers
        if head_mask.dim() not in (1, 2):
            raise ValueError(f"head_mask of shape {tuple(head_mask.shape)} does not fit; give (head,) or (layer, head)")
        rows = head_mask.expand(num_hidden_layers, -1).to(self.dtype)
        mask = rows.reshape(*rows.shape[:1], 1, -1, 1, 1)
        return mask.unsqueeze(-1) if is_attention_chunked else mask

    def warn_if_padding_and_no_attention_mask(self, input_ids: Tensor, attention_mask: Tensor | None) -> None:
        """Warn, once per process, where ids without a mask seem to be padded; the model's own call does so."""
        if attention_mask is None:
            warn_of_padding(input_ids, self.config)
