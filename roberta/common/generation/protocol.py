"""The base of `GenerationConfig`: it keeps any keyword, and has the small methods that programs call."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, ClassVar

from roberta.common.config import WritesJson
from roberta.common.keywords import warn_of_unknown

# Settings of transformers that are not here, with the value that changes no token, and what to do instead. `generate`
# refuses any other value, of a call or of a file.
NOT_SUPPORTED: dict[str, tuple[object, str]] = {
    "token_healing": (False, "leave the last token of the prompt out"),
    "watermarking_config": (
        None, "give its processor: logits_processor=[config.construct_processor(vocab_size, device)]"
    ),
    "dola_layers": (None, "omit it"),
    "constraints": (None, "allow what may follow with prefix_allowed_tokens_fn"),
    "force_words_ids": (None, "allow what may follow with prefix_allowed_tokens_fn"),
    "assistant_early_exit": (None, "give a smaller model as assistant_model"),
}  # fmt: skip

# Settings of transformers that change no token here: how memory is laid out, what is compiled, and what only
# encoder-decoders and assistants with another tokenizer have. They are kept, and written back.
WITHOUT_EFFECT: dict[str, object] = {
    "cache_implementation": None, "cache_config": None, "return_legacy_cache": None, "compile_config": None,
    "disable_compile": False, "low_memory": None, "prefill_chunk_size": None, "is_assistant": False,
    "num_assistant_tokens_schedule": "constant", "assistant_confidence_threshold": 0.4, "assistant_lookbehind": 10,
    "target_lookbehind": 10, "decoder_start_token_id": None,
}  # fmt: skip

# Attributes of transformers' config that are not fields here, with their defaults; other values are kept in `extra`.
_ATTRIBUTES: dict[str, object] = {
    **{name: neutral for name, (neutral, _) in NOT_SUPPORTED.items()},
    **WITHOUT_EFFECT,
    "transformers_version": None, "_commit_hash": None, "_from_model_config": False,
}  # fmt: skip

# Keys in which a file describes itself: they are not settings, and not kept.
OF_A_FILE = ("transformers_version", "_from_model_config", "_commit_hash", "_original_object_hash")

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


class GenerationProtocol(WritesJson):
    """The base of `GenerationConfig`: keywords, attributes and methods around its fields."""

    extra_output_flags: ClassVar[tuple[str, ...]] = (
        "output_attentions", "output_hidden_states", "output_scores", "output_logits"
    )  # fmt: skip
    extra: dict[str, Any]

    @classmethod
    @functools.cache
    def _defaults(cls) -> Mapping[str, Any]:
        """The default of every field, in order."""
        return {field.name: field.default for field in dataclasses.fields(cls) if field.name != "extra"}  # type: ignore[arg-type]

    def __init__(self, **settings: Any) -> None:
        """Every field by name; any other keyword is kept in `extra`, an attribute too, and written to the file."""
        extra = dict(settings.pop("extra", None) or {})
        for name, default in self._defaults().items():
            setattr(self, name, settings.pop(name, default))
        settings = {name: value for name, value in settings.items() if name not in OF_A_FILE}
        unknown = [name for name in settings if name not in _ATTRIBUTES]
        warn_of_unknown(type(self).__name__, unknown, {**self._defaults(), **_ATTRIBUTES})
        object.__setattr__(self, "extra", {**extra, **settings})
        self.validate()

    def __getattr__(self, name: str) -> Any:  # called only for missing names
        extra = vars(self).get("extra", {})
        if name in extra or name in _ATTRIBUTES:
            return extra.get(name, _ATTRIBUTES.get(name))
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}", name=name, obj=self)

    def __setattr__(self, name: str, value: object) -> None:
        if name in self._defaults():
            off = None if name in _OFF_AS_NONE else self._defaults()[name]
            object.__setattr__(self, name, off if value is None else _plain(value))
        elif name in vars(self) or name.startswith("_") or hasattr(type(self), name):
            object.__setattr__(self, name, value)
        else:
            self.extra[name] = value

    def __hash__(self) -> int:
        return hash(self.to_json_string())

    def update(self, **kwargs: Any) -> dict[str, Any]:
        """Set what the config has, fields and keys of `extra`; returns the arguments that it does not have.

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
        with warnings.catch_warnings(record=True) as idle:
            warnings.simplefilter("always")
            self.updated({name: getattr(self, name) for name in self._defaults()})
        if idle:
            raise ValueError("; ".join(str(warning.message) for warning in idle))

    def get_generation_mode(self, assistant_model: object = None) -> GenerationMode:
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


def _plain(value: object) -> object:
    """Numbers and ids of numpy, or of a framework's tensors, as those of Python; anything else as it is."""
    if isinstance(value, list | tuple):
        return tuple(map(_plain, value)) if isinstance(value, tuple) else list(map(_plain, value))
    if hasattr(value, "numpy") and callable(value.numpy) and not hasattr(value, "tolist"):
        value = value.numpy()
    return value.tolist() if hasattr(value, "tolist") else value
