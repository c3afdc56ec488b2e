"""Compare tokenizers of the family with transformers: `python tests/fuzz_families.py --kind K --count N`.

pytest does not collect this file; tests/oracle/test_family_oracle.py runs a few strings of it. A child process has
transformers, and both processes make the same strings of a seed. N single texts are compared in every column, and
M (`--options`) texts also as pairs, words, cut, in windows, padded and decoded. It prints how many strings were
compared and each difference, and exits with 1 if there was any. Without --kind it takes every kind, one by one.
"""

from __future__ import annotations

import argparse
import marshal
import os
import random
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from family_texts import texts_of
from fuzz_tokenizers import SHARED, random_options

Results = dict[str, tuple[Any, Any]]  # what was done -> the input and the result, "error" for an error

# Kinds that have only a slow class in transformers: no offsets, words or windows there.
SLOW = ("phobert", "bertweet-raw", "bertweet-norm")
FAMILY = SHARED / "golden" / "family" / "tokenizers"
KINDS = (
    "bytelevel-specials", "bytelevel-added", "bytelevel-normalizer", "bytelevel-template", "camembert-full",
    "camembert-slow-only", "xlmr-fast-only", "xlmr-slow-only", "metaspace-unigram", "t5-unigram-pad3", "wordpiece-cased",
    "wordpiece-uncased", *SLOW,
)  # fmt: skip


# -- one side --------------------------------------------------------------------------------------------------


def outcome(call: Any, *args: Any, **options: Any) -> Any:
    """The columns of a call, with words, tokens and sequences of a fast class, or "error"; or what it returns."""
    try:
        found = call(*args, **options)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        if "roberta" in sys.modules:
            return "error" if isinstance(error, ValueError) else f"{type(error)} {error}"
        return "error" if isinstance(error, Exception) else "panic"
    if isinstance(found, str | list):
        return found
    columns = {name: [list(map(tuple, row)) if "offset" in name else row for row in found[name]] for name in found}
    if "offset_mapping" in columns:
        rows = range(len(found["input_ids"]))
        columns |= {"words": [found.word_ids(row) for row in rows], "tokens": [found.tokens(row) for row in rows]}
        columns["sequences"] = [found.sequence_ids(row) for row in rows]
    return columns


def added_texts(tokenizer: Any) -> list[str]:
    """The texts of added tokens."""
    return sorted(set(tokenizer.get_added_vocab()) | set(tokenizer.all_special_tokens))


def columns_of(is_slow: bool) -> dict[str, Any]:
    """Options for the columns that a class has."""
    return {"return_offsets_mapping": not is_slow, "return_special_tokens_mask": True}


def singles(tokenizer: Any, seed: int, count: int, is_slow: bool) -> Results:
    """The columns of the strings of a seed, one call; text by text if the library panics at one of them."""
    texts = texts_of(random.Random(seed), added_texts(tokenizer)[:12], count)
    try:
        found = tokenizer(texts, **columns_of(is_slow))
        return {name: (texts, list(found[name])) for name in found}
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:
        results = {}
        for number, text in enumerate(texts):
            row = outcome(tokenizer, [text], **columns_of(is_slow))
            if isinstance(row, dict):
                row = {name: column for name, column in row.items() if name not in ("words", "tokens", "sequences")}
            results[f"text {number}"] = (text, row)
        return results


def observe(tokenizer: Any, seed: int, count: int, is_slow: bool = False) -> Results:
    """What a tokenizer makes of the strings of a seed in calls of all kinds."""
    rng = random.Random(seed)
    added = added_texts(tokenizer)
    results: Results = {"added tokens": (None, added)}
    texts = texts_of(rng, added[:12], count)
    columns = columns_of(is_slow)
    # single texts, and their ids as text
    found = outcome(tokenizer, texts, **columns)
    if isinstance(found, str):  # one text is enough
        for number, text in enumerate(texts):
            results[f"text {number}"] = (text, outcome(tokenizer, [text], **columns))
    else:
        for name, column in found.items():
            results.update({f"{name} {number}": (texts[number], row) for number, row in enumerate(column)})
        for number, row in enumerate(found["input_ids"]):
            for skips in (False, True):
                decoded = outcome(tokenizer.decode, row, skip_special_tokens=skips)
                results[f"decode {number} {skips}"] = (texts[number], decoded)
            results[f"tokenize {number}"] = (texts[number], outcome(tokenizer.tokenize, texts[number]))
    # pairs and words, cut, in windows and padded
    for start in range(0, len(texts) - 20, 20):
        firsts, seconds = texts[start : start + 10], texts[start + 10 : start + 20]
        options = {**random_options(rng), **columns, "pad_to_multiple_of": rng.choice([None, None, 8])}
        if is_slow:
            options["return_overflowing_tokens"] = False
        for number, pair in enumerate(zip(firsts, seconds, strict=True)):
            results[f"pairs {start + number}"] = ((*pair, options), outcome(tokenizer, [pair], **options))
        single = {**options, "truncation": True}
        results[f"rows {start}"] = (
            (texts[start : start + 20], single),
            outcome(tokenizer, texts[start : start + 20], **single),
        )
        options = {**options, "truncation": "longest_first", "max_length": 40}  # which every pair can meet
        results[f"cut pairs {start}"] = ((firsts, seconds, options), outcome(tokenizer, firsts, seconds, **options))
        words = [text.split(" ") for text in firsts]
        results[f"words {start}"] = (words, outcome(tokenizer, words, is_split_into_words=True, **columns))
        cut = {**options, "is_split_into_words": True, "max_length": 12}
        results[f"cut words {start}"] = ((words, cut), outcome(tokenizer, words, **cut))
    return results


# -- both sides ------------------------------------------------------------------------------------------------


@contextmanager
def peer(
    folder: Path, seed: int, count: int, settings: dict[str, str], job: str = "options"
) -> Iterator[Iterator[Results]]:
    """The results of transformers for that seed and those after it."""
    command = [sys.executable, __file__, "--is-peer", job, "--kind", str(folder), "--seed", str(seed)]
    with subprocess.Popen([*command, "--batch", str(count)], env=settings, stdout=subprocess.PIPE) as child:
        stream = child.stdout
        assert stream is not None
        try:
            yield iter(lambda: marshal.load(stream), None)
        finally:
            stream.close()
            child.kill()


def answer(folder: Path, seed: int, count: int, job: str) -> None:
    """The other side of `peer`."""
    import transformers

    transformers.logging.set_verbosity(60)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # panics print their stack
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
    assert tokenizer.is_fast != (folder.name in SLOW)
    make = {"singles": singles, "options": observe}[job]
    with suppress(BrokenPipeError):
        while True:
            marshal.dump(make(tokenizer, seed, count, folder.name in SLOW), sys.stdout.buffer)
            sys.stdout.buffer.flush()
            seed += 1


def check_slices(results: Results) -> Iterator[str]:
    """Offsets that are not in their text."""
    for what, (text, spans) in results.items():
        if what.startswith("offset_mapping ") and not all(0 <= a <= b <= len(text) for a, b in spans):
            yield f"offsets of {text!a}: {spans}"


def reason(what: str, given: Any, ours: Any, theirs: Any) -> str | None:
    """Why two results may differ; None if they may not."""
    if theirs == "panic":
        return "the library panics"
    if ours == "error" and isinstance(given[-1], dict):
        return why_refused(given[-1], theirs)
    if theirs == "error" and "words" in what:
        return "RobertaTokenizerFast of transformers refuses words without add_prefix_space"
    if isinstance(ours, dict) and isinstance(theirs, dict) and have_other_types(ours, theirs):
        return "the library gives the second text of later windows the type 1"
    return None


def why_refused(options: dict[str, Any], theirs: Any) -> str | None:
    """Why texts that transformers cuts are refused here."""
    room = options["max_length"] - (4 if options["add_special_tokens"] else 0)
    if max(map(sum, theirs["attention_mask"])) > options["max_length"]:
        return "transformers returns rows longer than max_length"
    if 0 < room <= options["stride"]:
        return "the stride leaves no room, which is refused here even if the texts fit"
    return None


def have_other_types(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    """Whether all that differs is the type of second texts in later windows: there 1, here that of the first window."""
    names = {name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)}
    if names != {"token_type_ids"} or "overflow_to_sample_mapping" not in ours:
        return False
    samples, first = ours["overflow_to_sample_mapping"], {}
    for row, sample in enumerate(samples):
        types, other, sequences = (
            each[row] for each in (ours["token_type_ids"], theirs["token_type_ids"], ours["sequences"])
        )
        is_later = first.setdefault(sample, row) != row
        for one, two, sequence in zip(types, other, sequences, strict=True):
            if one != two and not (is_later and sequence == 1 and (one, two) == (0, 1)):
                return False
    return True


def differences(ours: Results, theirs: Results, reasons: Counter[str] | None = None) -> Iterator[str]:
    """What differs, each with its input, but for what has a reason, which is counted."""
    for what in sorted(ours.keys() | theirs.keys()):
        one, other = ours.get(what), theirs.get(what)
        if one == other:
            continue
        given = (one or other or (None,))[0]
        values = [item and item[1] for item in (one, other)]
        why = reason(what, given, *values)
        if why is not None:
            if reasons is not None:
                reasons[why] += 1
            continue
        if all(isinstance(value, dict) for value in values):
            names = sorted(values[0].keys() | values[1].keys())
            differing = [name for name in names if values[0].get(name) != values[1].get(name)]
            values = [{name: value.get(name) for name in differing} for value in values]
        yield f"{what} of {given!a:.600}\n  ours   {values[0]!a:.400}\n  theirs {values[1]!a:.400}"
    failed = sum(result in ("error", "panic") for _, result in theirs.values())
    if failed > len(theirs) / 10:
        yield f"transformers fails in {failed} of {len(theirs)} results, which compares too little"
    yield from check_slices(ours)


def by_text(results: Results) -> Results:
    """The results of `singles`, one a text."""
    if any(what.startswith("text ") for what in results):
        return results
    texts = next(iter(results.values()))[0]
    return {
        f"text {number}": (text, {name: [column[number]] for name, (_, column) in results.items()})
        for number, text in enumerate(texts)
    }


def compare(folder: Path, job: str, count: int, arguments: argparse.Namespace) -> int:
    """Fuzz a folder; print the differences and how many there are, and return that."""
    from peers import environment

    import roberta

    tokenizer = roberta.AutoTokenizer.from_pretrained(folder)
    is_slow, make = folder.name in SLOW, {"singles": singles, "options": observe}[job]
    start, done, found = time.monotonic(), 0, 0
    reasons: Counter[str] = Counter()
    settings = environment(arguments.version)
    # its own packages first; NLTK and emoji are those of this process
    settings["PYTHONPATH"] = os.pathsep.join([settings["PYTHONPATH"], *filter(None, map(str, sys.path))])
    with peer(folder, arguments.seed, arguments.batch, settings, job) as results:
        while done < count:
            ours = make(tokenizer, arguments.seed + done // arguments.batch, arguments.batch, is_slow)
            theirs = next(results)
            done += arguments.batch
            if job == "singles":
                if ours == theirs:
                    continue
                ours, theirs = by_text(ours), by_text(theirs)
            for line in differences(ours, theirs, reasons):
                found += 1
                if found <= 20:
                    print("DIFFERENCE in", line, flush=True)
    said = "".join(f"; {number:,} where {why}" for why, number in sorted(reasons.items()))
    seconds = time.monotonic() - start
    print(
        f"{folder.name}: {done:,} strings, {job}: {found} differences from transformers {arguments.version}{said}; "
        f"{seconds:.0f} s",
        flush=True,
    )
    return found


def main() -> None:
    """Fuzz each kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", nargs="+", default=list(KINDS), help="names of the golden folders, or folders")
    parser.add_argument("--count", type=int, default=1_000_000, help="single texts of each kind")
    parser.add_argument("--options", type=int, default=10_000, help="texts of each kind for calls with options")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=1000, help="texts at a time")
    parser.add_argument("--version", type=int, default=4, help="of transformers")
    parser.add_argument("--is-peer", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    folders = [Path(kind) if Path(kind).is_dir() else FAMILY / kind for kind in arguments.kind]
    if arguments.is_peer:
        answer(folders[0], arguments.seed, arguments.batch, arguments.is_peer)
        return
    total = 0
    for folder in folders:
        for job, count in (("options", arguments.options), ("singles", arguments.count)):
            total += count and compare(folder, job, count, arguments)
    sys.exit(total > 0)


if __name__ == "__main__":
    main()
