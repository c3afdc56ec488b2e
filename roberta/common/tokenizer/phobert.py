"""The tokenizers of PhoBERT and BERTweet: vocab.txt and bpe.codes, without a tokenizer.json.

transformers has slow classes only, which these follow; on the tokenizers library they have offsets and words, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from roberta.common.tokenizer.library import FAIRSEQ_TOKENS, PreTrainedTokenizerFast
from roberta.common.tokenizer.settings import Files, check_flag, first_given
from roberta.common.tokenizer.subwords import SubwordEngine
from roberta.common.tokenizer.traced import TracedText
from roberta.common.tokenizer.tweets import TweetNormalizer
from roberta.common.tokenizer.vocabulary_training import Texts, learned_subwords
from roberta.common.vocabulary.files import CODES_FILE, WORDPIECE_FILE, TextFile, Vocabulary, merge_lines
from roberta.common.vocabulary.special_tokens import AddedToken
from roberta.common.vocabulary.subword_files import (
    CONTINUES,
    Merges,
    SubwordModel,
    read_codes,
    read_counted_tokens,
    subword_model,
    subword_texts,
)

# The special tokens that vocab.txt does not have, in the order of their ids.
_FIRST = ("bos_token", "pad_token", "eos_token", "unk_token")


class PhobertTokenizer(PreTrainedTokenizerFast):
    """PhoBERT's tokenizer: a BPE of words, with parts like `xx@@`; `<s> A </s>` and `<s> A </s></s> B </s>`.

    A text must be split into Vietnamese words, `Sinh_viên`, as PhoBERT was trained on such.

    Args:
        vocab_file: vocab.txt: a token and its count a line.
        merges_file: bpe.codes: two symbols and their count a line, best first.
        settings: as in `PreTrainedTokenizerFast`; there is no tokenizer_file.

    Raises:
        CheckpointError: a file is missing or malformed; names the line.
    """

    vocab_files_names: ClassVar[dict[str, str]] = {"vocab_file": WORDPIECE_FILE, "merges_file": CODES_FILE}
    special_defaults = FAIRSEQ_TOKENS
    builds_rows = True
    has_slow_calls = True
    continues = CONTINUES
    _subwords: SubwordModel
    _normalizer: TweetNormalizer | None = None

    def __init__(
        self, vocab_file: TextFile | None = None, merges_file: TextFile | None = None, **settings: Any
    ) -> None:
        for name in ("tokenizer_file", "tokenizer_object"):
            if settings.pop(name, None) is not None:
                raise ValueError(
                    f"{type(self).__name__} has no {name}, as a tokenizer.json cannot hold its vocabulary; give vocab_file "
                    "and merges_file, or load a tokenizer.json with PreTrainedTokenizerFast"
                )
        texts = {name: settings.get(name, self.special_defaults[name]) for name in _FIRST}
        for name, token in texts.items():
            if token is None:
                raise ValueError(f"{name}=None: the ids of {type(self).__name__} begin with that token; give its text")
        self._first = [str(token) for token in texts.values()]
        given = {WORDPIECE_FILE: vocab_file, CODES_FILE: merges_file}
        # as texts, of whose parts a pickle makes no more than one object
        self._files = {name: str(file) if isinstance(file, Path) else file for name, file in given.items()}
        super().__init__(vocab_file, merges_file=merges_file, **settings)
        self._writes_trim = False

    def _read_vocabulary(self, files: Files, added: Mapping[int, AddedToken]) -> Vocabulary:
        paths = {name: files[name] for name in self.vocab_files_names}
        for name, path in paths.items():
            if path is None:
                raise ValueError(f"{name} is missing; {type(self).__name__} needs vocab_file and merges_file")
            if not isinstance(path, str | Path):
                raise TypeError(f"{name}={path!r:.80} must be the name of a file")
        tokens = read_counted_tokens(Path(str(paths["vocab_file"])), self._first)
        merges = read_codes(Path(str(paths["merges_file"])))
        return Vocabulary(tokens, "\n".join(map(" ".join, merges)))

    def _use(self, vocabulary: Vocabulary) -> None:
        super()._use(vocabulary)
        self._subwords = subword_model(vocabulary.tokens, _pairs(vocabulary.merges), vocabulary.tokens[self._first[3]])
        self._library = self._subwords.library

    def _default_prefix(self, vocabulary: Vocabulary, config: Mapping[str, Any]) -> bool:
        return False

    def _make_engine(self, added: Mapping[int, AddedToken], add_prefix_space: bool) -> SubwordEngine:
        if add_prefix_space:
            raise ValueError("add_prefix_space=True: a space makes no difference to this tokenizer; omit it")
        return SubwordEngine(self._subwords, added, self._normalizer)

    @property
    def encoder(self) -> dict[str, int]:
        """Token -> id, without added tokens."""
        return dict(self._vocabulary)

    @property
    def decoder(self) -> dict[int, str]:
        """Id -> token, without added tokens."""
        return {index: token for token, index in self._vocabulary.items()}

    @property
    def bpe_ranks(self) -> dict[tuple[str, str], int]:
        """The two symbols of a merge -> its rank, 0 for the best."""
        return {merge: rank for rank, merge in enumerate(_pairs(self._merges))}

    @property
    def backend_tokenizer(self) -> NoReturn:
        """None: the library's ids are not those of the vocabulary.

        Raises:
            AttributeError: always.
        """
        raise AttributeError(f"{type(self).__name__} has no backend_tokenizer")

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int | None]:
        """The row of a call: `<s> A </s>`, or `<s> A </s></s> B </s>`."""
        return [*self.layout(token_ids_1 is not None).row(token_ids_0, token_ids_1)]

    def _token_of_id(self, index: int) -> str | None:
        """The token of an id; the unknown token where there is none."""
        return first_given(super()._token_of_id(index), self.unk_token)  # type: ignore[no-any-return]

    def word_borders(self, token: str) -> tuple[bool, bool]:
        """Whether a token begins a word, which it does not say, and whether it ends one."""
        return False, not token.endswith(self.continues)

    # -- from ids to text ------------------------------------------------------------------------------------------

    def _text_of_ids(self, ids: list[int], has_spaces: bool | None) -> str:
        """The text of ids, with spaces around added tokens that have no name of their own unless told otherwise."""
        tokens = [token for token in self.convert_ids_to_tokens(ids) if token is not None]
        return ("" if has_spaces is False else " ").join(self._text_parts(tokens))

    def _text_parts(self, tokens: Sequence[str]) -> Iterator[str]:
        """Each added token that has no name of its own, and the text between two of them."""
        named = {str(token) for token in self._named.values()} | set(self._extra.values())
        apart = {token for token in self._ids_of_added if token not in named}
        for is_apart, group in groupby(tokens, apart.__contains__):
            if is_apart:
                yield from group
            else:
                text = self.convert_tokens_to_string(list(group))
                if text:
                    yield text

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        """The text of tokens: with spaces between words."""
        return " ".join(tokens).replace(f"{self.continues} ", "").strip()

    # -- saving ----------------------------------------------------------------------------------------------------

    def files_to_save(self, legacy_format: bool | None = None, *, save_jinja_files: bool = True) -> dict[str, bytes]:
        """The contents that `save_pretrained` writes, by file name.

        Raises:
            ValueError: legacy_format=False, as a tokenizer.json cannot give this tokenizer's ids.
        """
        if legacy_format is False:
            raise ValueError(
                "legacy_format=False asks for a tokenizer.json, which cannot give the ids of this tokenizer: its merges "
                "make symbols that the vocabulary lacks; omit it for vocab.txt and bpe.codes"
            )
        return super().files_to_save(True, save_jinja_files=save_jinja_files)

    def _vocabulary_texts(self) -> dict[str, bytes]:
        """The files that the tokenizer was made of; written from the vocabulary where they are missing by now."""
        if all(isinstance(path, str | Path) and Path(path).is_file() for path in self._files.values()):
            return {name: Path(str(path)).read_bytes() for name, path in self._files.items()}
        if len(set(self._vocabulary.values())) < len(self._vocabulary):
            raise ValueError(
                f"{self._files[WORDPIECE_FILE]} is missing by now, and a file cannot be written from the vocabulary, in "
                "which two tokens have the same id; put the file back"
            )
        return subword_texts(self._vocabulary, len(_FIRST), _pairs(self._merges))

    # -- training --------------------------------------------------------------------------------------------------

    def _learned(self, texts: Texts, vocab_size: int, unk_token: str | None, options: Mapping[str, Any]) -> Vocabulary:
        """A vocabulary of this kind, learned from texts; the first four special tokens keep their ids."""
        normalizer = self._normalizer
        return learned_subwords(
            texts,
            vocab_size,
            first=len(_FIRST),
            written=None if normalizer is None else lambda text: normalizer(TracedText(text)).text,
            **options,
        )


class BertweetTokenizer(PhobertTokenizer):
    """BERTweet's tokenizer: PhoBERT's, and a normalisation of tweets.

    Args:
        vocab_file: vocab.txt: a token and its count a line.
        merges_file: bpe.codes: two symbols and their count a line, best first.
        normalization: write users as @USER, addresses as HTTPURL and emoji as their names before a text is split; needs
            NLTK and emoji (`pip install 'roberta[bertweet]'`).
        settings: as in `PreTrainedTokenizerFast`; there is no tokenizer_file.

    Raises:
        CheckpointError: a file is missing or malformed; names the line.
        ImportError: NLTK or emoji is needed and not installed.
    """

    own_settings = ("normalization",)

    def __init__(
        self,
        vocab_file: TextFile | None = None,
        merges_file: TextFile | None = None,
        normalization: bool = False,
        **settings: Any,
    ) -> None:
        normalization = check_flag("normalization", normalization)
        self._normalizer = TweetNormalizer() if normalization else None
        super().__init__(vocab_file, merges_file, normalization=normalization, **settings)

    @property
    def normalization(self) -> bool:
        """Whether texts are normalised."""
        return self._normalizer is not None

    def normalizeTweet(self, tweet: str) -> str:  # noqa: N802 - transformers' name
        """A tweet as it is before it is split into parts of words.

        Raises:
            ImportError: NLTK or emoji is not installed.
        """
        normalize = self._normalizer or TweetNormalizer()
        return " ".join(normalize(TracedText(tweet)).text.split())


def _pairs(merges: str) -> Merges:
    """Merges of lines "left right"."""
    pairs = (line.split(" ") for line in merge_lines(merges))
    return [(left, right) for left, right in pairs]
