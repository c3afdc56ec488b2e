"""GenerationConfig, its `generation_config.json`, and what `generate` returns; `search` does the decoding."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from roberta.common.config import RobertaConfig, read_json
from roberta.common.generation.processors import as_list, pairs
from roberta.common.generation.protocol import NOT_SUPPORTED, OF_A_FILE, WITHOUT_EFFECT, GenerationProtocol
from roberta.common.keywords import meaningful, warn_of_unknown
from roberta.common.outputs import ModelOutput
from roberta.common.storage.folders import CheckpointError, write_folder
from roberta.common.storage.hub import hub_options, local_folder, upload_later
from roberta.common.values import is_int, is_number

GENERATION_CONFIG_FILE = "generation_config.json"

# Settings that do nothing unless another one is set.
_NEEDS: dict[str, str] = {
    "max_length": "max_new_tokens=None",
    **dict.fromkeys(("temperature", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff"), "do_sample=True"),
    "top_k": "do_sample=True or penalty_alpha",
    **dict.fromkeys(("length_penalty", "early_stopping", "num_beam_groups"), "num_beams > 1"),
    "diversity_penalty": "num_beam_groups > 1",
    **dict.fromkeys(
        ("output_scores", "output_logits", "output_attentions", "output_hidden_states"),
        "return_dict_in_generate=True",
    ),
}
_TOKEN_IDS = ("pad_token_id", "bos_token_id", "eos_token_id")


def _or_none(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or holds(value)


def _are_ids(value: object) -> bool:
    return isinstance(value, list | tuple) and all(is_int(token, 0) for token in value)


def _is_decay(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(is_number, value))


def _are_words(value: object) -> bool:
    return isinstance(value, list | tuple) and all(_are_ids(word) and word for word in value)


# What holds for the value of a field by itself, the rule in words, and the fields that it is for.
_RULES: tuple[tuple[Callable[[Any], bool], str, tuple[str, ...]], ...] = (
    (lambda value: is_int(value, 1), "must be an int of at least 1",
     ("max_length", "num_beams", "num_return_sequences", "num_beam_groups", "num_assistant_tokens")),
    (lambda value: is_int(value, 0), "must be an int of at least 0",
     ("min_length", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size")),
    (_or_none(lambda value: is_int(value, 1)), "must be an int of at least 1, or None",
     ("max_new_tokens", "prompt_lookup_num_tokens", "max_matching_ngram_size")),
    (_or_none(lambda value: is_int(value, 0)), "must be an int of at least 0, or None", ("min_new_tokens",)),
    (lambda value: isinstance(value, bool), "must be True or False",
     ("do_sample", "use_cache", "output_scores", "output_attentions", "output_hidden_states", "return_dict_in_generate",
      "remove_invalid_values", "renormalize_logits")),
    (lambda value: isinstance(value, bool) or value == "never", 'must be True, False or "never"', ("early_stopping",)),
    (_or_none(is_number), "must be a number, or None", ("temperature", "top_p", "guidance_scale", "max_time")),
    (_or_none(lambda value: isinstance(value, int)), "must be an int, or None", ("top_k",)),
    (lambda value: is_number(value) and value > 0, "must be a number above 0; 1 is off",
     ("repetition_penalty", "encoder_repetition_penalty")),
    (is_number, "must be a number; 0 is off", ("length_penalty", "diversity_penalty")),
    (_or_none(lambda value: is_number(value) and 0 <= value <= 1), "must be a number from 0 to 1, or None",
     ("penalty_alpha", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")),
    (_or_none(_is_decay), "must be a pair (start, factor) such as (10, 1.05), or None",
     ("exponential_decay_length_penalty",)),
    (_or_none(lambda value: is_int(value, -1)), "must be a token id, or None", ("pad_token_id", "bos_token_id")),
    (lambda value: all(is_int(token, -1) for token in as_list(value)),
     "must be a token id, a list of them, or None", ("eos_token_id",)),
    (_or_none(_are_ids), "must be a list of token ids, or None", ("suppress_tokens", "begin_suppress_tokens")),
    (_or_none(_are_words), "must be a list of lists of token ids, one list a word, or None", ("bad_words_ids",)),
)  # fmt: skip


class UnknownSettingError(TypeError, ValueError):
    """A keyword of `generate` that is neither a setting nor an argument of the model's call; transformers raises
    `ValueError`.
    """


@dataclass(init=False)
class GenerationConfig(GenerationProtocol):
    """How `generate` chooses tokens. Names, defaults and file are those of transformers 4.57.

    Args:
        max_new_tokens: how many tokens to add; or `max_length`, prompt and new tokens together. Neither (or a
            `max_length` of 20, the default) means 20 new tokens, or fewer where the model's length ends.
        min_new_tokens, min_length: no end token before that many tokens, counted likewise.
        do_sample: draw tokens instead of taking the best, after `temperature`, `top_k` (0: off) and `top_p`.
        num_beams: width of the beam search; 1 is off. `num_return_sequences` of the beams are returned.
        length_penalty: a beam's score is its log probability divided by its length to this power.
        early_stopping: True ends a beam search with the first `num_beams` ends; False when a better one is
            not to be expected; "never" when a better one cannot be.
        repetition_penalty: scores of tokens already there are divided by it, negative ones multiplied.
        no_repeat_ngram_size: no n-gram of this size twice; 0 is off.
        bad_words_ids: sequences of tokens that must not come up.
        suppress_tokens: tokens that must not come up; `begin_suppress_tokens`: not as first new token.
        pad_token_id: fills rows that end before others. `eos_token_id`: one or several ids that end a row.
            `bos_token_id`: the prompt where none is given.
        use_cache: keep keys and values; without, each step runs all tokens again, with the same result.
        return_dict_in_generate: return an object with what the `output_*` settings ask for.
        num_beam_groups, diversity_penalty: diverse beam search: the number of groups of beams; each group avoids, by
            this penalty, the tokens that the groups before it chose in the same step.
        penalty_alpha: contrastive search: weighs the likeness to the tokens so far against the probability of the best
            `top_k`; from 0 to 1.
        min_p, typical_p, epsilon_cutoff, eta_cutoff: further cuts of sampling; see `common.generation.processors`.
        encoder_repetition_penalty, encoder_no_repeat_ngram_size: as those above, of the prompt; the penalty favours it.
        forced_bos_token_id, forced_eos_token_id: the token behind a row of one token, and at the greatest length.
        remove_invalid_values: nan and infinity in scores become numbers.
        renormalize_logits: scores are log probabilities after all that changes them.
        exponential_decay_length_penalty: (start, factor): after `start` new tokens, ends become likelier.
        sequence_bias: added to the scores of tokens that complete a sequence: {(5, 7): -2.0}.
        guidance_scale: classifier-free guidance: how much to move away from the scores behind `negative_prompt_ids`.
        max_time: seconds after which all rows end. stop_strings: texts that end a row.
        prompt_lookup_num_tokens, max_matching_ngram_size: how many tokens to guess from what followed the same
            n-gram before; they are checked in one pass: the same tokens, sooner.
        num_assistant_tokens: tokens that an assistant guesses at a time.
        extra: every other key of a file, and every other keyword, kept and written back; an attribute each.

    Raises:
        ValueError: for a value that cannot work; the message names the field and the way out.
    """

    max_length: int = 20
    max_new_tokens: int | None = None
    min_length: int = 0
    min_new_tokens: int | None = None
    do_sample: bool = False
    temperature: float | None = 1.0
    top_k: int | None = 50
    top_p: float | None = 1.0
    num_beams: int = 1
    num_return_sequences: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    bad_words_ids: list[list[int]] | None = None
    suppress_tokens: list[int] | None = None
    begin_suppress_tokens: list[int] | None = None
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    use_cache: bool = True
    output_scores: bool = False
    output_logits: bool | None = None
    output_attentions: bool = False
    output_hidden_states: bool = False
    return_dict_in_generate: bool = False
    num_beam_groups: int = 1
    diversity_penalty: float = 0.0
    penalty_alpha: float | None = None
    min_p: float | None = None
    typical_p: float | None = 1.0
    epsilon_cutoff: float = 0.0
    eta_cutoff: float = 0.0
    encoder_repetition_penalty: float = 1.0
    encoder_no_repeat_ngram_size: int = 0
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | list[int] | None = None
    remove_invalid_values: bool = False
    renormalize_logits: bool = False
    exponential_decay_length_penalty: tuple[int, float] | list[float] | None = None
    sequence_bias: dict[tuple[int, ...], float] | list[Any] | None = None
    guidance_scale: float | None = None
    max_time: float | None = None
    stop_strings: str | list[str] | None = None
    prompt_lookup_num_tokens: int | None = None
    max_matching_ngram_size: int | None = None
    num_assistant_tokens: int = 20
    extra: dict[str, Any] = field(default_factory=dict)

    __hash__ = GenerationProtocol.__hash__

    def validate(self, strict: bool = False) -> None:
        """Raise `ValueError` for the first field whose value cannot work, alone or beside the others.

        Args:
            strict: also for settings that do nothing beside the others.
        """
        if strict:
            self.refuse_idle()
        # each value alone
        for holds, rule, names in _RULES:
            for name in names:
                self._require(holds(getattr(self, name)), name, rule)
        if self.sequence_bias is not None:
            pairs(self.sequence_bias)
        # beside `do_sample`: without it `temperature=0` or `top_k=-1` asks for what is done anyway
        if self.do_sample:
            self._require(
                self.temperature is None or self.temperature > 0,
                "temperature", "must be a number above 0; for the best token every time set do_sample=False",
            )  # fmt: skip
            self._require(
                self.top_k is None or self.top_k >= 0, "top_k", "must be an int of at least 0, or None; 0 is off"
            )
            self._require(self.top_p is None or 0 <= self.top_p <= 1, "top_p", "must be a number from 0 to 1")
            self._require(self.num_beam_groups == 1, "num_beam_groups", "is of beam search; set do_sample=False")
        # beside `num_beams` and the number of new tokens
        self._require(
            self.num_beams % self.num_beam_groups == 0 or self.num_beam_groups == 1,
            "num_beam_groups", f"must divide num_beams={self.num_beams} into groups of equal size",
        )  # fmt: skip
        if self.num_beams == 1 and not self.do_sample:
            self._require(
                self.num_return_sequences == 1,
                "num_return_sequences",
                "would return the same sequence that many times; set do_sample=True or num_beams",
            )
        if 1 < self.num_beams < self.num_return_sequences:
            raise ValueError(
                f"num_return_sequences={self.num_return_sequences} exceeds num_beams={self.num_beams}; raise num_beams"
            )
        if self.max_new_tokens is not None and (self.min_new_tokens or 0) > self.max_new_tokens:
            raise ValueError(
                f"min_new_tokens={self.min_new_tokens} exceeds max_new_tokens={self.max_new_tokens}; lower it"
            )

    def _require(self, holds: bool, name: str, rule: str) -> None:
        if not holds:
            raise ValueError(f"{name}={getattr(self, name)!r} {rule}")

    @property
    def eos_token_ids(self) -> list[int]:
        """The ids that end a row, as a list; -1 stands for none, as in transformers."""
        return [token for token in as_list(self.eos_token_id) if token != -1]

    @property
    def token_ids(self) -> dict[str, list[int]]:
        """Every token id that is named, by field."""
        return {
            "pad_token_id": [] if self.pad_token_id in (None, -1) else as_list(self.pad_token_id),
            "bos_token_id": as_list(self.bos_token_id),
            "eos_token_id": self.eos_token_ids,
            "forced_bos_token_id": as_list(self.forced_bos_token_id),
            "forced_eos_token_id": as_list(self.forced_eos_token_id),
            "suppress_tokens": list(self.suppress_tokens or ()),
            "begin_suppress_tokens": list(self.begin_suppress_tokens or ()),
            "bad_words_ids": [token for word in self.bad_words_ids or () for token in word],
            "sequence_bias": [t for tokens, _ in pairs(self.sequence_bias) for t in tokens]
            if self.sequence_bias
            else [],
        }

    # -- for one call ----------------------------------------------------------------------------------------

    def updated(self, settings: Mapping[str, Any]) -> Self:
        """A new config with the fields of `settings`; warns of those that do nothing beside the others.

        Raises:
            TypeError: a name that is not a field.
        """
        unknown = settings.keys() - known_settings()
        if unknown:
            names, known = ", ".join(sorted(unknown)), ", ".join(self._defaults())
            raise UnknownSettingError(f"generation has no setting {names}; the settings are {known}")
        fields = {name: value for name, value in settings.items() if name in self._defaults()}
        others = {name: value for name, value in settings.items() if name not in fields}
        config = dataclasses.replace(self, **fields, extra={**self.extra, **others})
        met = {
            "max_new_tokens=None": config.max_new_tokens is None,
            "do_sample=True": config.do_sample,
            "do_sample=True or penalty_alpha": config.do_sample or bool(config.penalty_alpha),
            "num_beams > 1": config.num_beams > 1,
            "num_beam_groups > 1": config.num_beam_groups > 1,
            "return_dict_in_generate=True": config.return_dict_in_generate,
        }
        for name, need in _NEEDS.items():
            if settings.get(name) not in (None, self._defaults()[name]) and not met[need]:
                warnings.warn(f"{name}={settings[name]!r} does nothing without {need}", stacklevel=4)
        return config

    def with_token_ids(self, other: GenerationConfig) -> Self:
        """A new config whose pad, bos and eos ids are the other's where they are None here."""
        absent = (name for name in _TOKEN_IDS if getattr(self, name) is None)
        return dataclasses.replace(self, **{name: getattr(other, name) for name in absent})

    def filled(self, other: GenerationConfig) -> Self:
        """A new config that has the other's value of every field that is at its default here."""
        defaults = self._defaults()
        values = {n: getattr(other, n) for n, default in defaults.items() if getattr(self, n) == default}
        return dataclasses.replace(self, **values, extra={**other.extra, **self.extra})

    def check_supported(self) -> None:
        """Raise `ValueError` when a call, file or config sets what transformers supports and this library does not."""
        for name, (neutral, way_out) in NOT_SUPPORTED.items():
            if self.extra.get(name, neutral) not in (neutral, None):
                raise ValueError(
                    f"{name}={self.extra[name]!r} is not supported in generation; {way_out}, and go without: "
                    f"generate(..., {name}={neutral!r})"
                )

    # -- dictionaries and files ------------------------------------------------------------------------------

    @classmethod
    def from_model_config(cls, model_config: RobertaConfig) -> Self:
        """The token ids of a model's config, and the generation settings that older files keep there."""
        fields, default = model_config.to_dict(), RobertaConfig().to_dict()
        of_the_call = {"output_attentions", "output_hidden_states"}
        names = known_settings() - of_the_call
        changed = (name for name in names if name in fields and fields[name] != default.get(name))
        config: Self = cls.from_dict({name: fields[name] for name in (*_TOKEN_IDS, *changed)})
        return config

    @classmethod
    def from_dict(cls, config_dict: Mapping[str, Any], *, return_unused_kwargs: bool = False, **settings: Any) -> Any:
        """A config from a dictionary; keys that are not fields go to `extra`, and `settings` replace its values.

        Returns:
            The config, or (config, unknown settings) with `return_unused_kwargs`.
        """
        values = {name: value for name, value in config_dict.items() if name not in OF_A_FILE}
        extra = {name: values.pop(name) for name in list(values) if name not in cls._defaults()}
        config = cls(**values, extra=extra)
        unused = config.update(**meaningful(settings))
        if return_unused_kwargs:
            return config, unused
        warn_of_unknown(cls.__name__, unused, config.to_dict(), "it is ignored")
        return config

    def to_dict(self) -> dict[str, Any]:
        """Every field, and the keys of `extra` beside them."""
        return {**{name: getattr(self, name) for name in self._defaults()}, **self.extra}

    def to_diff_dict(self) -> dict[str, Any]:
        """What the file holds: the fields that differ from the default, and `extra`."""
        return {name: v for name, v in self.to_dict().items() if name in self.extra or v != self._defaults()[name]}

    def to_json_string(self, use_diff: bool = True, ignore_metadata: bool = False) -> str:
        """The text of `generation_config.json`: sorted keys, indent 2, final newline.

        Args:
            ignore_metadata: as in transformers; here is no metadata to leave out.
        """
        fields = self.to_diff_dict() if use_diff else self.to_dict()
        return json.dumps(fields, indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name: str | Path,
        config_file_name: str | None = None,
        *,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        revision: str = "main",
        subfolder: str = "",
        return_unused_kwargs: bool = False,
        **settings: Any,
    ) -> Any:
        """The config of a folder, a JSON file or a hub name; `settings` replace its fields.

        Args:
            config_file_name: of the file in the folder, by default generation_config.json.

        Raises:
            CheckpointError: no such folder, file or name; a folder without the file; a file that is not JSON.
        """
        path, file = Path(pretrained_model_name), config_file_name or GENERATION_CONFIG_FILE
        if not path.is_file():
            folder = local_folder(pretrained_model_name, files=(file,), **hub_options(locals()))
            path = folder / file
            if not path.is_file():
                raise CheckpointError(f"{folder} has no {file}; GenerationConfig.from_model_config makes one")
        return cls.from_dict(read_json(path), return_unused_kwargs=return_unused_kwargs, **settings)

    def save_pretrained(
        self,
        save_directory: str | Path,
        config_file_name: str | None = None,
        push_to_hub: bool = False,
        **hub: Any,
    ) -> None:
        """Write `generation_config.json` into a folder, made when missing; optionally upload the folder.

        Args:
            config_file_name: of the file, by default generation_config.json.
            hub: with `push_to_hub`, the arguments of `push_to_hub` (repo_id, token, private, ...).
        """
        upload = upload_later(save_directory, push_to_hub, hub, has_weights=False)
        self.validate()
        write_folder(save_directory, {config_file_name or GENERATION_CONFIG_FILE: self.to_json_string().encode()})
        upload()


def as_generation_config(value: object) -> GenerationConfig:
    """The config of a dictionary, or of another library's `GenerationConfig`; `TypeError` for anything else."""
    if isinstance(value, GenerationConfig):
        return value
    fields = value.to_diff_dict() if hasattr(value, "to_diff_dict") else value
    if not isinstance(fields, Mapping):
        raise TypeError(f"generation_config is a GenerationConfig or a dict, not a {type(value).__name__}")
    config: GenerationConfig = GenerationConfig.from_dict(fields)
    return config


def generation_fields(folder: Path, overrides: Mapping[str, Any]) -> dict[str, Any] | None:
    """The fields of a model folder's `generation_config.json`, some of them replaced; None without the file.

    Args:
        overrides: arguments of `from_pretrained`; those that name a setting count, the others are ignored.
    """
    file = folder / GENERATION_CONFIG_FILE
    if not file.is_file():
        return None
    return {
        **read_json(file),
        **{name: value for name, value in overrides.items() if name in GenerationConfig._defaults()},
    }


def generation_defaults(config: RobertaConfig, fields: Mapping[str, Any] | None = None) -> GenerationConfig:
    """What a model generates with by default: what its folder says, else its config's fields.

    Args:
        fields: as `generation_fields` found them when the model was loaded; None where nothing was loaded: then the
            file in the folder that the config names counts, if there is one.
    """
    own = GenerationConfig.from_model_config(config)
    if fields is None and config.name_or_path:
        path = Path(config.name_or_path)
        fields = generation_fields(path.parent if path.is_file() else path, {})
    return own if fields is None else as_generation_config(fields).with_token_ids(own)


class GenerateDecoderOnlyOutput(ModelOutput):
    """sequences: int, (batch * returns, length), prompt first, padded with pad; the rest on request.

    scores, logits: one (rows, vocab) a new token, after and before the settings' changes. attentions,
    hidden_states: one tuple over layers a step, as the model's call returns it; the first step is the prompt.
    past_key_values: see the backend's `cache`; the last token is not in it.
    """

    sequences: Any
    scores: Any
    logits: Any
    attentions: Any
    hidden_states: Any
    past_key_values: Any


class GenerateBeamDecoderOnlyOutput(ModelOutput):
    """As `GenerateDecoderOnlyOutput`, but rows are batch * beams, and scores are log probabilities.

    sequences_scores: (batch * returns,), with output_scores. beam_indices: int, (batch * returns, new
    tokens), the row of `scores` each token was chosen from; -1 behind the end.
    """

    sequences: Any
    sequences_scores: Any
    scores: Any
    logits: Any
    beam_indices: Any
    attentions: Any
    hidden_states: Any
    past_key_values: Any


def known_settings() -> set[str]:
    """The names of all settings, of this library and of transformers."""
    names = {*GenerationConfig._defaults(), *NOT_SUPPORTED, *WITHOUT_EFFECT}
    return {*names, "generation_kwargs", "use_cuda_graph"}  # arguments, without an attribute of that name
