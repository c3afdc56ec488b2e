"""The tokens beside the merged ones: special tokens by name, added tokens by id, and the vocabulary with both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from tokenizers import AddedToken

from roberta.common.vocabulary.errors import ArgumentError

__all__ = ["FLAGS", "SPECIAL_TOKEN_NAMES", "AddedToken", "SpecialTokens", "flags", "same_token", "special_token"]

# In the order in which they are listed and, where the vocabulary lacks them, added.
SPECIAL_TOKEN_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
ADDITIONAL = "additional_special_tokens"
FLAGS = ("lstrip", "rstrip", "single_word", "normalized", "special")

Token = str | AddedToken


def flags(token: AddedToken) -> dict[str, bool]:
    """How an added token is matched: lstrip, rstrip, single_word, normalized, special."""
    return {name: getattr(token, name) for name in FLAGS}


def same_token(one: AddedToken, other: AddedToken) -> bool:
    """Whether two added tokens have the same text and are matched alike."""
    return one.content == other.content and flags(one) == flags(other)


def special_token(name: str, token: Token) -> AddedToken:
    """The special token of that name, matched as RoBERTa matches it: only <mask> takes the white space before it."""
    if isinstance(token, AddedToken):
        return AddedToken(token.content, **{**flags(token), "special": True})
    if not isinstance(token, str):
        raise ArgumentError(f"{name}={token!r} must be a str, an AddedToken or None")
    is_mask = name == "mask_token"
    plain = name in SPECIAL_TOKEN_NAMES and not is_mask
    return AddedToken(token, lstrip=is_mask, rstrip=False, single_word=False, normalized=plain, special=True)


def _name_property(name: str) -> property:
    """`tokenizer.mask_token`: the text of a special token, or None; setting it only changes which token has the name."""

    def get(self: SpecialTokens) -> str | None:
        token = self._named[name]
        return None if token is None else str(token)

    def set_(self: SpecialTokens, token: Token | None) -> None:
        if token is not None and not isinstance(token, Token):
            raise ArgumentError(f"{name}={token!r} must be a str, an AddedToken or None")
        self._named[name] = token
        self._changed()

    return property(get, set_, doc=f"The {name.replace('_', ' ')}, or None.")


def _id_property(name: str) -> property:
    """`tokenizer.mask_token_id`: the id of a special token, or None when there is no such token."""

    def get(self: SpecialTokens) -> int | None:
        token = getattr(self, name)
        return None if token is None else self._token_id(token)

    def set_(self: SpecialTokens, index: int | None) -> None:
        setattr(self, name, None if index is None else self.convert_ids_to_tokens(index))

    return property(get, set_, doc=f"The id of the {name.replace('_', ' ')}, or None.")


class SpecialTokens:
    """The vocabulary of a tokenizer, its special tokens and its added tokens.

    The vocabulary proper never changes; `add_tokens` and `add_special_tokens` number what is new after it.
    """

    SPECIAL_TOKENS_ATTRIBUTES: ClassVar[list[str]] = [*SPECIAL_TOKEN_NAMES, ADDITIONAL]

    _vocabulary: Mapping[str, int]
    _added: dict[int, AddedToken]
    _named: dict[str, Token | None]
    _additional: list[Token]
    _has_additional: bool  # False when `additional_special_tokens` was set to None
    _extra: dict[str, str]

    bos_token, bos_token_id = _name_property("bos_token"), _id_property("bos_token")
    eos_token, eos_token_id = _name_property("eos_token"), _id_property("eos_token")
    unk_token, unk_token_id = _name_property("unk_token"), _id_property("unk_token")
    sep_token, sep_token_id = _name_property("sep_token"), _id_property("sep_token")
    pad_token, pad_token_id = _name_property("pad_token"), _id_property("pad_token")
    cls_token, cls_token_id = _name_property("cls_token"), _id_property("cls_token")
    mask_token, mask_token_id = _name_property("mask_token"), _id_property("mask_token")

    def _start(
        self,
        vocabulary: Mapping[str, int],
        added: Mapping[int, AddedToken],
        named: Mapping[str, Token | None],
        more: Sequence[Token],
        extra: Mapping[str, Token],
    ) -> None:
        """Set up: what was added before keeps its id, and a special token that has none is added."""
        self._vocabulary = vocabulary
        self._added = {}
        self._ids_of_added: dict[str, int] = {}
        self._by_id: dict[int, str] | None = None
        for index, token in sorted(added.items()):
            self._put(token, index)
        known = {token.content: token for token in added.values()}
        self._named = {
            name: None if token is None else self._known(self._as_special(name, token), token, known)
            for name, token in named.items()
        }
        self._additional = [self._known(self._as_special(ADDITIONAL, token), token, known) for token in more]
        self._has_additional = True
        self._extra = {name: str(token) for name, token in extra.items()}
        listed = [
            *self._named.values(),
            *self._additional,
            *(self._known(self._as_special(name, token), token, known) for name, token in extra.items()),
        ]
        for special in listed:
            if isinstance(special, AddedToken):
                present = self._added.get(self._ids_of_added.get(special.content, -1))
                if present is None or not same_token(present, special):
                    self._put(special, None)
        self._changed()

    def _as_special(self, name: str, token: Token) -> AddedToken:
        """The special token of that name, with how it is matched where only its text was given."""
        return special_token(name, token)

    def _known(self, special: AddedToken, given: Token, known: Mapping[str, AddedToken]) -> AddedToken:
        """The token of the file with that text, where only a text was given: the file says how it is matched."""
        return known.get(special.content, special) if isinstance(given, str) else special

    def _changed(self) -> None:
        """Forget what was derived from the tokens; classes that derive more extend this."""
        self._special_ids: frozenset[int] | None = None

    # -- special tokens ------------------------------------------------------------------------------------------

    @property
    def additional_special_tokens(self) -> list[str] | None:
        """The texts of the special tokens that have no name of their own; None where it was set to None."""
        return [str(token) for token in self._additional] if self._has_additional else None

    @additional_special_tokens.setter
    def additional_special_tokens(self, tokens: Sequence[Token] | None) -> None:
        if isinstance(tokens, str) or not all(isinstance(token, Token) for token in tokens or ()):
            raise ArgumentError(f"additional_special_tokens={tokens!r} must be a list of tokens, or None")
        self._additional, self._has_additional = list(tokens or ()), tokens is not None
        self._changed()

    @property
    def additional_special_tokens_ids(self) -> list[int | None] | None:
        """The ids of `additional_special_tokens`."""
        return [self._token_id(str(token)) for token in self._additional] if self._has_additional else None

    @additional_special_tokens_ids.setter
    def additional_special_tokens_ids(self, ids: Sequence[int] | None) -> None:
        self.additional_special_tokens = None if ids is None else self.convert_ids_to_tokens(ids)

    @property
    def _special_tokens_map(self) -> dict[str, Any]:
        """Name -> token, or None. Tools written for transformers read it; only the attributes change it."""
        return {**self._named, ADDITIONAL: list(self._additional) if self._has_additional else None}

    @property
    def extra_special_tokens(self) -> dict[str, str]:
        """Special tokens with names of this tokenizer's own, each an attribute too."""
        return dict(self._extra)

    @property
    def special_tokens_map(self) -> dict[str, str | list[str]]:
        """Name -> text, of the special tokens that there are."""
        result: dict[str, str | list[str]] = {
            name: str(token) for name, token in self._named.items() if token is not None
        }
        if self._additional:
            result[ADDITIONAL] = [str(token) for token in self._additional]
        return {**result, **self._extra}

    @property
    def special_tokens_map_extended(self) -> dict[str, Any]:
        """Name -> token with how it is matched, of the special tokens that there are."""
        result: dict[str, Any] = {name: token for name, token in self._named.items() if token is not None}
        return {**result, **({ADDITIONAL: list(self._additional)} if self._additional else {}), **self._extra}

    @property
    def all_special_tokens(self) -> list[str]:
        """The text of each special token, once."""
        return list(map(str, self.all_special_tokens_extended))

    @property
    def all_special_tokens_extended(self) -> list[Token]:
        """Each special token, once, with how it is matched."""
        tokens = [
            *(token for token in self._named.values() if token is not None),
            *self._additional,
            *self._extra.values(),
        ]
        first: dict[str, Token] = {}
        for token in tokens:
            first.setdefault(str(token), token)
        return list(first.values())

    @property
    def all_special_ids(self) -> list[int | None]:
        """The ids of `all_special_tokens`."""
        return [self._token_id(token) for token in self.all_special_tokens]

    def _skipped_ids(self) -> frozenset[int]:
        """The ids that `skip_special_tokens` leaves out."""
        if self._special_ids is None:
            special = {index for index, token in self._added.items() if token.special}
            self._special_ids = frozenset(special | {index for index in self.all_special_ids if index is not None})
        return self._special_ids

    def __getattr__(self, name: str) -> Any:
        extra: dict[str, str] = self.__dict__.get("_extra", {})
        if name in extra:
            return extra[name]
        if name.endswith("_id") and name[:-3] in extra:
            return self._token_id(extra[name[:-3]])
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    # -- adding --------------------------------------------------------------------------------------------------

    def add_tokens(self, new_tokens: Token | Sequence[Token], special_tokens: bool = False) -> int:
        """Add tokens that are matched in the text before it is split; returns how many are new or matched differently.

        A text the vocabulary has keeps its id; any other is numbered from `len(tokenizer)`: resize the model to it.
        """
        tokens = [new_tokens] if isinstance(new_tokens, Token) else list(new_tokens)
        return sum(self._add(token, special_tokens) for token in tokens)

    def add_special_tokens(
        self,
        special_tokens_dict: Mapping[str, Token | Sequence[Token]],
        replace_additional_special_tokens: bool = True,
    ) -> int:
        """Give names to tokens ({"mask_token": "[M]"}) and add them; returns how many are new or matched differently.

        Raises:
            ValueError: a name that no special token has.
        """
        tokens: list[Token] = []
        for name, value in special_tokens_dict.items():
            if name in SPECIAL_TOKEN_NAMES and isinstance(value, Token):
                self._named[name] = special_token(ADDITIONAL, value)
                tokens.append(special_token(ADDITIONAL, value))
            elif name == ADDITIONAL and not isinstance(value, Token):
                more = [special_token(ADDITIONAL, token) for token in value]
                kept = [] if replace_additional_special_tokens else self._additional
                texts = {str(token) for token in kept}
                self._additional, self._has_additional = (
                    [*kept, *(token for token in more if token.content not in texts)],
                    True,
                )
                tokens += more
            else:
                raise ArgumentError(
                    f"{name}={value!r} is not a special token; give a token to one of the names "
                    f"{', '.join(SPECIAL_TOKEN_NAMES)}, or a list to {ADDITIONAL}"
                )
        self._changed()
        return self.add_tokens(tokens, special_tokens=True)

    def _add(self, token: Token, special: bool) -> bool:
        if not isinstance(token, Token):
            raise ArgumentError(f"a token to add is a str or an AddedToken, not {token!r}")
        if isinstance(token, str):
            token = AddedToken(token, normalized=not special, special=special)
        elif special and not token.special:
            token = AddedToken(token.content, **{**flags(token), "special": True})
        present = self._added.get(self._ids_of_added.get(token.content, -1))
        if not token.content or (present is not None and same_token(present, token)):
            return False
        self._put(token, None)
        self._changed()
        return True

    def _put(self, token: AddedToken, index: int | None) -> None:
        """Keep an added token under its id: the given one, the vocabulary's, or the next."""
        if index is None:
            index = self._ids_of_added.get(token.content, self._vocabulary.get(token.content))
        if index is None:
            index = max(len(self._vocabulary), 1 + max(self._added, default=-1))
        self._added[index] = token
        self._ids_of_added[token.content] = index
        if self._by_id is not None:
            self._by_id[index] = token.content

    # -- the vocabulary ------------------------------------------------------------------------------------------

    @property
    def vocab_size(self) -> int:
        """The number of tokens of the vocabulary, without added ones."""
        return len(self._vocabulary)

    def __len__(self) -> int:
        return len(self._vocabulary) + sum(token not in self._vocabulary for token in self._ids_of_added)

    def get_vocab(self) -> dict[str, int]:
        """Token -> id, added tokens included."""
        return {**self._vocabulary, **self._ids_of_added}

    @property
    def vocab(self) -> dict[str, int]:
        """Token -> id, added tokens included."""
        return self.get_vocab()

    @property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        """Id -> added token, special tokens included, by id."""
        return dict(sorted(self._added.items()))

    @property
    def added_tokens_encoder(self) -> dict[str, int]:
        """Text -> id of the added tokens, special tokens included, by id."""
        return {token.content: index for index, token in sorted(self._added.items())}

    def get_added_vocab(self) -> dict[str, int]:
        """Text -> id of the added tokens, special tokens included, by id."""
        return self.added_tokens_encoder

    def _token_id(self, token: str) -> int | None:
        """The id of a token; that of the unknown token, or None, when there is no such token."""
        index = self._ids_of_added.get(token, self._vocabulary.get(token))
        if index is None:
            unknown = self._named["unk_token"]
            index = (
                None if unknown is None else self._ids_of_added.get(str(unknown), self._vocabulary.get(str(unknown)))
            )
        return index

    def _token_of_id(self, index: int) -> str | None:
        if self._by_id is None:
            self._by_id = {index: token for token, index in self._vocabulary.items()}
            self._by_id.update((index, token.content) for index, token in self._added.items())
        return self._by_id.get(index)

    def sanitize_special_tokens(self) -> int:
        """Add the special tokens that the vocabulary lacks; returns how many are new or matched differently."""
        return self.add_tokens(self.all_special_tokens_extended, special_tokens=True)

    def _convert_token_to_id_with_added_voc(self, token: str | None) -> int | None:
        """The id of a token, added ones included; the unknown token's where there is none."""
        return None if token is None else self._token_id(token)

    def _convert_id_to_token(self, index: int) -> str | None:
        """The token of an id; None where there is none."""
        return self._token_of_id(int(index))

    def convert_tokens_to_ids(self, tokens: str | Iterable[str] | None) -> Any:
        """The id of a token, or of each of several; the unknown token's where there is none; None for None."""
        if tokens is None:
            return None
        return self._token_id(tokens) if isinstance(tokens, str) else [self._token_id(token) for token in tokens]

    def convert_ids_to_tokens(self, ids: object, skip_special_tokens: bool = False) -> Any:
        """The token of an id, or of each of several (list, array, tensor); None where there is none."""
        numbers = as_ids(ids)
        if isinstance(numbers, int):
            return self._token_of_id(numbers)
        skipped = self._skipped_ids() if skip_special_tokens else ()
        return [self._token_of_id(index) for index in numbers if index not in skipped]


def _without_framework(value: Any) -> Any:
    """An array or a tensor of any framework as a number or (nested) lists; anything else unchanged."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    if callable(getattr(value, "numpy", None)):
        value = value.numpy()
    elif hasattr(value, "__array__"):
        value = value.__array__()
    return value.tolist() if hasattr(value, "tolist") else value


def as_lists(value: object) -> Any:
    """A value with every array and tensor in it as (nested) lists."""
    return list(map(as_lists, value)) if isinstance(value, list | tuple) else _without_framework(value)


def as_ids(ids: Any) -> int | list[int]:
    """Ids as an int or a list of int, from those, an array or a tensor of any framework.

    Raises:
        ValueError: for anything else.
    """
    ids = _without_framework(ids)
    if isinstance(ids, int) and not isinstance(ids, bool):
        return ids
    if isinstance(ids, Iterable) and not isinstance(ids, str | bytes | Mapping):
        numbers = [index if type(index) is int else as_ids(index) for index in ids]
        if all(type(index) is int for index in numbers):
            return numbers  # type: ignore[return-value]
    raise ValueError(f"token ids must be an int or a flat list, array or tensor of ints, not {ids!r:.80}")
