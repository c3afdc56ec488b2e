"""The heads of `infer`: last hidden states of the kept tokens become results, the same way in each backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from roberta.common.inference.unpadding import Tokens
from roberta.common.parameters import Head

_Part = Callable[[Any], Any]  # hidden states -> their projection
_Results = Callable[[Any, Tokens], dict[str, Any]]


class HeadProtocol(Protocol):
    """The parts of a model's head, in a backend's tensors; states are (tokens, hidden).

    What the methods return must not hold the model, which what is laid out of it would then keep alive.
    """

    # a function that holds nothing: the states of some tokens
    rows: Callable[[Any, np.ndarray], Any]
    tanh: Callable[[Any], Any]

    def dense(self, path: str) -> _Part:
        """The projection by a part such as "classifier.dense", in the model's own dtype."""

    def language(self) -> Callable[[Any, np.ndarray], Any]:
        """From the states and the places of the tokens that are asked for to logits, in the dtype of the layers."""


def head_results(head: Head, parts: HeadProtocol, has_pooler: bool) -> _Results:
    """What makes the results of a class.

    Args:
        has_pooler: of a class without head, whether it pools.
    """
    rows, tanh = parts.rows, parts.tanh

    def of_first(hide: _Part, label: _Part) -> _Results:
        """A projection of each row's first token, tanh, and a projection to labels."""
        return lambda hidden, tokens: {"logits": label(tanh(hide(rows(hidden, tokens.first))))}

    # the parts are taken once, here: what is returned holds them, and not the model
    match head:
        case "Model":
            pool = parts.dense("pooler.dense") if has_pooler else None

            def states(hidden: Any, tokens: Tokens) -> dict[str, Any]:
                last = {"last_hidden_state": rows(hidden, tokens.asked)}
                return last if pool is None else {**last, "pooler_output": tanh(pool(rows(hidden, tokens.first)))}

            return states
        case "ForCausalLM" | "ForMaskedLM":
            language = parts.language()
            return lambda hidden, tokens: {"logits": language(hidden, tokens.asked)}
        case "ForSequenceClassification":
            return of_first(parts.dense("classifier.dense"), parts.dense("classifier.out_proj"))
        case "ForMultipleChoice":
            return of_first(parts.dense("roberta.pooler.dense"), parts.dense("classifier"))
        case "ForTokenClassification":
            classify = parts.dense("classifier")
            return lambda hidden, tokens: {"logits": classify(rows(hidden, tokens.asked))}
        case "ForQuestionAnswering":
            # two logits a token: of the start and of the end
            score = parts.dense("qa_outputs")

            def spans(hidden: Any, tokens: Tokens) -> dict[str, Any]:
                logits = score(rows(hidden, tokens.asked))
                return {"start_logits": logits[:, 0], "end_logits": logits[:, 1]}

            return spans
