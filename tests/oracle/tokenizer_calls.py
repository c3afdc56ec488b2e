"""A long list of calls that scripts make to a tokenizer, to be run on transformers' classes and on ours.

It imports only the standard library: the child process has transformers, this project's environment has roberta.
An exception is recorded by the names of its classes, so that a handler written for transformers also catches ours.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import json
import logging
import os
import pickle
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Call = Callable[[Any, Any], Any]  # options of a tokenizer and its library

TEXT, LONG = "Hello world", "The quick brown fox jumps over the lazy dog. " * 4
NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
CHAT = [
    {"role": "system", "content": "be kind"},
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": "hi there "},
]
PLAIN = "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '\n' }}{% endfor %}"
PROMPT = PLAIN + "{% if add_generation_prompt %}<|assistant|>{% endif %}{{ bos_token }}{{ extra }}"
TRIM = "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] | trim + '\n' }}{% endfor %}"
GENERATED = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}<a>{% generation %}{{ m['content'] | trim }}."
    "{% endgeneration %}{% else %}{{ m['content'] }}{% endif %}\n{% endfor %}"
)
BREAK = (
    "{%- for m in messages %}\n  {{- m.role }}\n  {%- if loop.first %}\n    {%- break %}\n  {%- endif %}\n{%- endfor %}"
)
TOOLS = "{{ tools | tojson }}{% for m in messages %}{{ m.content }}{% endfor %}{{ documents[0].title }}"


def apply(tokenizer: Any, template: str | None = PLAIN, chat: Any = CHAT, **options: Any) -> Any:
    """A conversation as a text, or in the form that the options request."""
    return tokenizer.apply_chat_template(chat, chat_template=template, **{"tokenize": False, **options})


def again(tokenizer: Any, **options: Any) -> Any:
    """The tokenizer, saved and loaded."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder, **options)
        return type(tokenizer).from_pretrained(folder)


def files(tokenizer: Any, **options: Any) -> dict[str, str]:
    """The small files that a save writes, by name."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder, **options)
        return {str(path.relative_to(folder)): path.read_text() for path in sorted(Path(folder).rglob("*.*"))}


def changed(tokenizer: Any, **attributes: Any) -> Any:
    """The tokenizer with other attributes."""
    for name, value in attributes.items():
        setattr(tokenizer, name, value)
    return tokenizer


def loaded(tokenizer: Any, **options: Any) -> Any:
    """The tokenizer of the same folder, with settings."""
    return type(tokenizer).from_pretrained(tokenizer.name_or_path, **options)


def grown(tokenizer: Any, library: Any) -> Any:
    """The tokenizer with added tokens."""
    tokenizer.add_tokens(["newtok", library.AddedToken("two words", lstrip=True)])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<e1>", "<e2>"], "eos_token": "<end>"})
    return tokenizer


def special(tokenizer: Any) -> Any:
    """All attributes about special tokens."""
    return [
        tokenizer.special_tokens_map,
        tokenizer.all_special_tokens,
        tokenizer.all_special_ids,
        tokenizer.additional_special_tokens,
        tokenizer.additional_special_tokens_ids,
        len(tokenizer),
        {name: (getattr(tokenizer, name), getattr(tokenizer, f"{name}_id")) for name in NAMES},
    ]


def warned(call: Callable[[], Any]) -> int:
    """How many warnings a call logs."""
    records: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    handler = Keep(logging.WARNING)
    loggers = [logging.getLogger("transformers"), logging.getLogger("roberta")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        call()
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
    return len(records)


def message_files(tokenizer: Any, templates: Any, **options: Any) -> Any:
    """The chat templates that a save writes, and those that are read back."""
    tokenizer.chat_template = templates
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder, **options)
        names = sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*.jinja"))
        config = json.loads(Path(folder, "tokenizer_config.json").read_text()).get("chat_template")
        return [names, config, type(tokenizer).from_pretrained(folder).chat_template]


def in_priority(tokenizer: Any) -> Any:
    """Which of two templates takes effect: that of the file, or that of the config."""
    tokenizer.chat_template = "config"
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder, save_jinja_files=False)
        Path(folder, "chat_template.jinja").write_text("file")
        return type(tokenizer).from_pretrained(folder).chat_template


def new_vocabulary(tokenizer: Any, **options: Any) -> Any:
    """The properties of a tokenizer with a new vocabulary."""
    texts = [["This is the first sentence.", "This is the second one."], ["Numbers 12 3.", "But not this one."]]
    new = tokenizer.train_new_from_iterator(texts, 100, **options)
    ids = new(["This is the first sentence", "This is different \U0001f917."])["input_ids"]
    return [len(new), new.vocab_size, *special(new), ids, new.decode(ids[0], skip_special_tokens=True)]


CALLS: dict[str, Call] = {
    # its properties
    "sizes": lambda t, _: [len(t), t.vocab_size, t.model_max_length, t.max_len_single_sentence, t.is_fast],
    "special": lambda t, _: special(t),
    "extended": lambda t, _: [t.special_tokens_map_extended, t.all_special_tokens_extended],
    "attributes": lambda t, _: [t.SPECIAL_TOKENS_ATTRIBUTES, t.init_inputs, t.vocab_files_names, t.model_input_names],
    "of the class": lambda t, _: [type(t).padding_side, type(t).truncation_side, type(t).model_input_names],
    "maps": lambda t, _: [t.pretrained_vocab_files_map, t.slow_tokenizer_class and t.slow_tokenizer_class.__name__],
    "added": lambda t, lib: [grown(t, lib).added_tokens_encoder, t.added_tokens_decoder, t.get_added_vocab()],
    "init_kwargs": lambda t, _: sorted(set(t.init_kwargs) - {"vocab_file", "merges_file", "tokenizer_file"}),
    "name": lambda t, _: t.name_or_path == t.init_kwargs["name_or_path"],
    "private map": lambda t, _: sorted(t._special_tokens_map),
    "no attribute": lambda t, _: t.no_such_attribute,
    "to the id of a token": lambda t, _: [t._convert_token_to_id_with_added_voc("<mask>"), t._convert_id_to_token(5)],
    "warnings": lambda t, _: t.deprecation_warnings,
    # setters
    **{f"{name} is None": lambda t, _, name=name: special(changed(t, **{name: None})) for name in NAMES},
    **{f"{name}_id": lambda t, _, name=name: special(changed(t, **{f"{name}_id": 7})) for name in NAMES},
    **{f"{name}_id None": lambda t, _, name=name: special(changed(t, **{f"{name}_id": None})) for name in NAMES},
    "more None": lambda t, _: special(changed(t, additional_special_tokens=None)),
    "more": lambda t, _: special(changed(t, additional_special_tokens=["<s>", "<mask>"])),
    "more ids": lambda t, _: special(changed(t, additional_special_tokens_ids=[5, 6])),
    "more ids none": lambda t, _: special(changed(t, additional_special_tokens_ids=[])),
    "more of a text": lambda t, _: t.add_special_tokens({"additional_special_tokens": "<x>"}),
    "unknown name": lambda t, _: t.add_special_tokens({"foo_token": "<x>"}),
    "bad token": lambda t, _: t.add_special_tokens({"bos_token": 5}),
    "bad added": lambda t, _: t.add_tokens([5]),
    "bad setter": lambda t, _: changed(t, bos_token=5),
    "replaced": lambda t, _: [
        t.add_special_tokens({"additional_special_tokens": ["<a>", "<b>"]}),
        t.add_special_tokens({"additional_special_tokens": ["<b>", "<c>"]}),
        t.additional_special_tokens,
        t.add_special_tokens({"additional_special_tokens": ["<a>"]}, replace_additional_special_tokens=False),
        special(t),
    ],
    "sanitized": lambda t, _: [changed(t, mask_token="<new>").sanitize_special_tokens(), len(t), t.mask_token_id],
    "counts": lambda t, _: [t.add_tokens(""), t.add_tokens("one"), t.add_tokens(["two", "three"]), len(t)],
    # settings
    "settings": lambda t, _: loaded(t, do_lower_case=True, use_fast=True, model_max_length=42).model_max_length,
    "unknown setting": lambda t, _: loaded(t, foo=3, do_lower_case=True).init_kwargs["foo"],
    "no attribute of a setting": lambda t, _: hasattr(loaded(t, do_lower_case=True), "do_lower_case"),
    "name of a method": lambda t, _: loaded(t, add_special_tokens=True),
    "side": lambda t, _: [loaded(t, padding_side="left", truncation_side="left").padding_side, t.truncation_side],
    "bad side": lambda t, _: loaded(t, padding_side="up"),
    "tokens given": lambda t, lib: special(
        loaded(t, pad_token="[PAD]", additional_special_tokens=[lib.AddedToken("<sp>", lstrip=True)])
    ),
    "eos given": lambda t, lib: again(
        loaded(t, eos_token=lib.AddedToken("[E]", lstrip=True, normalized=False, special=True))
    ).added_tokens_decoder,
    "not verbose": lambda t, _: loaded(t, verbose=False).verbose,
    # calls
    "truncation_strategy": lambda t, _: t(LONG, max_length=9, truncation_strategy="only_first")["input_ids"],
    "side of a call": lambda t, _: t([TEXT, LONG], padding=True, padding_side="left")["attention_mask"],
    "target": lambda t, _: t(TEXT, text_target=LONG)["labels"],
    "target alone": lambda t, _: t(text_target=LONG)["input_ids"],
    "seq2seq": lambda t, _: t.prepare_seq2seq_batch(
        src_texts=[LONG, LONG], tgt_texts=[LONG, TEXT], max_length=3, max_target_length=10, src_lang="en_XX"
    ),
    "seq2seq one length": lambda t, _: t.prepare_seq2seq_batch([LONG], tgt_texts=[LONG], max_length=4),
    "seq2seq no target": lambda t, _: t.prepare_seq2seq_batch([LONG], max_length=9, max_target_length=4),
    "as target": lambda t, _: in_target(t),
    "ids": lambda t, _: t.prepare_for_model(t.encode(TEXT, add_special_tokens=False), return_length=True),
    "ids and ids": lambda t, _: t.prepare_for_model([5, 6], [7], truncation=True, max_length=20, padding="max_length"),
    "ids to cut": lambda t, _: t.prepare_for_model(
        list(range(9, 29)), stride=2, max_length=12, truncation="only_first", return_overflowing_tokens=True
    ),
    "longest first": lambda t, _: t(LONG, TEXT, truncation=True, max_length=15)["input_ids"],
    "types": lambda t, _: t(TEXT, TEXT, return_token_type_ids=True),
    "names": lambda t, _: list(changed(t, model_input_names=["input_ids", "token_type_ids"])(TEXT)),
    "renamed": lambda t, _: dict(changed(t, model_input_names=["inputs", "attention_mask"]).pad({"inputs": [[5], [6, 7]]})),
    "multiple": lambda t, _: t("", padding=True, pad_to_multiple_of=8),
    "no multiple": lambda t, _: t(TEXT, padding=True, truncation=True, max_length=12, pad_to_multiple_of=8),
    "split": lambda t, _: t.tokenize(" a <mask> b", split_special_tokens=True),
    "split setting": lambda t, _: loaded(t, split_special_tokens=True).encode("a</s>", split_special_tokens=False),
    "split setting saved": lambda t, _: again(loaded(t, split_special_tokens=True)).encode("a</s>"),
    "pad a row": lambda t, _: dict(t.pad({"input_ids": [5, 6]}, padding="max_length", max_length=4)),
    "pad features": lambda t, _: dict(
        t.pad([{"input_ids": [5, 6], "attention_mask": [1, 0]}, {"input_ids": [7], "attention_mask": [1]}])
    ),
    "pad nothing": lambda t, _: t.pad({"labels": [1]}),
    "_pad": lambda t, _: dict(t._pad({"input_ids": [5, 6]}, max_length=4, padding_strategy="max_length")),
    "too long": lambda t, _: warned(lambda: [changed(t, model_max_length=5, deprecation_warnings={})(LONG), t(LONG)]),
    "decoded": lambda t, _: t.decode([5, 6, 7], skip_special_tokens=True, clean_up_tokenization_spaces=True),
    "decode one": lambda t, _: [t.decode(5), t.batch_decode([[5], [6]])],
    "not text": lambda t, _: t(None),
    "an int": lambda t, _: t(5),
    "encode None": lambda t, _: t.encode(None),
    "tokenize None": lambda t, _: t.tokenize(None),
    "encode_plus None": lambda t, _: t.encode_plus(None),
    "batch_encode_plus None": lambda t, _: t.batch_encode_plus(None),
    "bad padding": lambda t, _: t(TEXT, padding="foo"),
    "bad truncation": lambda t, _: t(TEXT, truncation="foo"),
    "no pad token": lambda t, _: changed(t, pad_token=None)([TEXT, LONG], padding=True),
    "unknown tensors": lambda t, _: t(TEXT, return_tensors="cupy"),
    "arrays": lambda t, _: t([TEXT, TEXT], return_tensors="np")["input_ids"].tolist(),
    "list of numbers": lambda t, _: t([1, 2]),
    "mapping": lambda t, _: isinstance(t(TEXT), dict | contextlib.suppress) or list({**t(TEXT)}),
    # copies
    "pickled": lambda t, lib: pickle.loads(pickle.dumps(grown(t, lib)))("a newtok <e1>")["input_ids"],
    "pickled token": lambda t, lib: pickle.loads(pickle.dumps(lib.AddedToken("a", lstrip=True))),
    "copied": lambda t, lib: copy.deepcopy(grown(t, lib)).tokenize("a newtok <e1>"),
    "pickled batch": lambda t, _: dict(pickle.loads(pickle.dumps(t(TEXT)))),
    "saved": lambda t, lib: special(again(changed(grown(t, lib), model_max_length=42))),
    # conversations
    "no template": lambda t, _: t.apply_chat_template(CHAT),
    "chat": lambda t, _: apply(t),
    "chat ids": lambda t, _: apply(t, tokenize=True),
    "chat dict": lambda t, _: apply(t, tokenize=True, return_dict=True),
    "chat batch": lambda t, _: apply(t, chat=[CHAT, CHAT[:2]], tokenize=True, padding=True, truncation=True, max_length=9),
    "chat of one": lambda t, _: apply(t, chat=[CHAT]),
    "chat prompt": lambda t, _: apply(t, PROMPT, add_generation_prompt=True, extra="!"),
    "chat continues": lambda t, _: apply(t, continue_final_message=True),
    "chat continues, trimmed": lambda t, _: apply(t, TRIM, continue_final_message=True),
    "chat both": lambda t, _: apply(t, continue_final_message=True, add_generation_prompt=True),
    "chat dict of a text": lambda t, _: apply(t, return_dict=True),
    "chat mask alone": lambda t, _: apply(t, tokenize=True, return_assistant_tokens_mask=True),
    "chat break": lambda t, _: apply(t, BREAK),
    "chat date": lambda t, _: len(apply(t, "{{ strftime_now('%Y-%m-%d') }}")),
    "chat raises": lambda t, _: bool(apply(t, "{{ raise_exception('no') }}")),
    "chat tools": lambda t, _: apply(t, TOOLS, tools=[{"name": "<f>"}], documents=[{"title": "T", "text": "x"}]),
    "chat named": lambda t, _: apply(changed(t, chat_template={"a": "{{'A'}}", "b": "{{'B'}}"}), "b"),
    "chat default": lambda t, _: changed(t, chat_template={"default": "{{'A'}}", "tool_use": "B"}).get_chat_template(),
    "chat for tools": lambda t, _: changed(t, chat_template={"default": "A", "tool_use": "B"}).get_chat_template(tools=[{}]),
    "chat no default": lambda t, _: apply(changed(t, chat_template={"a": "A"}), None),
    "chat message": lambda t, _: changed(t, chat_template=PLAIN).encode_message_with_chat_template(CHAT[1], CHAT[:1]),
    "chat first message": lambda t, _: changed(t, chat_template=PLAIN).encode_message_with_chat_template(CHAT[1]),
    "chat file": lambda t, _: message_files(t, PLAIN),
    "chat config": lambda t, _: message_files(t, PLAIN, save_jinja_files=False),
    "chat files": lambda t, _: message_files(t, {"default": "a", "second": "b"}),
    "chat configs": lambda t, _: message_files(t, {"default": "a", "second": "b"}, save_jinja_files=False),
    "chat priority": lambda t, _: in_priority(t),
}  # fmt: skip

SLOW: dict[str, Call] = {
    "signature": lambda t, _: unkept(t) - {"vocab_file", "merges_file"},
    "prefix": lambda t, _: [t.encode(TEXT, add_prefix_space=True), t.tokenize(TEXT, add_prefix_space=True)],
    "symbols": lambda t, _: [t.byte_encoder[32], t.byte_decoder["Ġ"], len(t.encoder), len(t.bpe_ranks), t.decoder[9]],
    "bpe": lambda t, _: [t.bpe("ĠHello"), t._tokenize("Hello world")],
    "to id": lambda t, _: [t._convert_token_to_id("Ġ"), t._convert_token_to_id("no such token")],
    "words": lambda t, _: t.prepare_for_tokenization("a", is_split_into_words=True),
    "prepared": lambda t, _: t.prepare_for_tokenization("a", add_prefix_space=True, x=1),
    "list of ids": lambda t, _: [t.encode([5, 6, 7]), t.encode_plus([5, 6], ["Ġ", "a"])["input_ids"]],
    "list of tokens": lambda t, _: t.encode(["Ġ", "a"]),
    "windows of ids": lambda t, _: t.encode_plus(
        [5, 6], list(range(9, 29)), stride=2, max_length=12, truncation="only_second", return_overflowing_tokens=True
    ),
    "unknown option": lambda t, _: warned(lambda: t(TEXT, foo=3)),
    "spaces": lambda t, lib: grown(t, lib).decode(t.encode("a newtok<e1>b"), spaces_between_special_tokens=True),
    "no spaces": lambda t, lib: grown(t, lib).decode(t.encode("a newtok<e1>b"), spaces_between_special_tokens=False),
    "_decode": lambda t, lib: grown(t, lib)._decode(t.encode("a newtok<e1>b"), skip_special_tokens=True),
    "from files": lambda t, _: type(t)(f"{t.name_or_path}/vocab.json", f"{t.name_or_path}/merges.txt").encode(TEXT),
}  # fmt: skip

FAST: dict[str, Call] = {
    "unknown option": lambda t, _: t(TEXT, foo=3),
    "spaces": lambda t, _: t.decode(t.encode("a<s>b"), spaces_between_special_tokens=True),
    "one file": lambda t, _: type(t)(tokenizer_file=os.path.join(t.name_or_path, "tokenizer.json")).encode(TEXT),
    "an object": lambda t, _: type(t)(tokenizer_object=t.backend_tokenizer).encode(TEXT),
    "backend": lambda t, _: [t.backend_tokenizer.get_vocab_size(), t._tokenizer.encode(TEXT).ids, type(t.decoder).__name__],
    "slow from it": lambda t, _: [t.can_save_slow_tokenizer, sorted(files(t, legacy_format=True))],
    "alone": lambda t, _: sorted(files(t, legacy_format=False)),
    "new vocabulary": lambda t, _: new_vocabulary(t),
    "new names": lambda t, _: new_vocabulary(t, special_tokens_map={"<s>": "<sa>", "<mask>": "<maska>"}),
    "new tokens": lambda t, _: new_vocabulary(t, new_special_tokens=["<n1>", "<n2>"]),
    "another pre_tokenizer": lambda t, _: with_prefix(t),
    "another post_processor": lambda t, _: with_processor(t),
    "cut": lambda t, _: cut(t),
    "assistant": lambda t, _: apply(t, GENERATED, tokenize=True, return_dict=True, return_assistant_tokens_mask=True),
    "assistants": lambda t, _: apply(
        t, GENERATED, [CHAT, CHAT * 2], tokenize=True, return_dict=True, return_assistant_tokens_mask=True, padding=True
    ),
    "signature": lambda t, _: unkept(t) - {"vocab_file", "merges_file", "tokenizer_file"},
}  # fmt: skip


def unkept(tokenizer: Any) -> set[str]:
    """The arguments with a default that are not in `init_kwargs`."""
    parameters = inspect.signature(type(tokenizer).__init__).parameters.values()
    return {p.name for p in parameters if p.default is not p.empty} - set(tokenizer.init_kwargs)


def in_target(tokenizer: Any) -> Any:
    """The result of a call inside `as_target_tokenizer`."""
    with tokenizer.as_target_tokenizer():
        return tokenizer(TEXT)["input_ids"]


def with_prefix(tokenizer: Any) -> Any:
    """Ids after the library's own part was replaced."""
    import tokenizers

    tokenizer.backend_tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=True)
    return tokenizer(TEXT)["input_ids"]


def with_processor(tokenizer: Any) -> Any:
    """Rows after the library's own part was replaced."""
    import tokenizers

    tokenizer._tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A </s> $B", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return [tokenizer(TEXT)["input_ids"], tokenizer(TEXT, TEXT)["input_ids"]]


def cut(tokenizer: Any) -> Any:
    """Rows of the library's own tokenizer with truncation switched on."""
    tokenizer.backend_tokenizer.enable_truncation(6)
    return len(tokenizer.backend_tokenizer.encode(LONG).ids)


def shown(value: Any) -> Any:
    """A result in a form that JSON can hold."""
    if hasattr(value, "items"):
        return {str(key): shown(item) for key, item in value.items()}
    if isinstance(value, set):
        return sorted(value)
    if isinstance(value, list | tuple):
        return [shown(item) for item in value]
    return value if isinstance(value, str | int | float | None) else repr(value)


def calls_of(is_fast: bool) -> Iterator[tuple[str, Call]]:
    """The calls of a class."""
    yield from CALLS.items()
    yield from (FAST if is_fast else SLOW).items()


def run(library: Any, folder: str) -> dict[str, dict[str, Any]]:
    """Class -> call -> its result, or {"raises": the names of the exception's classes}."""
    report: dict[str, dict[str, Any]] = {}
    for name in ("RobertaTokenizer", "RobertaTokenizerFast"):
        cls = getattr(library, name)
        results = report[name] = {}
        for call, function in calls_of(
            cls.is_fast if isinstance(getattr(cls, "is_fast", None), bool) else "Fast" in name
        ):
            try:
                results[call] = shown(function(cls.from_pretrained(folder), library))
            except Exception as error:
                names = [base.__name__ for base in type(error).__mro__]
                results[call] = {"raises": names, "text": str(error)[:300]}
        grown_one = grown(cls.from_pretrained(folder, padding_side="left", foo=[1, "é"]), library)
        results["files"] = files(grown_one)
    return report
