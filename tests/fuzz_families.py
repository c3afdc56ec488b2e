"""Compare tokenizers of RoBERTa's relatives with transformers: `python tests/fuzz_families.py FOLDER ... --seconds 60`.

pytest does not collect this file; tests/oracle/test_family_oracle.py runs a few strings of it. A child process has
transformers, and both processes make the same strings of a seed. It prints how many strings were compared and each
difference, and exits with 1 if there was any.
"""

from __future__ import annotations

import argparse
import pickle
import random
import subprocess
import sys
import time
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from fuzz_tokenizers import KINDS, random_options, strings

Results = dict[str, tuple[Any, Any]]  # what was done -> the input and the result, "error" for an error


def texts_of(rng: random.Random, added: list[str], count: int) -> list[str]:
    """Strings of all kinds, some of them composed or decomposed, some with texts of added tokens between."""
    whole = strings(rng, KINDS[:-1])
    texts = []
    for text in (next(whole) for _ in range(count)):
        if added and rng.random() < 0.25:
            place = rng.randint(0, len(text))
            joint = rng.choice(["", " ", "  ", "\n", "\u3000"])
            text = text[:place] + joint + rng.choice(added) + rng.choice(["", joint, "x"]) + text[place:]
        if rng.random() < 0.2:
            text = unicodedata.normalize(rng.choice(["NFC", "NFD", "NFKC", "NFKD"]), text)
        texts.append(text)
    return texts


def outcome(call: Any, *args: Any, **options: Any) -> Any:
    """The columns, words and tokens of a call, or "error"; a panic of the library is not an `Exception`."""
    try:
        found = call(*args, **options)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        return "error" if isinstance(error, ValueError) or "roberta" not in sys.modules else f"{type(error)} {error}"
    if isinstance(found, str | list):
        return found
    rows = range(len(found["input_ids"]))
    columns = {name: [list(map(tuple, row)) if "offset" in name else row for row in found[name]] for name in found}
    return {**columns, "words": [found.word_ids(row) for row in rows], "tokens": [found.tokens(row) for row in rows]}


def observe(tokenizer: Any, seed: int, count: int) -> Results:
    """What a tokenizer makes of the strings of a seed."""
    rng = random.Random(seed)
    added = sorted(set(tokenizer.get_added_vocab()) | set(tokenizer.all_special_tokens))
    results: Results = {"added tokens": (None, added)}
    texts = texts_of(rng, added[:12], count)
    columns = {"return_offsets_mapping": True, "return_special_tokens_mask": True}
    found = outcome(tokenizer, texts, **columns)
    if found == "error":  # one text is enough
        for number, text in enumerate(texts):
            results[f"text {number}"] = (text, outcome(tokenizer, [text], **columns))
    else:
        for name, column in found.items():
            results.update({f"{name} {number}": (texts[number], row) for number, row in enumerate(column)})
        for number, row in enumerate(found["input_ids"]):
            for skips in (False, True):
                decoded = outcome(tokenizer.decode, row, skip_special_tokens=skips)
                results[f"decode {number} {skips}"] = (texts[number], decoded)
    # pairs and words, cut, in windows and padded
    for start in range(0, len(texts) - 20, 20):
        firsts, seconds = texts[start : start + 10], texts[start + 10 : start + 20]
        options = random_options(rng)
        results[f"pairs {start}"] = ((firsts, seconds, options), outcome(tokenizer, firsts, seconds, **options))
        options = {**options, "truncation": "longest_first", "max_length": 40}  # which every pair can meet
        results[f"cut pairs {start}"] = ((firsts, seconds, options), outcome(tokenizer, firsts, seconds, **options))
        words = [text.split(" ") for text in firsts]
        results[f"words {start}"] = (words, outcome(tokenizer, words, is_split_into_words=True, **columns))
    return results


def check_slices(results: Results) -> Iterator[str]:
    """Offsets that are not in their text."""
    for what, (text, spans) in results.items():
        if what.startswith("offset_mapping") and not all(0 <= a <= b <= len(text) for a, b in spans):
            yield f"offsets of {text!a}: {spans}"


@contextmanager
def peer(folder: Path, seed: int, count: int, settings: dict[str, str]) -> Iterator[Iterator[Results]]:
    """The results of transformers for that seed and those after it."""
    command = [sys.executable, __file__, str(folder), "--seed", str(seed), "--batch", str(count), "--is-peer"]
    with subprocess.Popen(command, env=settings, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        stream = child.stdout
        assert stream is not None
        try:
            yield iter(lambda: pickle.load(stream), None)
        finally:
            stream.close()
            child.kill()


def answer(folder: Path, seed: int, count: int) -> None:
    """The other side of `peer`."""
    import transformers

    transformers.logging.set_verbosity(60)
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
    while True:
        pickle.dump(observe(tokenizer, seed, count), sys.stdout.buffer)
        sys.stdout.buffer.flush()
        seed += 1


def may_refuse(given: Any, theirs: Any) -> bool:
    """Whether pairs cannot be cut as asked, although transformers answers: no room, or rows that are still too long."""
    options = given[2]
    room = options["max_length"] - (4 if options["add_special_tokens"] else 0)
    return options["stride"] >= room or max(map(sum, theirs["attention_mask"])) > options["max_length"]


def without_types(one: tuple[Any, Any], other: tuple[Any, Any]) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Two results without types, if ours are all 0: the library gives later windows types that the template has not."""
    (given, ours), (_, theirs) = one, other
    if not (isinstance(ours, dict) and isinstance(theirs, dict) and "overflow_to_sample_mapping" in ours):
        return one, other
    if any(map(any, ours.get("token_type_ids", []))):
        return one, other
    ours, theirs = ({key: value for key, value in each.items() if key != "token_type_ids"} for each in (ours, theirs))
    return (given, ours), (given, theirs)


def differences(ours: Results, theirs: Results) -> Iterator[str]:
    """What differs, each with its input; an error of transformers, often a panic, may be a result here."""
    for what in sorted(ours.keys() | theirs.keys()):
        one, other = ours.get(what), theirs.get(what)
        if one is not None and other is not None:
            one, other = without_types(one, other)
            if what.startswith("pairs") and one[1] == "error" != other[1] and may_refuse(*other):
                continue
        if one != other and (other is None or other[1] != "error"):
            given = (one or other or (None,))[0]
            values = [item and item[1] for item in (one, other)]
            if all(isinstance(value, dict) for value in values):
                names = sorted(values[0].keys() | values[1].keys())
                differing = [name for name in names if values[0].get(name) != values[1].get(name)]
                values = [{name: value.get(name) for name in differing} for value in values]
            yield f"{what} of {given!a:.600}\n  ours   {values[0]!a:.400}\n  theirs {values[1]!a:.400}"
    failed = sum(result == "error" for _, result in theirs.values())
    if failed > len(theirs) / 10:
        yield f"transformers fails in {failed} of {len(theirs)} results, which compares too little"
    yield from check_slices(ours)


def main() -> None:
    """Fuzz each folder for its time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--seconds", type=float, default=60, help="of each folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=1000, help="strings at a time")
    parser.add_argument("--version", type=int, default=4, help="of transformers")
    parser.add_argument("--is-peer", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.is_peer:
        answer(arguments.folders[0], arguments.seed, arguments.batch)
    from peers import environment

    import roberta

    total = 0
    for folder in arguments.folders:
        tokenizer = roberta.AutoTokenizer.from_pretrained(folder)
        start, seed, found = time.monotonic(), arguments.seed, 0
        with peer(folder, seed, arguments.batch, environment(arguments.version)) as results:
            while time.monotonic() - start < arguments.seconds:
                for line in differences(observe(tokenizer, seed, arguments.batch), next(results)):
                    found += 1
                    if found <= 20:
                        print("DIFFERENCE in", line, flush=True)
                seed += 1
        count = (seed - arguments.seed) * arguments.batch
        print(f"{folder.name}: {count:,} strings, {found} differences, transformers {arguments.version}", flush=True)
        total += found
    sys.exit(total > 0)


if __name__ == "__main__":
    main()
