"""What scripts and tools ask of a PyTorch model: its sizes, where it is, what it can do. Names are those of transformers."""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from roberta.common.checkpoint.pretrained import PretrainedBase
from roberta.common.config import RobertaConfig
from roberta.common.parameters import Head
from roberta.common.values import another_name
from roberta.pt.losses import classification_loss, next_token_loss, span_loss, token_loss

_logger = logging.getLogger(__name__)


def causal_loss(
    logits: Tensor, labels: Tensor, vocab_size: int | None = None, num_items_in_batch: int | Tensor | None = None
) -> Tensor:
    """`losses.next_token_loss` under the arguments that transformers calls a loss with.

    Args:
        vocab_size: ignored: the logits say it.
    """
    return next_token_loss(logits, labels, num_items_in_batch)


# Head -> the loss of its call; an encoder has none.
LOSSES: dict[Head, Callable[..., Tensor]] = {
    "ForCausalLM": causal_loss, "ForMaskedLM": token_loss, "ForSequenceClassification": classification_loss,
    "ForMultipleChoice": token_loss, "ForTokenClassification": token_loss, "ForQuestionAnswering": span_loss,
}  # fmt: skip


class Facts(PretrainedBase, nn.Module):
    """Facts of a class and of a model; part of `RobertaPreTrainedModel`."""

    head: ClassVar[Head | None] = None
    config: RobertaConfig
    name_or_path: str
    warnings_issued: dict[str, bool]  # which code of others writes into

    # What tools read of a class.
    supports_gradient_checkpointing = True
    is_parallelizable = False
    supports_tp_plan = False
    supports_pp_plan = False
    tp_size: ClassVar[int | None] = None
    generation_config: Any = None  # of a class that generates, a `GenerationConfig`
    _generation_fields: Mapping[str, Any] | None = None
    model_tags: list[str] | None = None
    # modules that stay on one device when others split a model
    _no_split_modules: ClassVar[list[str]] = ["RobertaEmbeddings", "RobertaLayer"]
    # parameters that are another one under a second name, which `state_dict` leaves out
    _tied_weights_keys: ClassVar[list[str] | None] = None
    _keys_to_ignore_on_load_missing: ClassVar[list[str] | None] = None
    _keys_to_ignore_on_load_unexpected: ClassVar[list[str] | None] = None
    _keys_to_ignore_on_save: ClassVar[list[str] | None] = None
    _keep_in_fp32_modules: ClassVar[list[str] | None] = None
    _keep_in_fp32_modules_strict: ClassVar[list[str] | None] = None
    _supports_sdpa = True
    _supports_flash_attn = False
    _supports_flash_attn_2 = False
    _supports_flex_attn = False
    _supports_attention_backend = False
    _can_compile_fullgraph = False  # `generate` compiles nothing; `torch.compile(model, fullgraph=True)` works
    _is_stateful = False
    transformer_backbone_name = "roberta"  # which part peft gives the prefixes of prefix tuning
    _auto_class: ClassVar[str | None] = None

    @classmethod
    def is_backend_compatible(cls) -> bool:
        """Whether attention functions of other libraries can be put in: none can."""
        return cls._supports_attention_backend

    @classmethod
    def _can_set_attn_implementation(cls) -> bool:
        return True

    # -- of a model ----------------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the parameters."""
        return next(self.parameters()).dtype

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        """A small batch the model can run on."""
        return {"input_ids": torch.tensor([[0, 3, 2]]).expand(1, -1) % self.config.vocab_size}

    vocab_size = another_name("config.vocab_size")
    num_labels = another_name("config.num_labels")

    @property
    def loss_function(self) -> Callable[..., Tensor]:
        """The loss that the call computes from logits and labels, from `roberta.pt.losses`.

        Setting one replaces it in the causal language model: it is called with `logits`, `labels`, `vocab_size` and
        `num_items_in_batch`.
        """
        own = LOSSES.get(self.head) if self.head is not None else None
        given: Any = vars(self).get("_loss_function") or self._modules.get("loss_function")  # a function or a module
        found = own if given is None else given
        if found is None:
            raise AttributeError(f"{type(self).__name__} computes no loss")
        return found

    @loss_function.setter
    def loss_function(self, value: Callable[..., Tensor] | None) -> None:
        if self.head not in ("ForCausalLM", None):
            raise ValueError(
                f"the loss of {type(self).__name__} cannot be replaced; call the model without labels, and your own loss "
                "with its logits"
            )
        self._loss_function = value

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """Number of parameters, tied ones once."""
        skipped = {id(m.weight) for m in self.modules() if isinstance(m, nn.Embedding)} if exclude_embeddings else set()
        return sum(
            parameter.numel()
            for parameter in self.parameters()
            if id(parameter) not in skipped and (parameter.requires_grad or not only_trainable)
        )

    def get_memory_footprint(self, return_buffers: bool = True) -> int:
        """Bytes of the parameters, tied ones once, and of the buffers unless `return_buffers` is False."""
        tensors = [*self.parameters(), *(self.buffers() if return_buffers else ())]
        return sum(tensor.nelement() * tensor.element_size() for tensor in tensors)

    def estimate_tokens(self, input_dict: Mapping[str, Any]) -> int:
        """Number of tokens in a batch, padding included; 0, and one warning a model, where it has no ids."""
        ids = input_dict.get(self.main_input_name)
        if ids is not None:
            return int(ids.numel())
        if not self.warnings_issued.get("estimate_tokens"):
            _logger.warning("a batch without %s: its tokens and operations cannot be counted", self.main_input_name)
            self.warnings_issued["estimate_tokens"] = True
        return 0

    def floating_point_ops(self, input_dict: Mapping[str, Any], exclude_embeddings: bool = True) -> int:
        """About how many operations the forward and backward passes of a batch take: 6 a token and parameter.

        Source: Kaplan et al. 2020, "Scaling laws for neural language models", 2.1.
        """
        return 6 * self.estimate_tokens(input_dict) * self.num_parameters(exclude_embeddings=exclude_embeddings)

    def get_parameter_or_buffer(self, target: str) -> Tensor:
        """The parameter or buffer of that name.

        Raises:
            AttributeError: there is none.
        """
        for find in (self.get_parameter, self.get_buffer):
            try:
                return find(target)
            except AttributeError:
                continue
        raise AttributeError(
            f"{type(self).__name__} has no parameter or buffer {target!r}; named_parameters() lists them"
        )

    def retrieve_modules_from_names(
        self, names: Iterable[str], add_prefix: bool = False, remove_prefix: bool = False
    ) -> list[nn.Module]:
        """The modules whose parameters have these names.

        Args:
            add_prefix: the names have `base_model_prefix`, and the model's own have not.
            remove_prefix: the model's own have it, and the names have not.
        """
        owners = {name.rpartition(".")[0] for name in names}
        prefix = self.base_model_prefix

        def spelled(name: str) -> str:
            if remove_prefix:
                return name.removeprefix(f"{prefix}.")
            return f"{prefix}.{name}".rstrip(".") if add_prefix else name

        return [module for name, module in self.named_modules() if spelled(name) in owners]

    def add_model_tags(self, tags: list[str] | str) -> None:
        """Add to `model_tags`, each once; `push_to_hub` writes them into the model card."""
        given = [tags] if isinstance(tags, str) else tags
        self.model_tags = list(dict.fromkeys([*(self.model_tags or []), *given]))

    def get_decoder(self) -> nn.Module:
        """The part of the model that decodes: here the model itself."""
        return self
