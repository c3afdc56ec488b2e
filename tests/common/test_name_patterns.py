"""Regular expressions of an adapter's config: those of `re`, within a bounded time."""

from __future__ import annotations

import itertools
import re
import time
from pathlib import Path
from typing import Any

import adapters
import pytest

from roberta.common.adapters.adapter_files import open_adapter
from roberta.common.adapters.name_patterns import matches
from roberta.common.storage.folders import CheckpointError

# each takes `re` longer than anybody waits
ENDLESS = (r"(\w+\.?)+!", r"(?:\w|\w\w|\w\w\w|\.)*(?<![a-z])", r"(.*)(.*)(.*)(.*)(.*)(.*)(.*)\1\2\3\4\5\6\7[0-9]")
SLOW = ENDLESS[1:]  # those that `regex` does not see through


@pytest.mark.parametrize(
    "config",
    [
        *({"target_modules": pattern} for pattern in SLOW),
        {"exclude_modules": SLOW[0]},
        {"rank_pattern": {SLOW[0]: 3}},
        {"alpha_pattern": {SLOW[0]: 3}},
        {"modules_to_save": [SLOW[1].replace("0-9", "A-Z")]},
        {"layers_pattern": [SLOW[0]], "layers_to_transform": [1]},
    ],
    ids=str,
)
def test_a_slow_expression_is_an_error_that_names_the_file(config: dict[str, Any], tmp_path: Path) -> None:
    folder = adapters.write(tmp_path, adapters.two_layers(), **config)
    start = time.perf_counter()
    with pytest.raises(
        CheckpointError, match=r"adapter_config\.json: the regular expression .* takes too long"
    ) as caught:
        open_adapter(folder)
    assert time.perf_counter() - start < 10
    assert 'write a simpler one, such as ".*query"' in str(caught.value)


def test_an_expression_that_only_re_is_slow_with_is_matched() -> None:
    assert matches(ENDLESS[0], f"{adapters.QUERY}!")
    assert not matches(ENDLESS[0], adapters.QUERY)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("(" * 5000 + ")" * 5000, "is not a regular expression"),
        ("(query", "is not a regular expression"),
        ("a{99999999999}", "repeats a part more than 1000 times"),
        ("((a{100}){100}){100}", "repeats a part more than 1000 times"),
        ("a" * 20_001, "is longer than 20000 characters"),
    ],
    ids=["deep", "open", "many", "product", "long"],
)
def test_an_expression_that_cannot_be_matched_is_an_error(pattern: str, text: str, tmp_path: Path) -> None:
    for config in ({"target_modules": pattern}, {"rank_pattern": {pattern: 2}}, {"modules_to_save": [pattern]}):
        with pytest.raises(CheckpointError, match=f"{next(iter(config))}=.* {text}"):
            open_adapter(adapters.write(tmp_path, adapters.two_layers(), **config))


def test_the_matches_are_those_of_re() -> None:
    patterns = (
        r".*", r".*query", r"query", r".*\.(query|value)", r".*layer\.[0-3]\..*", r"(?i).*QUERY",
        r"roberta\.(?!pooler).*dense",
        r"(?:.*?(?:encoder|decoder).*?(?:self|attn|mlp|dense).*?)|(?:\broberta\.layers\.\d{1,2}\.(?:q|k))", r"^.*$", "",
        r".*\.\d+\.(?P<part>attention|output)\..*", r"(?=.*query)(?!.*layer\.1).*", r"[\w.]+\.1\.[^.]+\.dense", r"\S+[ey]$",
    )  # fmt: skip
    ends = (
        "attention.self.query",
        "attention.self.value",
        "attention.output.dense",
        "output.dense",
        "intermediate.dense",
    )
    names = [f"{p}encoder.layer.{i}.{end}" for p in ("", "roberta.") for i in (0, 1, 11) for end in ends]
    names += ["classifier.dense", "roberta.pooler.dense", "lm_head.decoder", "query", ""]
    for pattern, name in itertools.product(patterns, names):
        assert bool(matches(pattern, name)) is bool(re.fullmatch(pattern, name)), (pattern, name)
