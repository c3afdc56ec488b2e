"""Chat templates: from a conversation to one text, by a Jinja template in a sandbox.

A template is a stranger's program: it runs in jinja2's immutable sandbox, where it can reach only its arguments.
jinja2 is imported when the first template is applied.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from roberta.common.vocabulary.errors import ArgumentError

Message = Mapping[str, Any]
Spans = list[tuple[int, int]]
ChatTemplates = str | Mapping[str, str] | Sequence[Mapping[str, str]]  # as files write them


def render(
    template: str,
    conversation: Sequence[Message],
    *,
    tools: Sequence[Any] | None,
    documents: Sequence[Mapping[str, Any]] | None,
    add_generation_prompt: bool,
    continue_final_message: bool,
    variables: Mapping[str, Any],
) -> tuple[str, Spans]:
    """The text of a conversation, and the characters in it that `{% generation %}` blocks made.

    Args:
        continue_final_message: end with the last message, without what the template puts after it.
        variables: further names that the template may read.

    Raises:
        jinja2.TemplateError: the template cannot be read, or calls `raise_exception`.
        ValueError: tools or documents of another kind; the last message is not in the text.
        ModuleNotFoundError: jinja2 is not installed.
    """
    _check_dicts("tools", tools, "a tool is a dict, the JSON schema of its function")
    _check_dicts("documents", documents, "a document is a dict with title and text")
    marked = _compiled(template).render(
        messages=conversation,
        tools=None if tools is None else list(tools),
        documents=documents,
        add_generation_prompt=add_generation_prompt,
        **variables,
    )
    text, spans = _without_marks(marked)
    return (_cut_behind(text, conversation) if continue_final_message else text), spans


def _jinja() -> Any:
    try:
        import jinja2
        import jinja2.ext
        import jinja2.sandbox
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "chat templates need jinja2, which is not installed; pip install jinja2, or 'roberta[chat]'", name="jinja2"
        ) from error
    return jinja2


@lru_cache(maxsize=32)
def _compiled(template: str) -> Any:
    """A template that can be rendered."""
    jinja2 = _jinja()
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_generation_block(), jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda layout: datetime.now().strftime(layout)
    return environment.from_string(template)


def _raise_exception(message: str) -> None:
    raise _jinja().exceptions.TemplateError(message)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Plain JSON; jinja2's own filter would escape it for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


@lru_cache(maxsize=1)
def _generation_block() -> type:
    """The extension that reads `{% generation %}...{% endgeneration %}`, the part of a text that the model wrote.

    Its output is put between two marks, which are looked up in the finished text and then removed.
    """
    jinja2 = _jinja()

    class Generation(jinja2.ext.Extension):  # type: ignore[name-defined]
        """A call block whose output is kept between marks."""

        tags = frozenset({"generation"})

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return jinja2.nodes.CallBlock(self.call_method("_marked"), [], [], body).set_lineno(line)

        def _marked(self, caller: Callable[[], str]) -> str:
            return f"{_BEGIN}{caller()}{_END}"

    return Generation


_BEGIN, _END = "\U0010fffe\ufdd0", "\U0010fffe\ufdd1"  # code points that are not characters


def _without_marks(marked: str) -> tuple[str, Spans]:
    """The text without the marks of generation blocks, and the characters that were between them."""
    first, *blocks = marked.split(_BEGIN)
    parts, spans, length = [first], [], len(first)
    for block in blocks:
        inside, _, behind = block.partition(_END)
        spans.append((length, length + len(inside)))
        parts += (inside, behind)
        length += len(inside) + len(behind)
    return "".join(parts), spans


def _cut_behind(text: str, conversation: Sequence[Message]) -> str:
    """The text up to the end of the last message."""
    content = conversation[-1]["content"]
    if isinstance(content, list | tuple):
        texts = [part["text"] for part in content if isinstance(part, Mapping) and "text" in part]
        if not texts:
            raise ValueError("continue_final_message=True needs a text in the last message, which has none")
        content = texts[-1]
    stripped = str(content).strip()
    start = text.rfind(stripped)
    if start < 0:
        raise ValueError(
            "continue_final_message=True needs the last message in the text of the template, but the "
            "template changes it; give continue_final_message=False"
        )
    kept = str(content).lstrip()  # with white space at its end where the template keeps that
    return text[:start] + (kept if text.startswith(kept, start) else stripped)


def _check_dicts(name: str, values: Sequence[object] | None, rule: str) -> None:
    for value in values or ():
        if not isinstance(value, Mapping):
            raise ValueError(f"{name} has {value!r:.80}; {rule}")


# -- which template ------------------------------------------------------------------------------------------------


def choose_template(templates: str | Mapping[str, str] | None, given: str | None, has_tools: bool) -> str:
    """The template of a call.

    Args:
        templates: the tokenizer's own, one or several by name.
        given: a template, or the name of one of them.
        has_tools: whether the conversation has tools: "tool_use" is then taken before "default".

    Raises:
        ValueError: there is none.
    """
    if isinstance(templates, Mapping):
        if given is not None:
            return str(templates.get(given, given))
        name = "tool_use" if has_tools and "tool_use" in templates else "default"
        if name not in templates:
            names = ", ".join(sorted(templates))
            raise ValueError(f"this tokenizer has several chat templates and no default; name one of {names}")
        return str(templates[name])
    template = templates if given is None else given
    if template is None:
        raise ValueError(
            "this tokenizer has no chat_template (RoBERTa has none of its own); set tokenizer.chat_template, or give "
            "chat_template= to the call"
        )
    return str(template)


def read_templates(value: ChatTemplates | None) -> str | dict[str, str] | None:
    """The templates of tokenizer_config.json: a text, or a list of objects with a name and a template.

    Raises:
        ValueError: anything else.
    """
    if value is None or isinstance(value, str):
        return value
    named: dict[Any, Any] = {}
    if isinstance(value, Mapping):
        named = dict(value)
    elif isinstance(value, Sequence):
        entries = [entry for entry in value if isinstance(entry, Mapping)]
        named = {entry.get("name"): entry.get("template") for entry in entries} if len(entries) == len(value) else {}
    if (named or not value) and all(isinstance(text, str) for item in named.items() for text in item):
        return named
    raise ArgumentError(
        f"chat_template={value!r:.80} must be a Jinja template, or several: a list of objects with name and template"
    )


def written_templates(templates: str | Mapping[str, str]) -> ChatTemplates:
    """The templates as tokenizer_config.json writes them."""
    if isinstance(templates, str):
        return templates
    return [{"name": name, "template": template} for name, template in templates.items()]
