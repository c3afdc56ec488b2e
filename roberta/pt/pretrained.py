"""The base of the PyTorch classes: loading, saving, initialisation, and changes of size."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, cast, overload

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree

from roberta.common.checkpoint.loading import (
    Pretrained,
    loading_info,
    report_to_user,
    resized,
)
from roberta.common.checkpoint.pretrained import rows_wanted
from roberta.common.checkpoint.saved_tensors import dtype_of
from roberta.common.config import RobertaConfig
from roberta.common.formats import torch_bin
from roberta.common.formats.safetensors_file import Source
from roberta.common.generation.config import GenerationConfig
from roberta.common.outputs import OUTPUTS
from roberta.common.parameters import Parameter, kind_of, parameters
from roberta.common.storage.hub import upload_later
from roberta.pt.checkpointing import Checkpointing
from roberta.pt.devices import loading_device
from roberta.pt.facts import LOSSES
from roberta.pt.infer import infer, release
from roberta.pt.layers import Attention, Layer, LMHead
from roberta.pt.masks import Masks
from roberta.pt.saving import to_write
from roberta.pt.sources import DeviceMap, own_arguments, stored_tensors, table_of
from roberta.pt.trainer_folders import follow_trainer
from roberta.pt.weights import as_state, native, tie_again, to_numpy, to_tensor

if TYPE_CHECKING:
    from roberta.pt.models import RobertaModel

for _output in OUTPUTS:
    # TorchScript would take it for a class of its own; `trace(strict=False)` has a dictionary
    torch.jit.ignore(_output)
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

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Leave the tensor of `Tensor.normal_` and of `torch.nn.init` as it is."""
        options = kwargs or {}
        if func in (Tensor.normal_, Tensor.uniform_) or getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else options["tensor"]
        return func(*args, **options)


class RobertaPreTrainedModel(Masks, Checkpointing):
    """What the seven classes share.

    Attributes:
        config: the `RobertaConfig` the model was built from.
        head: which class this is, in the table of parameters; None in your own subclass, whose encoder is
            `self.roberta = RobertaModel(config)` and which calls `self.post_init()` at the end of its constructor.
    """

    framework = "pt"
    older_format = torch_bin
    infer = infer
    release_infer = release

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__()
        config = self.config_to_build(config)
        if config.attn_implementation is None:
            config.attn_implementation = "sdpa"
        self.loss_type = self.head if self.head in LOSSES else None  # which Trainer reads
        self.warnings_issued = {}
        self.config = config
        self.name_or_path = config.name_or_path
        self.register_load_state_dict_post_hook(tie_again)
        follow_trainer(RobertaPreTrainedModel)

    # -- loading and saving --------------------------------------------------------------------------------------

    @overload
    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path | None,
        *model_args: Any,
        output_loading_info: Literal[True],
        **options: Any,
    ) -> tuple[Self, dict[str, Any]]: ...

    @overload
    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path | None, *model_args: Any, **options: Any
    ) -> Self: ...

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path | None,
        *model_args: Any,
        config: RobertaConfig | str | Path | None = None,
        state_dict: Mapping[str, Tensor] | None = None,
        dtype: str | torch.dtype | None = None,
        torch_dtype: str | torch.dtype | None = None,
        device_map: DeviceMap = None,
        generation_config: GenerationConfig | None = None,
        add_pooling_layer: bool = True,
        output_loading_info: bool = False,
        ignore_mismatched_sizes: bool = False,
        use_safetensors: bool | None = None,
        weights_only: bool = True,
        from_pt: bool = False,
        from_tf: bool = False,
        from_flax: bool = False,
        variant: str | None = None,
        revision: str = "main",
        subfolder: str = "",
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        adapter: str | Path | None = None,
        **config_overrides: Any,
    ) -> Any:
        """A model in eval mode from a folder, a weights file or a hub name, in any of the file formats.

        Values of a safetensors file of the same dtype stay on a private map of it until they are changed: replace such
        a file, as `save_pretrained` does, and do not write into it while the model lives.

        Args:
            pretrained_model_name_or_path: None takes `config` and `state_dict` alone.
            model_args: of the class, behind the config: of `RobertaModel`, add_pooling_layer.
            state_dict: tensors to take instead of those of the folder; they are copied.
            dtype: of the parameters: "float32" (default), "float64", "float16", "bfloat16", or "auto" for what the
                config or the file says. `torch_dtype` is its older name.
            device_map: where to load: "auto", a device, its name or number, or {"": device}; by default where PyTorch
                makes tensors (`torch.device` as a context, `torch.set_default_device`). Under "meta" no values are read.
            generation_config: what `generate` does by default, instead of the folder's.
            output_loading_info: return (model, {"missing_keys", "unexpected_keys", "mismatched_keys", ...}). What the
                file lacks, in the encoder too, is then reported and newly initialised.
            ignore_mismatched_sizes: initialise what has another shape in the file, instead of an error.
            use_safetensors, from_pt, from_tf, from_flax: which files to take; by default whatever is there.
            weights_only: ignored: no code in a file is ever run.
            config: instead of the one beside the weights, or where it is.
            adapter: folder or hub name of a LoRA adapter in PEFT's format, merged into the weights as they are read. An
                adapter in the model's own folder is merged too, and a folder with one alone names its base.
            config_overrides: fields of the config to replace; for your own subclass, also what its constructor takes.

        Raises:
            CheckpointError: one error for everything that does not fit; no partly filled model is returned.
        """
        # which arguments are the class's
        if cls.head == "Model" and model_args:
            add_pooling_layer, model_args = model_args[0], model_args[1:]
        options = own_arguments(cls, config_overrides) if cls.head is None else {}
        if cls.head == "Model":
            options["add_pooling_layer"] = add_pooling_layer
        device = loading_device(device_map)
        built: list[Any] = []

        def own_table(config: RobertaConfig) -> dict[str, Parameter]:
            built.append(cls(config, *model_args, **options))
            return table_of(built[0])

        # config and tensors, checked against the table
        wanted = dtype if dtype is not None else torch_dtype
        found = cls._open(
            locals(),
            has_pooler=add_pooling_layer if cls.head == "Model" else None,
            wanted_dtype=None if wanted is None else str(wanted),
            tensors=stored_tensors(state_dict),
            table=own_table,
        )
        # a model without memory, then its values
        found.config.dtype = found.dtype(None if wanted is None else str(wanted))
        target = getattr(torch, found.config.dtype)
        if cls.head is None:
            model: Any = built[0].to(target)
        else:
            with torch.device("meta"), NoDraws():  # no memory, no first values: they come from the file
                model = cls(found.config, *model_args, **options)
        model.fill(found, target, device)
        # what was missing or left over, and the model ready for use
        report_to_user(found.report, cls.__name__)
        if generation_config is not None and model.can_generate():
            model.generation_config = generation_config
        model = model.eval()
        return (model, loading_info(found.report)) if output_loading_info else model

    def fill(self, found: Pretrained, dtype: torch.dtype, device: torch.device | None) -> None:
        """Give a model that was just built its values: those found, and first values for the others."""
        place = torch.get_default_device() if device is None else device
        if self.can_generate():
            self._generation_fields = found.generation
        if place.type == "meta":
            self.to(device=place, dtype=dtype)
            return
        self.load_state_dict(as_state(found.match.found, dtype), strict=False, assign=True)
        self.fill_missing(dtype)
        if place.type != "cpu":
            self.to(place)
        if device is not None:
            self.hf_device_map = {"": device}  # where accelerate and Trainer look

    @classmethod
    def _from_config(
        cls,
        config: RobertaConfig,
        *,
        dtype: str | torch.dtype | None = None,
        torch_dtype: str | torch.dtype | None = None,
        attn_implementation: str | None = None,
        **options: Any,
    ) -> Self:
        """A new model with first values, as transformers' `AutoModel.from_config` calls for it.

        Args:
            dtype: of the parameters, by default that of the config. `torch_dtype` is its older name.
            attn_implementation: "sdpa" or "eager"; written into the config.
            options: of the class, such as add_pooling_layer.
        """
        if attn_implementation is not None:
            config.update({"attn_implementation": attn_implementation})
        wanted = next((value for value in (dtype, torch_dtype, config.dtype) if value is not None), None)
        before = torch.get_default_dtype()
        try:
            if wanted is not None:
                torch.set_default_dtype(getattr(torch, str(wanted).removeprefix("torch.")))
            return cls(config, **options)
        finally:
            torch.set_default_dtype(before)

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        is_main_process: bool = True,
        state_dict: Mapping[str, Tensor] | None = None,
        save_function: Callable[..., Any] = torch.save,
        push_to_hub: bool = False,
        max_shard_size: int | str = "5GB",
        safe_serialization: bool = True,
        variant: str | None = None,
        token: str | bool | None = None,
        save_peft_format: bool = True,
        **hub: Any,
    ) -> None:
        """Write config and weights into a folder, all or nothing; of a model with adapters, the active adapter alone.

        Args:
            is_main_process: False writes nothing: of several processes one saves.
            state_dict: saved instead of the model's own, such as one gathered from several devices.
            save_function: ignored for model.safetensors; pytorch_model.bin is written in the format of `torch.save` only.
            max_shard_size: bytes, or a text such as "500MB"; larger models are split into several files.
            safe_serialization: False writes pytorch_model.bin instead of model.safetensors.
            token: of the upload.
            save_peft_format: of an adapter, whether its names are those that peft loads (`save_adapter`).
            hub: with `push_to_hub`, the arguments of `push_to_hub`.

        Raises:
            ValueError: what would be loaded from the folder would not be this model, such as one with adapters that
                are not merged; names the tensors and the way out, and the folder stays as it is.
        """
        if push_to_hub and token is not None:
            hub["token"] = token
        upload = upload_later(save_directory, push_to_hub, hub)
        if not safe_serialization and not _is_torch_save(save_function):
            raise ValueError(
                f"save_function={save_function!r} is not supported with safe_serialization=False: the file is written in "
                "the format of torch.save; omit it"
            )
        if not is_main_process:
            return
        if self._hf_peft_config_loaded or self.saves_adapter:
            self.save_adapter(save_directory, state_dict, save_peft_format=save_peft_format)
        else:
            self._write(save_directory, self.to_save(state_dict), max_shard_size, variant, safe_serialization)
        upload()

    def to_save(self, state_dict: Mapping[str, Tensor] | None = None) -> tuple[dict[str, str], dict[str, Source]]:
        """What `save_pretrained` writes: the text files, and the tensors by canonical name, in PyTorch's shapes.

        Args:
            state_dict: instead of the model's own.

        Raises:
            ValueError: as `save_pretrained`.
        """
        tensors = to_write(self, state_dict)
        return self.texts_to_save(dtype_of(tensors)), tensors

    def adapter_table(self) -> Mapping[str, Parameter]:
        """The parameters of this model, by canonical name."""
        has_pooler = getattr(self.base_model, "pooler", None) is not None
        return table_of(self) if self.head is None else parameters(self.config, self.head, has_pooler=has_pooler)

    def read_weights(self, names: Iterable[str]) -> dict[str, np.ndarray]:
        """Copies of the values of parameters, by canonical name, in PyTorch's shapes."""
        table = native(self)
        return {name: np.array(to_numpy(table[name][0])) for name in names}

    @torch.no_grad()
    def write_weights(self, values: Mapping[str, np.ndarray]) -> None:
        """Give parameters these values; `infer` prepares its weights again."""
        table = native(self)
        for name, value in values.items():
            table[name][0].copy_(to_tensor(value.copy(), table[name][0].dtype))
        self.release_infer()

    # -- initialisation ------------------------------------------------------------------------------------------

    def post_init(self) -> None:
        """What the end of a constructor calls: `init_weights`, and gradient checkpointing if the config asks for it."""
        self.init_weights()
        if vars(self.config).get("gradient_checkpointing"):
            self.gradient_checkpointing_enable()
            del self.config.gradient_checkpointing  # of this model, never of a file

    def init_weights(self) -> None:
        """Draw the parameters of this class (those of `self.roberta` are drawn already) and tie what is tied."""
        self.initialize_weights()
        self.tie_weights()

    def initialize_weights(self) -> None:
        """Call `_init_weights` for each module of this class; those of `self.roberta` are drawn already."""
        drawn = set() if self.base_model is self else set(self.base_model.modules())
        for module in self.modules():
            if module not in drawn:
                self._init_weights(module)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Weights of projections and embeddings N(0, initializer_range), norms 1, biases 0, the padding rows 0.

        Modules of other kinds stay as they are; a class of your own may do otherwise.
        """
        if isinstance(module, nn.Linear | nn.Embedding):
            module.weight.normal_(0.0, self.config.initializer_range)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            module.weight[module.padding_idx] = 0.0
        if isinstance(module, nn.LayerNorm) and module.weight is not None:
            module.weight.fill_(1.0)
        if isinstance(module, nn.Linear | nn.LayerNorm) and module.bias is not None:
            module.bias.zero_()

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
        missing = {name for name, parameter in self.named_parameters() if parameter.is_meta}
        for name in missing:
            module, _, leaf = name.rpartition(".")
            shape = self.get_parameter(name).shape
            values = torch.empty(shape, dtype=dtype, device="cpu")  # `fill` moves them, with all others
            setattr(self.get_submodule(module), leaf, nn.Parameter(values))
        self.tie_weights()
        drawn = [name for name, _ in self.named_parameters() if name in missing]  # without those that are tied
        self.initialise(drawn)
        if type(self)._init_weights is not RobertaPreTrainedModel._init_weights:
            self._draw_again(drawn)

    @torch.no_grad()
    def _draw_again(self, names: list[str]) -> None:
        """First values by the `_init_weights` of a class of the caller's own; other parameters of a module stay."""
        for owner in dict.fromkeys(name.rpartition(".")[0] for name in names):
            module = self.get_submodule(owner)
            there = [
                p for leaf, p in module.named_parameters(recurse=False) if f"{owner}.{leaf}".strip(".") not in names
            ]
            values = [parameter.detach().clone() for parameter in there]
            self._init_weights(module)
            for parameter, value in zip(there, values, strict=True):
                parameter.copy_(value)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """What `to` and its like do to every tensor; what was tied stays so where PyTorch makes new parameters."""
        pairs = self._tied_pairs()
        result = super()._apply(fn, recurse)
        for (owner, leaf), (other, other_leaf) in pairs:
            setattr(owner, leaf, getattr(other, other_leaf))
        return result

    def _tied_pairs(self) -> list[tuple[tuple[nn.Module, str], tuple[nn.Module, str]]]:
        """The parameters of the LM head that are now a second name of another: (module, name) of both."""
        lm_head = getattr(self, "lm_head", None)
        if not isinstance(lm_head, LMHead) or type(lm_head.decoder) is not nn.Linear:
            return []
        words: Any = self.get_input_embeddings()
        pairs = [(lm_head.decoder, "bias", lm_head, "bias"), (lm_head.decoder, "weight", words, "weight")]
        return [
            ((owner, leaf), (other, name))
            for owner, leaf, other, name in pairs
            if getattr(owner, leaf) is getattr(other, name, None)
        ]

    def tie_embeddings_and_encoder_decoder(self) -> None:
        """Another name of `tie_weights`."""
        self.tie_weights()

    def tie_weights(self) -> None:
        """Make the LM head's matrix the word embedding, unless the config unties it, and its two biases one."""
        lm_head = getattr(self, "lm_head", None)
        if not isinstance(lm_head, LMHead):
            return
        lm_head.decoder.bias = lm_head.bias
        if self.config.tie_word_embeddings:
            lm_head.decoder.weight = self.get_input_embeddings().weight

    # -- embeddings ----------------------------------------------------------------------------------------------

    @property
    def base_model(self) -> "RobertaModel":
        """The encoder inside a head; a model without head is its own."""
        own: Any = self
        return getattr(self, "roberta", own)

    def get_input_embeddings(self) -> nn.Embedding:
        """The word embedding."""
        return self.base_model.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace the word embedding; call `tie_weights` to tie the LM head to the new one."""
        self.base_model.embeddings.word_embeddings = value

    def get_output_embeddings(self) -> nn.Linear | None:
        """The LM head's projection onto the vocabulary; None in other classes."""
        lm_head = getattr(self, "lm_head", None)
        return lm_head.decoder if isinstance(lm_head, LMHead) else None

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        """Replace the LM head's projection, its bias included."""
        lm_head = getattr(self, "lm_head", None)
        if lm_head is None:
            raise ValueError(f"{type(self).__name__} has no LM head")
        lm_head.decoder = new_embeddings
        lm_head.bias = new_embeddings.bias

    def get_position_embeddings(self) -> nn.Embedding:
        """Not supported, as in transformers' RoBERTa.

        Raises:
            NotImplementedError: says where the table is.
        """
        raise NotImplementedError("get_position_embeddings: take model.base_model.embeddings.position_embeddings")

    def resize_position_embeddings(self, new_num_position_embeddings: int) -> None:
        """Not supported, as in transformers' RoBERTa.

        Raises:
            NotImplementedError: says what to do.
        """
        raise NotImplementedError(
            f"resize_position_embeddings({new_num_position_embeddings}): load the model with "
            "from_pretrained(folder, max_position_embeddings=..., ignore_mismatched_sizes=True), copy the old rows into "
            "the new table, and train it"
        )

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
        rows = rows_wanted(self.get_input_embeddings().num_embeddings, new_num_tokens, pad_to_multiple_of)
        self.config.update_checked({"vocab_size": rows})
        embedding = self._resize_token_embeddings(rows, mean_resizing=mean_resizing)
        self.tie_weights()
        return embedding

    def _resize_token_embeddings(
        self, new_num_tokens: int | None, pad_to_multiple_of: int | None = None, mean_resizing: bool = True
    ) -> nn.Embedding:
        """Change the rows of the word embedding and of the LM head, and nothing of the config."""
        embedding = self.get_input_embeddings()
        rows = rows_wanted(embedding.num_embeddings, new_num_tokens, pad_to_multiple_of)
        if rows == embedding.num_embeddings:
            return embedding
        embedding.weight = self._resized("word_embeddings.weight", embedding.weight, rows, mean_resizing)
        embedding.num_embeddings = rows
        output = self.get_output_embeddings()
        if output is not None:
            lm_head: Any = self.lm_head
            output.bias = lm_head.bias = self._resized("lm_head.bias", lm_head.bias, rows, mean_resizing)
            output.out_features = rows
            if not self.config.tie_word_embeddings:
                output.weight = self._resized("lm_head.decoder.weight", output.weight, rows, mean_resizing)
        return embedding

    def _get_resized_embeddings(
        self,
        old_embeddings: nn.Embedding,
        new_num_tokens: int | None = None,
        pad_to_multiple_of: int | None = None,
        mean_resizing: bool = True,
    ) -> nn.Embedding:
        """A new embedding with other rows, the old ones first; the old one stays as it is."""
        rows = rows_wanted(old_embeddings.num_embeddings, new_num_tokens, pad_to_multiple_of)
        if rows == old_embeddings.num_embeddings:
            return old_embeddings
        weight = self._resized("word_embeddings.weight", old_embeddings.weight, rows, mean_resizing)
        return nn.Embedding(rows, weight.shape[1], padding_idx=old_embeddings.padding_idx, _weight=weight)

    def _resized(self, name: str, parameter: Tensor, rows: int, mean_resizing: bool) -> nn.Parameter:
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
        """Remove attention heads: {layer: [heads]}, numbered as before any pruning; saved with the config.

        A layer of -1 is the last. Heads that are pruned already are left out.
        """
        layers, all_heads = self.config.num_hidden_layers, range(self.config.num_attention_heads)
        wrong = [layer for layer in heads_to_prune if not -layers <= layer < layers]
        if wrong:
            raise ValueError(
                f"cannot prune layer {wrong[0]} of {layers}; layers are 0 to {layers - 1}, or -1 to {-layers}"
            )
        heads_to_prune = _by_layer(heads_to_prune, layers)
        pruned = _by_layer(self.config.pruned_heads, layers)
        present = {layer: [head for head in all_heads if head not in pruned.get(layer, ())] for layer in heads_to_prune}
        for layer, heads in heads_to_prune.items():  # all of them, before anything is cut
            if not set(heads) <= set(all_heads) or set(present[layer]) <= set(heads):
                raise ValueError(
                    f"cannot prune heads {sorted(heads)} of layer {layer}: it has {present[layer]}, and one must stay"
                )
        for layer, heads in heads_to_prune.items():
            kept = [index for index, head in enumerate(present[layer]) if head not in heads]
            _keep_heads(cast(Layer, self.base_model.encoder.layer[layer]).attention, kept, self.config.head_size)
            pruned[layer] = sorted({*pruned.get(layer, ()), *heads})
        self.config.pruned_heads = pruned

    def get_correct_attn_implementation(self, requested_attention: str | None, is_init_check: bool = False) -> str:
        """What attention is computed by: "sdpa" when nothing is asked for.

        Args:
            is_init_check: ignored.

        Raises:
            ValueError: neither "sdpa" nor "eager" is asked for.
        """
        wanted = "sdpa" if requested_attention is None else requested_attention
        if wanted not in ("sdpa", "eager"):
            raise ValueError(f'Specified `attn_implementation="{wanted}"` is not supported; give "sdpa" or "eager"')
        return wanted

    def set_attn_implementation(self, attn_implementation: str | dict[str, str]) -> None:
        """Switch between "sdpa" and "eager"; of a dictionary, the value of "" is taken."""
        by_part = attn_implementation if isinstance(attn_implementation, dict) else {"": attn_implementation}
        wanted = by_part.get("", self.config.attn_implementation)
        self.config.update_checked({"attn_implementation": self.get_correct_attn_implementation(wanted)})


def _by_layer(pruned: Mapping[int, Iterable[int]], layers: int) -> dict[int, list[int]]:
    """Heads by layer, counted from the first layer."""
    result: dict[int, set[int]] = {}
    for layer, heads in pruned.items():
        result.setdefault(layer % layers, set()).update(heads)
    return {layer: sorted(heads) for layer, heads in sorted(result.items())}


def _is_torch_save(function: Callable[..., Any]) -> bool:
    """Whether a function writes what `torch.save` does: itself, or accelerate's."""
    function = getattr(function, "__func__", function)
    return function is torch.save or getattr(function, "__module__", "").partition(".")[0] == "accelerate"


def _keep_heads(attention: Attention, kept: list[int], size: int) -> None:
    """Cut an attention's four projections down to the columns of the heads `kept`."""
    device = attention.output.dense.weight.device
    columns = torch.cat([torch.arange(head * size, (head + 1) * size, device=device) for head in kept])
    for dense in (attention.self.query, attention.self.key, attention.self.value):
        dense.weight = nn.Parameter(dense.weight.detach()[columns])
        dense.bias = nn.Parameter(dense.bias.detach()[columns])
        dense.out_features = len(columns)
    dense = attention.output.dense
    dense.weight = nn.Parameter(dense.weight.detach()[:, columns].contiguous())
    dense.in_features = len(columns)
