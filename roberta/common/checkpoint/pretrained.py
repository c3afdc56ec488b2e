"""The part of the three `RobertaPreTrainedModel`s that needs no framework."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from roberta.common.adapters.live_adapters import LiveAdapters
from roberta.common.checkpoint.checkpoint import save_checkpoint
from roberta.common.checkpoint.loading import Pretrained, open_pretrained, preferred_formats
from roberta.common.checkpoint.sentence_note import note_lost_recipe
from roberta.common.config import CONFIG_FILE, RobertaConfig
from roberta.common.config_protocol import built_from
from roberta.common.formats.safetensors_file import Source
from roberta.common.generation.config import GENERATION_CONFIG_FILE
from roberta.common.outputs import BaseModelOutputWithPoolingAndCrossAttentions, ModelOutput
from roberta.common.parameters import Head
from roberta.common.storage.hub import PushesToHub, hub_options


class MakesOutput:
    """How a class answers: which outputs are wanted, and as what.

    Attributes:
        config: says what callers leave open.
    """

    config: RobertaConfig

    def or_config(self, value: bool | None, name: str) -> bool:
        """The caller's value, or the config's field of that name when it is None."""
        return bool(getattr(self.config, name) if value is None else value)

    def check_given(self, input_ids: object, inputs_embeds: object, encoder_hidden_states: object) -> None:
        """Raise `ValueError` for arguments of an encoder's call that do not fit each other or the config."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds, and not both")
        if encoder_hidden_states is not None and not self.config.add_cross_attention:
            raise ValueError(
                "encoder_hidden_states need cross-attention; make the model with "
                "RobertaConfig(is_decoder=True, add_cross_attention=True)"
            )

    def make_output(
        self,
        kind: type[ModelOutput],
        outputs: BaseModelOutputWithPoolingAndCrossAttentions,
        return_dict: bool | None,
        **fields: Any,
    ) -> Any:
        """A head's output with the encoder's hidden states and attentions, as an object or a tuple."""
        output = kind(**fields, hidden_states=outputs.hidden_states, attentions=outputs.attentions)
        return output if self.or_config(return_dict, "use_return_dict") else output.to_tuple()


class PretrainedBase(MakesOutput, LiveAdapters, PushesToHub):
    """What the seven classes of a backend share with those of the others.

    Attributes:
        config: the `RobertaConfig` the model was built from.
        head: which class this is, in the table of parameters.
        class_prefix: of the names of the backend's classes; a config names a class without it.
        older_format: the module of `formats` that writes the backend's older weights file.
    """

    head: ClassVar[Head | None]
    config_class = RobertaConfig
    base_model_prefix = "roberta"
    main_input_name = "input_ids"
    framework: str
    class_prefix = ""
    older_format: ModuleType

    @classmethod
    def config_to_build(cls, config: Any) -> RobertaConfig:
        """The config that a new model keeps.

        Raises:
            TypeError, ValueError: no model of this class can be built from it.
        """
        own = built_from(config, cls.__name__, cls.config_class)
        if cls.head == "ForQuestionAnswering" and own.num_labels != 2:
            raise ValueError(f"num_labels={own.num_labels}; question answering has 2, the start and the end")
        return own

    @classmethod
    def can_generate(cls) -> bool:
        """Whether the class has `generate`."""
        return hasattr(cls, "generate")

    # -- loading and saving --------------------------------------------------------------------------------------

    @classmethod
    def _open(cls, arguments: Mapping[str, Any], **own: Any) -> Pretrained:
        """Config and tensors, checked against the table, as the `locals()` of a backend's `from_pretrained` ask for.

        Args:
            own: further arguments of `open_pretrained`.
        """
        flags = {name: arguments[name] for name in ("from_pt", "from_tf", "from_flax") if name in arguments}
        return open_pretrained(
            arguments["pretrained_model_name_or_path"],
            cls.head,
            config=arguments["config"],
            overrides=arguments["config_overrides"],
            hub=hub_options(arguments),
            formats=preferred_formats(cls.framework, **flags, use_safetensors=arguments["use_safetensors"]),
            variant=arguments["variant"],
            config_class=cls.config_class,
            ignore_mismatched_sizes=arguments["ignore_mismatched_sizes"],
            is_reported=arguments["output_loading_info"],
            adapter=arguments["adapter"],
            **own,
        )

    def texts_to_save(self, dtype: str | None) -> dict[str, str]:
        """The text files beside the weights, by name: the config, and of a class that generates its defaults.

        Args:
            dtype: of the weights.
        """
        config = copy.deepcopy(self.config)
        config.architectures = [type(self).__name__.removeprefix(self.class_prefix)]
        config.dtype = dtype
        texts = {CONFIG_FILE: config.to_json_string()}
        if self.head == "ForCausalLM":
            texts[GENERATION_CONFIG_FILE] = self.generation_config.to_json_string()  # type: ignore[attr-defined]
        return texts

    def _write(
        self,
        folder: str | Path,
        files: tuple[Mapping[str, str], Mapping[str, Source]],
        max_shard_size: int | str,
        variant: str | None,
        safe_serialization: bool,
    ) -> None:
        """Write what `to_save` returned into a folder, all or nothing.

        Args:
            max_shard_size, variant, safe_serialization: as in `save_pretrained`.
        """
        texts, tensors = files
        older = None if safe_serialization else self.older_format
        save_checkpoint(folder, texts, tensors, max_shard_size=max_shard_size, variant=variant, legacy=older)
        if self.head == "Model":
            note_lost_recipe(self.config.name_or_path, Path(folder))

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

        The numbers are those of the model's own call on every real token; at padding they are 0. The first call
        prepares the weights for the machine (PyTorch, and other dtypes in TensorFlow), or traces programs (TensorFlow
        two or three, Flax at most eight, whatever the lengths); `release_infer` frees the memory. With
        `jax_compilation_cache_dir` set, JAX keeps its programs for the next process. Batches that only the model's own
        call can take (masks other than 0 and 1 or of pairs, relative positions) run through that.

        Args:
            batch: input_ids (rows, seq), multiple choice (rows, choices, seq), and if wanted attention_mask,
                token_type_ids and position_ids.
            where: bool, (rows, seq): the tokens whose results are wanted, of a class with results for each token.
            dtype: to compute in: the model's own, "float32" or "bfloat16" (fast only where the machine has it); in
                PyTorch "int8" too (projections only).
            batch_tokens: real tokens that go through the layers at a time, which bounds memory.

        Returns:
            "logits", "start_logits" and "end_logits", or "last_hidden_state" and "pooler_output": float64 of a model
            of float64, else float32. With `where`, results for each token are (tokens, ...), in the order of rows.

        Raises:
            ValueError: an input, `where`, `dtype` or `batch_tokens` is not possible; says which, and what is.
        """
        raise NotImplementedError

    def release_infer(self) -> None:
        """Free the memory that `infer` prepared; its next call makes it again."""
        raise NotImplementedError


def head_mask_error(shape: tuple[int, ...], config: RobertaConfig) -> ValueError:
    """The error for a head_mask whose shape is neither (head,) nor (layer, head)."""
    heads = config.num_attention_heads
    return ValueError(
        f"head_mask of shape {shape} does not fit; give ({heads},) or ({config.num_hidden_layers}, {heads})"
    )


def rows_wanted(now: int, new_num_tokens: int | None, pad_to_multiple_of: int | None) -> int:
    """The number of rows of an embedding after `resize_token_embeddings`.

    Args:
        now: rows that it has.

    Raises:
        ValueError: pad_to_multiple_of is not a positive int.
    """
    rows = now if new_num_tokens is None else new_num_tokens
    if pad_to_multiple_of is None:
        return rows
    if not isinstance(pad_to_multiple_of, int) or pad_to_multiple_of < 1:
        raise ValueError(f"pad_to_multiple_of={pad_to_multiple_of!r} must be an int of at least 1")
    return -(-rows // pad_to_multiple_of) * pad_to_multiple_of
