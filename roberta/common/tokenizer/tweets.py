"""BERTweet's normalisation of tweets: users, addresses, emoji, and the spaces around contractions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import regex

from roberta.common.tokenizer.traced import TracedText

_EXTRA = "pip install 'roberta[bertweet]'"

# Any character but an ASCII letter or digit, more than three times in a row. NLTK of today keeps every letter.
_REPEATED = regex.compile(r"([^a-zA-Z0-9])\1{3,}")

_PUNCTUATION = {"’": "'", "…": "..."}
_ODD_PUNCTUATION = regex.compile("[’…]")

# Letters and digits without a break. From each place in them NLTK's pattern looks for a dot at their end, as of the name
# of a website: in 40,000 digits, which are 4,000 telephone numbers to it, that takes 12 seconds.
_LONG_RUN = regex.compile(r"[a-zA-Z0-9]{1024,}")
_WINDOW = 512  # no word but a long one looks that far: 255 letters before a dot, 64 before the @ of an address

# What is replaced in the words with spaces between them, in this order; only spaces differ.
_SPACING = (
    ("cannot ", "can not "), ("n't ", " n't "), ("n 't ", " n't "), ("ca n't", "can't"), ("ai n't", "ain't"),
    ("'m ", " 'm "), ("'re ", " 're "), ("'s ", " 's "), ("'ll ", " 'll "), ("'d ", " 'd "), ("'ve ", " 've "),
    (" p . m .", "  p.m."), (" p . m ", " p.m "), (" a . m .", " a.m."), (" a . m ", " a.m "),
)  # fmt: skip


class TweetNormalizer:
    """Rewrites a tweet as BERTweet was trained on it.

    Raises:
        ImportError: NLTK or emoji is not installed.
    """

    def __init__(self) -> None:
        try:
            import emoji
            from nltk.tokenize import casual
        except ImportError as error:
            raise ImportError(
                f"normalization=True needs {error.name}, which is not installed; {_EXTRA}, or give normalization=False "
                "and texts that are normalized already"
            ) from error
        self._entity = casual.ENT_RE
        self._unescaped: Callable[[str], str] = casual._replace_html_entities
        self._demojized: Callable[[str], str] = emoji.demojize
        self._word = _word_pattern(casual)

    def __call__(self, tweet: TracedText) -> TracedText:
        """The tweet as words with spaces between them."""
        tweet = tweet.replaced(_ODD_PUNCTUATION, lambda match: _PUNCTUATION[match[0]])
        tweet = tweet.replaced(self._entity, lambda match: self._unescaped(match[0]))
        tweet = _shortened(tweet)
        found = [(match.start(), match.end(), self._written(match[0])) for match in self._words(tweet.text)]
        tweet = tweet.words(found)
        for old, new in _SPACING:
            tweet = tweet.spaced(old, new)
        # a newline between dots, which are one word in NLTK before 3.10, would be the end of that word
        return tweet._replace(text=tweet.text.replace("\n", " "))

    def _words(self, text: str) -> Iterator[Any]:
        """The matches of NLTK's pattern, one after the other, in a time that grows with the text and not its square."""
        at = 0
        for run in _LONG_RUN.finditer(text):
            # as they are, up to the first word that begins inside the run
            for word in self._word.finditer(text, at):
                at = word.start()
                if at > run.start():
                    break
                yield word
                at = word.end()
            else:
                return
            # does it not reach over the end, no website's name begins in the run, as all would go on in the same way;
            # and what else begins there is decided by the next letters
            while at + _WINDOW <= run.end() and word.end() <= run.end():
                word = self._word.match(text, at, at + _WINDOW)
                if word is None or word.end() > at + _WINDOW - 8:
                    word = self._word.match(text, at)
                yield word
                at = word.end()
        yield from self._word.finditer(text, at)

    def _written(self, word: str) -> str:
        """The text in place of a word."""
        if word[0] == "@":
            return "@USER"
        if word[0] in "hHwW" and word.lower().startswith(("http", "www")):
            return "HTTPURL"
        return self._demojized(word) if len(word) == 1 and not word.isascii() else word

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()


def _shortened(tweet: TracedText) -> TracedText:
    """With three of each repeated character, the third of which stands for the rest."""
    if tweet.spans is None:
        return tweet.replaced(_REPEATED, lambda match: match[0][:3])
    texts, spans, done = [], [], 0
    for match in _REPEATED.finditer(tweet.text):
        start, end = match.span()
        texts.append(tweet.text[done : start + 3])
        spans += [*tweet.spans[done : start + 2], tweet.source((start + 2, end))]
        done = end
    return TracedText("".join([*texts, tweet.text[done:]]), spans + tweet.spans[done:])


@cache
def _word_pattern(casual: Any) -> Any:
    """NLTK's words of tweets, without the two kinds that BERTweet's version did not have: joined emoji, and flags."""
    flags = regex.VERBOSE | regex.I | regex.UNICODE
    kinds = [
        kind
        for kind in casual.REGEXPS_PHONE
        if not any(regex.fullmatch(kind, text, flags) for text in ("👨\u200d👩", "👍🏽", "🇫🇷"))
    ]
    return regex.compile(f"({'|'.join(kinds)})", flags)
