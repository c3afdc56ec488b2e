"""Conversations: `apply_chat_template` and what belongs to it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from roberta.common.tokenizer.chat_templates import Spans, choose_template, render
from roberta.common.tokenizer.encoding import BatchEncoding
from roberta.common.tokenizer.settings import TokenizerSettings


class Chatting(TokenizerSettings):
    """Model inputs of conversations. RoBERTa has no template of its own: set one, or give it to the call."""

    @abstractmethod
    def __call__(self, text: Any = None, **options: Any) -> BatchEncoding:
        """Model inputs of texts."""

    def apply_chat_template(
        self,
        conversation: Any,
        tools: Sequence[Any] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        chat_template: str | None = None,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        tokenize: bool = True,
        padding: bool | str = False,
        truncation: bool | str = False,
        max_length: int | None = None,
        return_tensors: str | None = None,
        return_dict: bool = False,
        return_assistant_tokens_mask: bool = False,
        tokenizer_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """The ids of a conversation, which a template turns into one text, without special tokens around it.

        Args:
            conversation: a list of messages, each a dict with role and content; or a list of conversations.
            tools, documents: dicts that the template may read: the JSON schema of a function; a title and a text.
            chat_template: a template, or the name of one of the tokenizer's; None for the tokenizer's own.
            add_generation_prompt: end with the beginning of an answer.
            continue_final_message: end with the last message, so that a model continues it.
            tokenize: False for the text.
            return_dict: return everything that a call of the tokenizer returns, not the ids alone.
            return_assistant_tokens_mask: also return `assistant_masks`, 1 for the tokens that `{% generation %}` blocks
                of the template made.
            tokenizer_kwargs: further options of the tokenizer's call.
            kwargs: further names for the template.

        Raises:
            ValueError: no template; no conversation; options that contradict each other.
            jinja2.TemplateError: the template cannot be read, or calls `raise_exception`.
            ModuleNotFoundError: jinja2 is not installed.
        """
        _check(add_generation_prompt, continue_final_message, tokenize, return_dict, return_assistant_tokens_mask)
        template = self.get_chat_template(chat_template, tools)
        is_batch, conversations = _conversations(conversation)
        # The text of each conversation, and the spans of it that `{% generation %}` blocks made.
        texts, spans = [], []
        for messages in conversations:
            text, generated = render(
                template,
                messages,
                tools=tools,
                documents=documents,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=continue_final_message,
                variables={**self.special_tokens_map, **kwargs},
            )
            texts.append(text)
            spans.append(generated)
        if not tokenize:
            return texts if is_batch else texts[0]
        # The template has written the special tokens itself.
        batch = self(
            texts if is_batch else texts[0],
            padding=padding,
            truncation=truncation,
            max_length=max_length,
            add_special_tokens=False,
            return_tensors=return_tensors,
            **(tokenizer_kwargs or {}),
        )
        if not return_dict:
            return batch["input_ids"]
        if return_assistant_tokens_mask:
            # One mask for each row, found from the characters of its tokens.
            masks = [_mask(batch, row, generated) for row, generated in enumerate(spans)]
            batch["assistant_masks"] = masks if is_batch or return_tensors else masks[0]
            batch.convert_to_tensors(return_tensors)
        return batch

    def encode_message_with_chat_template(
        self, message: Mapping[str, Any], conversation_history: Sequence[Mapping[str, Any]] | None = None, **kwargs: Any
    ) -> list[int]:
        """The ids that a message adds to a conversation.

        Raises:
            ValueError: `add_generation_prompt` is given: it belongs to a whole conversation.
        """
        if "add_generation_prompt" in kwargs:
            raise ValueError("add_generation_prompt belongs to a whole conversation; give it to apply_chat_template")
        history = list(conversation_history or ())
        ids: list[int] = self.apply_chat_template([*history, message], **kwargs)
        if not history:
            return ids
        before: list[int] = self.apply_chat_template(history, **kwargs)
        same = next((at for at, (one, other) in enumerate(zip(before, ids, strict=False)) if one != other), None)
        return ids[min(len(before), len(ids)) if same is None else same :]

    def get_chat_template(self, chat_template: str | None = None, tools: Sequence[Any] | None = None) -> str:
        """The template that a call would use.

        Raises:
            ValueError: there is none.
        """
        return choose_template(self.chat_template, chat_template, tools is not None)


def _check(prompt: bool, goes_on: bool, tokenize: bool, return_dict: bool, masks: bool) -> None:
    """Raise `ValueError` for options that contradict each other."""
    if return_dict and not tokenize:
        raise ValueError("return_dict=True needs tokenize=True: a text alone has no other fields")
    if masks and not return_dict:
        raise ValueError("return_assistant_tokens_mask=True needs return_dict=True: the mask is a field of the dict")
    if goes_on and prompt:
        raise ValueError(
            "add_generation_prompt=True begins a new message, continue_final_message=True continues the last; give one"
        )
    if goes_on and masks:
        raise ValueError("continue_final_message=True does not go with return_assistant_tokens_mask=True; give one")


def _conversations(conversation: Any) -> tuple[bool, list[Any]]:
    """Whether there are several, and the list of them; an object with `messages` stands for these."""
    many = (list, tuple)
    if not isinstance(conversation, many) and not hasattr(conversation, "messages"):
        raise ValueError(f"conversation={conversation!r:.80} must be a list of messages, or a list of such lists")
    first = conversation[0] if isinstance(conversation, many) and conversation else None
    is_batch = isinstance(first, many) or hasattr(first, "messages")
    return is_batch, [getattr(one, "messages", one) for one in (conversation if is_batch else [conversation])]


def _mask(batch: BatchEncoding, row: int, spans: Spans) -> list[int]:
    """1 for the tokens of a row from the first to the last with a character of the span, for each span."""
    encodings = batch.encodings
    assert encodings is not None
    encoding = encodings[row]
    mask = [0] * len(encoding)
    for begin, end in spans:
        inside = [
            at
            for at, (start, stop) in enumerate(encoding.offsets)
            if encoding.sequence_ids[at] == 0 and max(start, begin) < min(stop, end)
        ]
        if inside:
            mask[inside[0] : inside[-1] + 1] = [1] * (inside[-1] + 1 - inside[0])
    return mask
