"""`generate` without a framework: from a caller's arguments to what is returned."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from roberta.common.generation.config import (
    GenerateBeamDecoderOnlyOutput,
    GenerateDecoderOnlyOutput,
    GenerationConfig,
    UnknownSettingError,
    as_generation_config,
    known_settings,
)
from roberta.common.generation.contrastive import is_contrastive
from roberta.common.generation.processors import ScoresProcessor, allowed_only, log_softmax
from roberta.common.generation.prompts import Plan, Prompts, Rows, plan_generation
from roberta.common.generation.search import decode
from roberta.common.generation.stepping import StepperBase
from roberta.common.generation.stopping import Criterion, criteria_of
from roberta.common.generation.walk import Decoded, Seed, Streamer
from roberta.common.keywords import suggestion
from roberta.common.outputs import ModelOutput
from roberta.common.values import Floats, Ints

if TYPE_CHECKING:
    from roberta.common.generation.mixin import GenerationBase

PER_PROMPT = ("encoder_hidden_states", "encoder_attention_mask")  # repeated with the rows of a prompt


class FrameworkBase:
    """How a backend handles tensors, and how a model is called there.

    Attributes:
        stepper_class: the backend's `StepperBase`, called with model, config, rows, max_length, and arguments of the
            model's call as they came: encoder states, head_mask, inputs_embeds, past_key_values.
        call_name: the method whose arguments a model's call takes.
    """

    stepper_class: Callable[..., StepperBase]
    call_name = "__call__"

    def to_numpy(self, values: object) -> npt.NDArray[Any]:
        """A tensor, or what numpy takes, as an array."""
        return np.asarray(values)

    def native(self, values: npt.NDArray[Any]) -> Any:
        """An array as a tensor, where the model is."""
        raise NotImplementedError

    def shown(self, values: npt.NDArray[Any]) -> Any:
        """Ids as a tensor for a streamer, on the CPU."""
        return self.native(values)

    def output(self, cls: type[ModelOutput]) -> type[ModelOutput]:
        """The class of an output, or one that scripts know better."""
        return cls


@dataclass(frozen=True)
class Call:
    """The arguments of one call of `generate`, as they came; the backends' `generate` says what they are."""

    inputs: Any
    input_ids: Any
    generation_config: Any
    logits_processor: Any
    stopping_criteria: Any
    prefix_allowed_tokens_fn: Any
    synced_gpus: Any
    assistant_model: Any
    streamer: Any
    negative_prompt_ids: Any
    negative_prompt_attention_mask: Any
    use_model_defaults: Any
    custom_generate: Any
    attention_mask: Any
    token_type_ids: Any
    position_ids: Any
    inputs_embeds: Any
    past_key_values: Any
    tokenizer: Any
    seed: int | Sequence[Seed]
    settings: Mapping[str, Any]


def generate(model: GenerationBase, call: Call, framework: FrameworkBase) -> Any:
    """Run one call: ids as a tensor, or an output of `generation`.

    Raises:
        UnknownSettingError: a keyword that is neither a setting nor an argument of the model's call.
        ValueError: what cannot work; the message says what to do instead.
    """
    _refuse(call)
    config = _base_config(model, call)
    settings, extra = _split(model, call.settings, framework)
    prompts = _prompts(call, extra, framework)
    plan = plan_generation(model.config, config, settings, prompts)
    _check_named(call.custom_generate, plan)
    if call.inputs_embeds is not None:
        if not model.config.is_decoder:
            raise ValueError("inputs_embeds need a decoder's cache; load the model with is_decoder=True")
        plan = replace(plan, config=replace(plan.config, use_cache=True))  # new tokens have ids, the prompt has none
    if call.past_key_values is not None and not plan.config.use_cache:
        raise ValueError("past_key_values need use_cache=True and a decoder; set it, or omit them")
    given = {"inputs_embeds": call.inputs_embeds, "past_key_values": call.past_key_values}
    stepper = framework.stepper_class(model, plan.config, plan.rows, plan.max_length, {**extra, **given})
    asked = _asked(model, plan, call, framework, extra)
    assistant = None if call.assistant_model is None else _assistant(model, plan, call, framework, extra)
    streamer = None if call.streamer is None else _Streamed(call.streamer, framework)
    decoded = decode(stepper, asked, call.seed, streamer=streamer, assistant=assistant, guesses=plan)
    return _output(plan, stepper, decoded, framework)


# Code of the hub that transformers 4.57 has for what is done here -> what asks for it, and whether a config does.
_DONE_HERE: dict[str, tuple[str, Callable[[GenerationConfig], bool]]] = {
    "transformers-community/contrastive-search": ("penalty_alpha above 0 and top_k above 1", is_contrastive),
    "transformers-community/group-beam-search": ("num_beam_groups above 1", lambda config: config.num_beam_groups > 1),
}


def _check_named(custom_generate: str | None, plan: Plan) -> None:
    """Raise `ValueError` where the settings do not ask for the search that `custom_generate` names."""
    setting, asks = _DONE_HERE.get(custom_generate or "", ("", lambda config: True))
    if not asks(plan.config):
        raise ValueError(f"custom_generate={custom_generate!r} needs {setting}; set that, or omit it")


def _refuse(call: Call) -> None:
    """Raise for arguments that are not supported."""
    if call.custom_generate is not None and call.custom_generate not in _DONE_HERE:
        raise ValueError(
            f"custom_generate={call.custom_generate!r} is not supported: no code of a repository is run; call your "
            "function with the model instead"
        )
    if call.synced_gpus:
        raise ValueError(
            "synced_gpus=True is not supported; gather the model first, or give every process prompts that take the same "
            "number of steps and no end token (eos_token_id=None)"
        )


def _base_config(model: GenerationBase, call: Call) -> GenerationConfig:
    """The config that the call's settings change."""
    own = model.generation_config
    if call.generation_config is None:
        return own
    config = as_generation_config(call.generation_config)
    return config.filled(own) if call.use_model_defaults else config.with_token_ids(own)


def _split(
    model: GenerationBase, given: Mapping[str, Any], framework: FrameworkBase
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Keywords that are settings, and those of the model's call."""
    known, taken = known_settings(), inspect.signature(getattr(model, framework.call_name)).parameters
    dropped = ("labels", "cache_position", "return_dict", "trust_remote_code", "assistant_tokenizer")
    settings = {name: value for name, value in given.items() if name in known}
    extra = {n: v for n, v in given.items() if n in taken and n not in known and n not in dropped and v is not None}
    for name in given.keys() - settings.keys() - taken.keys() - set(dropped):
        if given[name] is not None:
            raise UnknownSettingError(
                f"generate() has no setting {name!r}{suggestion(name, [*known, *taken])}; the settings are the fields of "
                "GenerationConfig, and other keywords are arguments of the model's call"
            )
    if given.get("assistant_tokenizer") is not None:
        raise ValueError(
            "assistant_tokenizer is not supported: guesses are compared as ids; give an assistant_model with the same "
            "tokenizer"
        )
    return settings, extra


def _prompts(call: Call, extra: Mapping[str, Any], framework: FrameworkBase) -> Prompts:
    """The prompts as numpy."""
    if call.input_ids is not None and call.inputs is not None:
        raise ValueError("inputs is another name of input_ids; give one of them")
    ids = call.inputs if call.input_ids is None else call.input_ids
    ids, mask, types, positions = (
        None if values is None else framework.to_numpy(values)
        for values in (ids, call.attention_mask, call.token_type_ids, call.position_ids)
    )
    embedded = None if call.inputs_embeds is None else tuple(int(size) for size in call.inputs_embeds.shape[:2])
    states = extra.get("encoder_hidden_states")
    batch = next((len(values) for values in (states, mask) if values is not None), 1)
    is_empty = ids is not None and ids.ndim == 2 and ids.shape[1] == 0 and embedded is not None
    return Prompts(None if is_empty else ids, mask, types, positions, embedded, batch)  # type: ignore[arg-type]


# -- what the caller adds to the plan ------------------------------------------------------------------------


def _asked(model: GenerationBase, plan: Plan, call: Call, framework: FrameworkBase, extra: Mapping[str, Any]) -> Plan:
    """The plan with the caller's processors and criteria, and those that need a model or a tokenizer."""
    own: list[tuple[str, ScoresProcessor]] = []
    if call.prefix_allowed_tokens_fn is not None:
        allowed = call.prefix_allowed_tokens_fn

        def named(prompt: int, tokens: Ints) -> Any:
            found = allowed(prompt, framework.native(tokens))
            return found if isinstance(found, list | tuple | range | set) else framework.to_numpy(found)

        rows = plan.config.num_beams
        own.append(("PrefixConstrainedLogitsProcessor", allowed_only(lambda p, t: list(named(p, t)), rows)))
    for processor in call.logits_processor or ():
        own.append((type(processor).__name__, _processor(processor, framework)))
    processors = plan.processors.with_own(own)
    scale = plan.config.guidance_scale
    if scale is not None and scale != 1:
        guide = (
            "UnbatchedClassifierFreeGuidanceLogitsProcessor",
            _guidance(model, plan, call, framework, extra, scale),
        )
        processors = replace(processors, steps=(guide, *processors.steps))
    elif call.negative_prompt_ids is not None:
        raise ValueError("negative_prompt_ids do nothing without guidance_scale; set it to a number above 1")
    given = call.stopping_criteria
    is_one = callable(given) and not isinstance(given, list | tuple)
    theirs = [_criterion(criterion, framework) for criterion in ([given] if is_one else given or ())]
    criteria = [*criteria_of(plan.config, call.tokenizer), *theirs]
    return replace(plan, processors=processors, stopping=replace(plan.stopping, own=tuple(criteria)))


def _takes(function: Callable[..., Any], count: int) -> bool:
    """Whether a callable takes this many arguments by position, all of them required."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in kinds and p.default is p.empty for p in parameters) == count


def _processor(processor: object, framework: FrameworkBase) -> ScoresProcessor:
    """A caller's processor, (ids, scores) -> scores of the framework; with the length too in TensorFlow's and Flax's."""
    if not callable(processor):
        raise TypeError(
            f"logits_processor holds {processor!r}; give callables (input_ids, scores) -> scores, in a list"
        )
    is_long = _takes(processor, 3)

    def wrapped(ids: Ints, scores: Floats) -> Floats:
        arguments = (framework.native(ids), framework.native(scores), *([ids.shape[1]] if is_long else []))
        result: Floats = framework.to_numpy(processor(*arguments)).astype(scores.dtype)
        if result.shape != scores.shape:
            raise ValueError(
                f"the logits_processor {processor!r} returned scores of shape {result.shape}; it must return (rows, vocab), "
                f"here {scores.shape}"
            )
        return result.copy()

    return wrapped


def _criterion(criterion: object, framework: FrameworkBase) -> Criterion:
    """A caller's criterion, (ids, scores) -> which rows end, or whether all do."""
    if not callable(criterion):
        raise TypeError(f"stopping_criteria holds {criterion!r}; give callables (input_ids, scores) -> bool, in a list")

    def wrapped(ids: Ints, scores: Sequence[Floats] | None) -> Any:
        kept = None if scores is None else tuple(framework.native(step) for step in scores)
        result = criterion(framework.native(ids), kept)
        return result if isinstance(result, bool) else framework.to_numpy(result)

    return wrapped


def _guidance(
    model: GenerationBase, plan: Plan, call: Call, framework: FrameworkBase, extra: Mapping[str, Any], scale: float
) -> ScoresProcessor:
    """Scores moved away from those behind the negative prompt, by default the prompt's last token.

    Source: Sanchez et al. 2023, "Stay on topic with Classifier-Free Guidance".
    """
    # the negative prompt
    ids = plan.rows.input_ids[:, -1:]
    mask = None
    if call.negative_prompt_ids is not None:
        ids = framework.to_numpy(call.negative_prompt_ids)
        if call.negative_prompt_attention_mask is not None:
            mask = framework.to_numpy(call.negative_prompt_attention_mask)
    elif plan.rows.hidden:
        raise ValueError("guidance_scale with inputs_embeds alone needs negative_prompt_ids, one row a prompt")
    if len(ids) != len(plan.rows.input_ids):
        raise ValueError(
            f"negative_prompt_ids are {len(ids)} rows for {len(plan.rows.input_ids)} prompts; give one row a prompt"
        )
    # a second run of the model behind it, as long as the first
    new = plan.max_length - plan.prompt
    config = replace(
        plan.config,
        use_cache=False,
        return_dict_in_generate=False,
        max_new_tokens=new,
        min_new_tokens=None,
        min_length=0,
    )
    negative = plan_generation(model.config, config, {}, Prompts(ids, mask))
    stepper = framework.stepper_class(model, config, negative.rows, negative.max_length, extra)
    state: dict[str, Rows] = {}

    def processor(ids: Ints, scores: Floats) -> Floats:
        # the first call reads the negative prompts, each further one the tokens that were chosen since
        if not state:
            logits = stepper.start(negative.rows.inputs(), plan.copies)
            state["rows"] = negative.rows.take(np.arange(len(logits)) // plan.copies)
        else:
            logits = stepper.step(state["rows"].appended(ids[:, plan.rows.shown.shape[1] :]).inputs())
        away = log_softmax(logits.astype(scores.dtype))
        result: Floats = np.asarray(scale, scores.dtype) * (log_softmax(scores) - away) + away
        return result

    return processor


def _assistant(
    model: GenerationBase, plan: Plan, call: Call, framework: FrameworkBase, extra: Mapping[str, Any]
) -> StepperBase:
    """The stepper of a smaller model that guesses."""
    assistant = call.assistant_model
    theirs = getattr(getattr(assistant, "config", None), "vocab_size", None)
    if theirs != model.config.vocab_size or not hasattr(assistant, "generate"):
        raise ValueError(
            f"assistant_model has a vocabulary of {theirs} and the model one of {model.config.vocab_size}; give a causal "
            "model with the same tokenizer"
        )
    if not assistant.config.is_decoder:
        raise ValueError("assistant_model needs a decoder; load it with from_pretrained(..., is_decoder=True)")
    config = replace(plan.config, return_dict_in_generate=False, use_cache=True)
    has_cross = assistant.config.add_cross_attention
    taken = {name: value for name, value in extra.items() if has_cross or name not in PER_PROMPT}
    return framework.stepper_class(assistant, config, plan.rows, plan.max_length, taken)


class _Streamed:
    """A caller's streamer, which takes tensors."""

    def __init__(self, streamer: Streamer, framework: FrameworkBase) -> None:
        self.streamer, self.framework = streamer, framework

    def put(self, value: Ints) -> None:
        self.streamer.put(self.framework.shown(value))

    def end(self) -> None:
        self.streamer.end()


# -- what is returned ----------------------------------------------------------------------------------------


def _output(plan: Plan, stepper: StepperBase, decoded: Decoded, framework: FrameworkBase) -> Any:
    """The ids, or everything that the settings ask for."""
    config, native = plan.config, framework.native
    if not config.return_dict_in_generate:
        return native(decoded.sequences)
    steps = len(stepper.attentions)
    if is_contrastive(config):  # the last token's own step is run too, and belongs to nothing
        steps = decoded.sequences.shape[1] - plan.rows.shown.shape[1]
    fields = {
        "sequences": native(decoded.sequences),
        "scores": tuple(native(scores) for scores in decoded.scores) or None,
        "logits": tuple(native(logits) for logits in decoded.logits) or None,
        "attentions": tuple(stepper.attentions[:steps]) if config.output_attentions else None,
        "hidden_states": tuple(stepper.hidden_states[:steps]) if config.output_hidden_states else None,
        "past_key_values": stepper.cache,
    }
    if decoded.beam_indices is None:
        return framework.output(GenerateDecoderOnlyOutput)(fields)
    scores = decoded.sequences_scores
    return framework.output(GenerateBeamDecoderOnlyOutput)(
        fields,
        beam_indices=native(decoded.beam_indices),
        sequences_scores=None if scores is None else native(scores),
    )
