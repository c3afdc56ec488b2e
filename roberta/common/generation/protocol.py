"""What `GenerationConfig` has beside its settings: any keyword, kept, and the small methods that programs call."""

from __future__ import annotations

import dataclasses
import warnings
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar

from roberta.common.dtype_names import name_dtypes
from roberta.common.keywords import warn_of_unknown
from roberta.common.storage.hub import PushesToHub

# The settings of transformers 4.57 with their defaults; those that are no field here are read from and kept in `extra`.
SETTINGS: dict[str, Any] = {
    **dict.fromkeys(
        ("assistant_early_exit", "bad_words_ids", "begin_suppress_tokens", "bos_token_id", "cache_config",
         "cache_implementation", "compile_config", "constraints", "decoder_start_token_id", "dola_layers",
         "eos_token_id", "exponential_decay_length_penalty", "force_words_ids", "forced_bos_token_id",
         "forced_eos_token_id", "guidance_scale", "low_memory", "max_matching_ngram_size", "max_new_tokens", "max_time",
         "min_new_tokens", "min_p", "output_logits", "pad_token_id", "penalty_alpha", "prefill_chunk_size",
         "prompt_lookup_num_tokens", "return_legacy_cache", "sequence_bias", "stop_strings", "suppress_tokens",
         "watermarking_config", "transformers_version", "_commit_hash")
    ),
    **dict.fromkeys(
        ("disable_compile", "do_sample", "early_stopping", "is_assistant", "output_attentions",
         "output_hidden_states", "output_scores", "remove_invalid_values", "renormalize_logits",
         "return_dict_in_generate", "token_healing", "_from_model_config"),
        False,
    ),
    "assistant_confidence_threshold": 0.4, "assistant_lookbehind": 10, "diversity_penalty": 0.0,
    "encoder_no_repeat_ngram_size": 0, "encoder_repetition_penalty": 1.0, "epsilon_cutoff": 0.0, "eta_cutoff": 0.0,
    "length_penalty": 1.0, "max_length": 20, "min_length": 0, "no_repeat_ngram_size": 0, "num_assistant_tokens": 20,
    "num_assistant_tokens_schedule": "constant", "num_beam_groups": 1, "num_beams": 1, "num_return_sequences": 1,
    "repetition_penalty": 1.0, "target_lookbehind": 10, "temperature": 1.0, "top_k": 50, "top_p": 1.0,
    "typical_p": 1.0, "use_cache": True,
}  # fmt: skip


# Fields that are off where they are None; elsewhere None stands for the default.
_OFF_AS_NONE = ("temperature", "top_k", "top_p", "typical_p")


class GenerationMode(StrEnum):
    """What a generation config asks for; each equals its text, and transformers' mode of that name."""

    CONTRASTIVE_SEARCH = "contrastive_search"
    GREEDY_SEARCH = "greedy_search"
    SAMPLE = "sample"
    ASSISTED_GENERATION = "assisted_generation"
    DOLA_GENERATION = "dola_generation"
    BEAM_SEARCH = "beam_search"
    BEAM_SAMPLE = "beam_sample"
    CONSTRAINED_BEAM_SEARCH = "constrained_beam_search"
    GROUP_BEAM_SEARCH = "group_beam_search"


class GenerationProtocol(PushesToHub):
    """The base of `GenerationConfig`: keywords, attributes and methods around its fields."""

    extra_output_flags: ClassVar[tuple[str, ...]] = (
        "output_attentions", "output_hidden_states", "output_scores", "output_logits"
    )  # fmt: skip
    extra: dict[str, Any]

    def __init__(self, **settings: Any) -> None:
        """Every field by name; any other keyword is kept in `extra`, an attribute too, and written to the file."""
        extra = dict(settings.pop("extra", None) or {})
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            if field.name != "extra":
                setattr(self, field.name, settings.pop(field.name, field.default))
        settings = {name: value for name, value in settings.items() if name not in _OF_A_FILE}
        unknown = [name for name in settings if name not in SETTINGS]
        warn_of_unknown(type(self).__name__, unknown, SETTINGS)
        object.__setattr__(self, "extra", {**extra, **settings})
        self.validate()

    def __getattr__(self, name: str) -> Any:  # called for a name that is not there
        extra = vars(self).get("extra", {})
        if name in extra or name in SETTINGS:
            return extra.get(name, SETTINGS.get(name))
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}", name=name, obj=self)

    def __setattr__(self, name: str, value: Any) -> None:
        field = type(self).__dataclass_fields__.get(name)  # type: ignore[attr-defined]
        if field is not None and name != "extra":
            off = None if name in _OFF_AS_NONE else field.default
            object.__setattr__(self, name, off if value is None else plain(value))
        elif name in vars(self) or name.startswith("_") or hasattr(type(self), name):
            object.__setattr__(self, name, value)
        else:
            self.extra[name] = value

    def __hash__(self) -> int:
        return hash(self.to_json_string())

    def update(self, **kwargs: Any) -> dict[str, Any]:
        """Set what the config has, fields and keys of `extra`; returns the arguments that it has not.

        Raises:
            ValueError: the new values cannot work; then none is set.
        """
        unused = {name: value for name, value in kwargs.items() if not hasattr(self, name)}
        before, extra = dict(vars(self)), dict(self.extra)
        try:
            for name in kwargs.keys() - unused.keys():
                setattr(self, name, kwargs[name])
            self.validate()
        except ValueError:
            vars(self).update(before, extra=extra)
            raise
        return unused

    def refuse_idle(self) -> None:
        """Raise `ValueError` for settings that do nothing beside the others."""
        fields = [field for field in dataclasses.fields(self) if field.name != "extra"]  # type: ignore[arg-type]
        values = {field.name: getattr(self, field.name) for field in fields}
        with warnings.catch_warnings(record=True) as idle:
            warnings.simplefilter("always")
            self.updated(values)
        if idle:
            raise ValueError("; ".join(str(warning.message) for warning in idle))

    def get_generation_mode(self, assistant_model: Any = None) -> GenerationMode:
        """The way of choosing tokens that the settings ask for.

        Args:
            assistant_model: as given to `generate`.
        """
        if self.constraints is not None or self.force_words_ids is not None:
            return GenerationMode.CONSTRAINED_BEAM_SEARCH
        if self.num_beams > 1:
            if self.num_beam_groups > 1:
                return GenerationMode.GROUP_BEAM_SEARCH
            return GenerationMode.BEAM_SAMPLE if self.do_sample else GenerationMode.BEAM_SEARCH
        if not self.do_sample and (self.penalty_alpha or 0) > 0 and (self.top_k or 0) > 1:
            return GenerationMode.CONTRASTIVE_SEARCH
        if self.dola_layers is not None:
            return GenerationMode.DOLA_GENERATION
        helps = (assistant_model, self.prompt_lookup_num_tokens, self.assistant_early_exit)
        if any(help is not None for help in helps):
            return GenerationMode.ASSISTED_GENERATION
        return GenerationMode.SAMPLE if self.do_sample else GenerationMode.GREEDY_SEARCH

    def to_json_file(self, json_file_path: str | Path, use_diff: bool = True) -> None:
        """Write `to_json_string` to a file."""
        text = self.to_json_string(use_diff)
        Path(json_file_path).write_text(text, encoding="utf-8")

    def dict_dtype_to_str(self, d: dict[str, Any]) -> None:
        """Replace each "dtype" in a dictionary, and in those inside it, by its name, which JSON can hold."""
        name_dtypes(d)


def plain(value: Any) -> Any:
    """Numbers and ids of numpy, or of a framework's tensors, as those of Python; anything else as it is."""
    if isinstance(value, list | tuple):
        return tuple(map(plain, value)) if isinstance(value, tuple) else list(map(plain, value))
    if callable(getattr(value, "numpy", None)) and not hasattr(value, "tolist"):
        value = value.numpy()
    return value.tolist() if hasattr(value, "tolist") else value


_OF_A_FILE = ("transformers_version", "_from_model_config", "_commit_hash", "_original_object_hash")
