"""The base of the PyTorch classes: loading, saving, initialisation, and changes of size."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, overload

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree

from roberta.common.checkpoint import save_checkpoint
from roberta.common.config import CONFIG_FILE, RobertaConfig
from roberta.common.config_protocol import built_from
from roberta.common.generation import GENERATION_CONFIG_FILE
from roberta.common.hub import PushesToHub, upload_arguments, upload_folder
from roberta.common.loading import (
    HubOptions,
    loading_info,
    open_pretrained,
    preferred_formats,
    report_to_user,
    resized,
)
from roberta.common.outputs import OUTPUTS, BaseModelOutputWithPoolingAndCrossAttentions, ModelOutput
from roberta.common.parameters import Head, kind_of
from roberta.common.safetensors_file import Source
from roberta.common.saving import dtype_of
from roberta.pt import legacy
from roberta.pt.infer import infer, release
from roberta.pt.layers import Attention, Encoder
from roberta.pt.saving import to_write
from roberta.pt.weights import as_state, tie_again, to_numpy

for _output in OUTPUTS:
    _pytree.register_pytree_node(
        _output,
        lambda output: (list(output.values()), (type(output), tuple(output))),
        lambda values, context: context[0](zip(context[1], values, strict=True)),
        serialized_type_name=f"roberta.{_output.__name__}",
        to_dumpable_context=lambda context: [context[0].__name__, list(context[1])],
        from_dumpable_context=lambda dumped: (
            next(output for output in OUTPUTS if output.__name__ == dumped[0]),
            tuple(dumped[1]),
        ),
    )


class NoDraws(TorchFunctionMode):
    """While it lasts no values are drawn: on the meta device that would compute nothing, and import all of Dynamo."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        """Leave the tensor of `Tensor.normal_` and of `torch.nn.init` as it is."""
        options = kwargs or {}
        if func in (Tensor.normal_, Tensor.uniform_) or getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else options["tensor"]
        return func(*args, **options)


class RobertaPreTrainedModel(PushesToHub, nn.Module):
    """What the seven classes share.

    Attributes:
        config: the `RobertaConfig` the model was built from.
        head: which class this is, in the table of parameters.
    """

    head: ClassVar[Head]
    config_class = RobertaConfig
    base_model_prefix = "roberta"
    main_input_name = "input_ids"
    framework = "pt"

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__()
        config = built_from(config, type(self).__name__)
        if self.head == "ForQuestionAnswering" and config.num_labels != 2:
            raise ValueError(f"num_labels={config.num_labels}; question answering has 2, the start and the end")
        self.config = config
        self.name_or_path = config.name_or_path
        self.register_load_state_dict_post_hook(tie_again)

    # -- loading and saving --------------------------------------------------------------------------------------

    @overload
    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, *, output_loading_info: Literal[True], **options: Any
    ) -> tuple[Self, dict[str, Any]]: ...

    @overload
    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Self: ...

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        config: RobertaConfig | str | Path | None = None,
        dtype: str | torch.dtype | None = None,
        torch_dtype: str | torch.dtype | None = None,
        add_pooling_layer: bool = True,
        output_loading_info: bool = False,
        ignore_mismatched_sizes: bool = False,
        use_safetensors: bool | None = None,
        from_tf: bool = False,
        from_flax: bool = False,
        variant: str | None = None,
        revision: str = "main",
        subfolder: str = "",
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        **config_overrides: Any,
    ) -> Any:
        """A model in eval mode from a folder, a weights file or a hub name, in any of the file formats.

        Values of a safetensors file of the same dtype stay on a private map of it until they are changed: replace such
        a file, as `save_pretrained` does, and do not write into it while the model lives.

        Args:
            dtype: of the parameters: "float32" (default), "float64", "float16", "bfloat16", or "auto" for what the
                config or the file says. `torch_dtype` is its older name.
            output_loading_info: return (model, {"missing_keys", "unexpected_keys", "mismatched_keys", ...}).
            ignore_mismatched_sizes: initialise what has another shape in the file, instead of an error.
            use_safetensors, from_tf, from_flax: which files to take; by default whatever is there.
            config: instead of the one beside the weights, or where it is.
            config_overrides: fields of the config to replace.

        Raises:
            CheckpointError: one error for everything that does not fit; no partly filled model is returned.
        """
        hub = HubOptions(
            revision=revision, subfolder=subfolder, cache_dir=cache_dir, force_download=force_download,
            local_files_only=local_files_only, token=token,
        )  # fmt: skip
        options = {} if cls.head != "Model" else {"add_pooling_layer": add_pooling_layer}
        found = open_pretrained(
            pretrained_model_name_or_path,
            cls.head,
            config=config,
            overrides=config_overrides,
            hub=hub,
            formats=preferred_formats("pt", from_tf=from_tf, from_flax=from_flax, use_safetensors=use_safetensors),
            variant=variant,
            has_pooler=add_pooling_layer if cls.head == "Model" else None,
            ignore_mismatched_sizes=ignore_mismatched_sizes,
        )
        wanted = dtype if dtype is not None else torch_dtype
        target = getattr(torch, found.dtype(None if wanted is None else str(wanted)))
        with torch.device("meta"), NoDraws():  # no memory, no first values: they come from the file
            model = cls(found.config, **options)
        model._generation_fields = found.generation
        model.load_state_dict(as_state(found.match.found, target), strict=False, assign=True)
        model.fill_missing(target)
        report_to_user(found.report, cls.__name__)
        model = model.eval()
        return (model, loading_info(found.report)) if output_loading_info else model

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        is_main_process: bool = True,
        state_dict: Mapping[str, Tensor] | None = None,
        max_shard_size: int | str = "5GB",
        safe_serialization: bool = True,
        variant: str | None = None,
        push_to_hub: bool = False,
        **hub: Any,
    ) -> None:
        """Write config and weights into a folder, all or nothing.

        Args:
            is_main_process: False writes nothing: of several processes one saves.
            state_dict: saved instead of the model's own, such as one gathered from several devices.
            max_shard_size: bytes, or a text such as "500MB"; larger models are split into several files.
            safe_serialization: False writes pytorch_model.bin instead of model.safetensors.
            hub: with `push_to_hub`, the arguments of `push_to_hub`.

        Raises:
            ValueError: what would be loaded from the folder would not be this model, such as one with adapters that
                are not merged; names the tensors and the way out, and the folder stays as it is.
        """
        upload = upload_arguments(save_directory, push_to_hub, hub)
        if not is_main_process:
            return
        texts, tensors = self.to_save(state_dict)
        save_checkpoint(
            save_directory,
            texts,
            tensors,
            max_shard_size=max_shard_size,
            variant=variant,
            legacy=None if safe_serialization else legacy,
        )
        if upload is not None:
            upload_folder(save_directory, **upload)

    def to_save(self, state_dict: Mapping[str, Tensor] | None = None) -> tuple[dict[str, str], dict[str, Source]]:
        """What `save_pretrained` writes: the text files, and the tensors by canonical name, in PyTorch's shapes.

        Args:
            state_dict: instead of the model's own.

        Raises:
            ValueError: as `save_pretrained`.
        """
        tensors = to_write(self, state_dict)
        config = copy.deepcopy(self.config)
        config.architectures = [type(self).__name__]
        config.dtype = dtype_of(tensors)
        texts = {CONFIG_FILE: config.to_json_string()}
        if self.head == "ForCausalLM":
            texts[GENERATION_CONFIG_FILE] = self.generation_config.to_json_string()
        return texts, tensors

    # -- initialisation ------------------------------------------------------------------------------------------

    def post_init(self) -> None:
        """Draw the parameters of this class (those of `self.roberta` are drawn already) and tie what is tied."""
        names = [name for name, _ in self.named_parameters() if not name.startswith("roberta.")]
        self.initialise(names)
        self.tie_weights()

    def initialise(self, names: list[str]) -> None:
        """Weights N(0, initializer_range), norms 1, biases 0, the padding rows 0."""
        for name in names:
            parameter, kind = self.get_parameter(name), kind_of(name)
            with torch.no_grad():
                if kind in ("dense", "embedding"):
                    parameter.normal_(0.0, self.config.initializer_range)
                else:
                    parameter.fill_(1.0 if kind == "norm" else 0.0)
                if name.endswith(("word_embeddings.weight", "position_embeddings.weight")):
                    parameter[self.config.pad_token_id] = 0.0

    def fill_missing(self, dtype: torch.dtype) -> None:
        """Give memory and first values to the parameters no file had, then tie."""
        missing = [name for name, parameter in self.named_parameters() if parameter.is_meta]
        for name in missing:
            module, _, leaf = name.rpartition(".")
            shape = self.get_parameter(name).shape
            setattr(self.get_submodule(module), leaf, nn.Parameter(torch.empty(shape, dtype=dtype)))
        self.tie_weights()
        self.initialise([name for name in missing if not name.startswith("lm_head.decoder")])

    def tie_weights(self) -> None:
        """Make the LM head's matrix the word embedding, unless the config unties it, and its two biases one."""
        lm_head = getattr(self, "lm_head", None)
        if lm_head is None:
            return
        lm_head.decoder.bias = lm_head.bias
        if self.config.tie_word_embeddings:
            lm_head.decoder.weight = self.get_input_embeddings().weight

    # -- embeddings ----------------------------------------------------------------------------------------------

    @property
    def base_model(self) -> "RobertaPreTrainedModel":
        """The encoder inside a head; a model without head is its own."""
        return getattr(self, "roberta", self)

    def get_input_embeddings(self) -> nn.Embedding:
        """The word embedding."""
        return self.base_model.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace the word embedding; call `tie_weights` to tie the LM head to the new one."""
        self.base_model.embeddings.word_embeddings = value

    def get_output_embeddings(self) -> nn.Linear | None:
        """The LM head's projection onto the vocabulary; None in other classes."""
        lm_head = getattr(self, "lm_head", None)
        return None if lm_head is None else lm_head.decoder

    def set_output_embeddings(self, value: nn.Linear) -> None:
        """Replace the LM head's projection, its bias included."""
        if getattr(self, "lm_head", None) is None:
            raise ValueError(f"{type(self).__name__} has no LM head")
        self.lm_head.decoder = value
        self.lm_head.bias = value.bias

    def resize_token_embeddings(
        self,
        new_num_tokens: int | None = None,
        pad_to_multiple_of: int | None = None,
        mean_resizing: bool = True,
    ) -> nn.Embedding:
        """Change the size of the vocabulary; returns the word embedding.

        Old rows stay. New rows are drawn around the mean of the old (`loading.resized`), or N(0, initializer_range)
        without `mean_resizing`; new biases are 0.
        """
        embedding = self.get_input_embeddings()
        rows = embedding.num_embeddings if new_num_tokens is None else new_num_tokens
        if pad_to_multiple_of is not None:
            rows = -(-rows // pad_to_multiple_of) * pad_to_multiple_of
        if rows == embedding.num_embeddings:
            return embedding
        self.config.update_checked({"vocab_size": rows})
        embedding.weight = self._resized("word_embeddings.weight", embedding.weight, rows, mean_resizing)
        embedding.num_embeddings = rows
        output = self.get_output_embeddings()
        if output is not None:
            self.lm_head.bias = self._resized("lm_head.bias", self.lm_head.bias, rows, mean_resizing)
            output.out_features = rows
            if not self.config.tie_word_embeddings:
                output.weight = self._resized("lm_head.decoder.weight", output.weight, rows, mean_resizing)
            self.tie_weights()
        return embedding

    def _resized(self, name: str, parameter: nn.Parameter, rows: int, mean_resizing: bool) -> nn.Parameter:
        old = parameter.shape[0]
        values = torch.from_numpy(
            resized(to_numpy(parameter.float() if parameter.dtype == torch.bfloat16 else parameter), rows, name)
        )
        values = values.to(parameter)
        if not mean_resizing and parameter.dim() == 2:
            values[old:] = torch.randn_like(values[old:]) * self.config.initializer_range
        return nn.Parameter(values, requires_grad=parameter.requires_grad)

    # -- attention -----------------------------------------------------------------------------------------------

    def prune_heads(self, heads_to_prune: dict[int, list[int]]) -> None:
        """Remove attention heads: {layer: [heads]}, numbered as before any pruning; saved with the config."""
        pruned, all_heads = self.config.pruned_heads, range(self.config.num_attention_heads)
        present = {layer: [head for head in all_heads if head not in pruned.get(layer, ())] for layer in heads_to_prune}
        for layer, heads in heads_to_prune.items():  # all of them, before anything is cut
            if layer not in range(self.config.num_hidden_layers):
                raise ValueError(f"cannot prune layer {layer} of {self.config.num_hidden_layers}")
            if not set(heads) <= set(all_heads) or set(present[layer]) <= set(heads):
                raise ValueError(
                    f"cannot prune heads {sorted(heads)} of layer {layer}: it has {present[layer]}, and one must stay"
                )
        for layer, heads in heads_to_prune.items():
            kept = [index for index, head in enumerate(present[layer]) if head not in heads]
            _keep_heads(self.base_model.encoder.layer[layer].attention, kept, self.config.head_size)
            pruned[layer] = sorted({*pruned.get(layer, ()), *heads})

    def set_attn_implementation(self, attn_implementation: str) -> None:
        """Switch between "sdpa" and "eager"."""
        self.config.update_checked({"attn_implementation": attn_implementation})

    # -- inference -----------------------------------------------------------------------------------------------

    def infer(
        self,
        batch: Mapping[str, np.ndarray],
        *,
        where: np.ndarray | None = None,
        dtype: str | None = None,
        batch_tokens: int = 1024,
    ) -> dict[str, np.ndarray]:
        """The results of a batch of any size, by the fastest way this framework has: numpy in, numpy out, no dropout.

        The numbers are those of `forward` on every real token; at padding they are 0. The first call lays the weights
        out anew for the machine, which takes memory; `release_infer` frees it.

        Args:
            batch: input_ids (rows, seq), multiple choice (rows, choices, seq), and if wanted attention_mask,
                token_type_ids and position_ids.
            where: bool, (rows, seq): the tokens whose results are wanted, of a class with results for each token.
            dtype: to compute in: the model's own, "float32", "bfloat16" or "int8" (projections only).
            batch_tokens: real tokens that go through the layers at a time, which bounds memory.

        Returns:
            "logits", "start_logits" and "end_logits", or "last_hidden_state" and "pooler_output": float64 of a model
            of float64, else float32. With `where`, results for each token are (tokens, ...), in the order of rows.

        Raises:
            ValueError: an input, `where`, `dtype` or `batch_tokens` cannot be; says which, and what can.
        """
        return infer(self, batch, where, dtype, batch_tokens)

    def release_infer(self) -> None:
        """Free the weights that `infer` laid out; its next call makes them again."""
        release(self)

    # -- training ------------------------------------------------------------------------------------------------

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: dict[str, Any] | None = None) -> None:
        """Keep only each layer's input for the backward pass and compute the rest again: less memory, more time.

        Args:
            gradient_checkpointing_kwargs: arguments of `torch.utils.checkpoint.checkpoint`; by default
                {"use_reentrant": False}.
        """
        encoder = self.base_model.encoder
        encoder.gradient_checkpointing = True
        encoder.checkpoint_options = {"use_reentrant": False, **(gradient_checkpointing_kwargs or {})}

    def gradient_checkpointing_disable(self) -> None:
        """Undo `gradient_checkpointing_enable`."""
        self.base_model.encoder.gradient_checkpointing = False

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether gradient checkpointing is on."""
        return any(module.gradient_checkpointing for module in self.modules() if isinstance(module, Encoder))

    # -- facts ---------------------------------------------------------------------------------------------------

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

    def can_generate(self) -> bool:
        """Whether the class has `generate`."""
        return hasattr(self, "generate")

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """Number of parameters, tied ones once."""
        skipped = {id(m.weight) for m in self.modules() if isinstance(m, nn.Embedding)} if exclude_embeddings else set()
        return sum(
            parameter.numel()
            for parameter in self.parameters()
            if id(parameter) not in skipped and (parameter.requires_grad or not only_trainable)
        )

    # -- what the heads use --------------------------------------------------------------------------------------

    def choose(self, value: bool | None, name: str) -> bool:
        """The caller's value, or the config's field of that name when it is None."""
        return bool(getattr(self.config, name) if value is None else value)

    def finish(
        self,
        kind: type[ModelOutput],
        outputs: BaseModelOutputWithPoolingAndCrossAttentions,
        return_dict: bool | None,
        **fields: Tensor | None,
    ) -> Any:
        """A head's output with the encoder's hidden states and attentions, as an object or a tuple."""
        output = kind(**fields, hidden_states=outputs.hidden_states, attentions=outputs.attentions)
        return output if self.choose(return_dict, "use_return_dict") else output.to_tuple()


def _keep_heads(attention: Attention, kept: list[int], size: int) -> None:
    """Cut an attention's four projections down to the columns of the heads `kept`."""
    columns = torch.cat([torch.arange(head * size, (head + 1) * size) for head in kept])
    for dense in (attention.self.query, attention.self.key, attention.self.value):
        dense.weight = nn.Parameter(dense.weight.detach()[columns])
        dense.bias = nn.Parameter(dense.bias.detach()[columns])
        dense.out_features = len(columns)
    dense = attention.output.dense
    dense.weight = nn.Parameter(dense.weight.detach()[:, columns].contiguous())
    dense.in_features = len(columns)
