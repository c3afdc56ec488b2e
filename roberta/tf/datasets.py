"""Rows of a data set as a `tf.data.Dataset` of batches that a model takes and `fit` trains on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

if TYPE_CHECKING:
    from roberta.common.tokenizer.base import TokenizerBase

_Row = Mapping[str, Any]
Dataset = Sequence[_Row] | Mapping[str, Sequence[Any]]  # or a `datasets.Dataset`
LABELS = {"label": "labels", "label_ids": "labels"}  # names of a column -> the model's argument


def tf_dataset(
    dataset: Dataset,
    *,
    names: Sequence[str],
    label_names: Sequence[str],
    batch_size: int,
    shuffle: bool,
    tokenizer: "TokenizerBase | None",
    collate: Callable[..., Mapping[str, Any]] | None,
    collate_options: Mapping[str, Any] | None,
    drop_remainder: bool | None,
    prefetch: bool,
) -> tf.data.Dataset:
    """Batches of `dataset`: inputs, or (inputs, labels) where it has labels; one input or label is a tensor, not a dict.

    Args:
        dataset: of rows by number: a `datasets.Dataset`, a mapping of columns, or a sequence of dicts.
        names: of the columns that the model takes; others are left out.
        drop_remainder: leave out a last batch that is smaller; by default where rows are shuffled.

    Raises:
        ValueError: there are no rows, or no column of the model's.
    """
    rows = _Rows(dataset, {*names, *LABELS})
    collate = collate or (_padded(tokenizer) if tokenizer is not None else _stacked)
    drops = shuffle if drop_remainder is None else drop_remainder
    batches = len(rows) // batch_size if drops else -(-len(rows) // batch_size)
    if not batches:
        raise ValueError(
            f"{len(rows)} rows fill no batch of {batch_size}; give a smaller batch_size, or drop_remainder=False"
        )

    def batch(numbers: Sequence[int]) -> Any:
        collated = collate([rows[int(number)] for number in numbers], **(collate_options or {}))
        arrays = {LABELS.get(name, name): _array(value) for name, value in collated.items()}
        return _split({name: value for name, value in arrays.items() if name in names}, label_names)

    def generate() -> Iterator[Any]:
        order = np.random.permutation(len(rows)) if shuffle else np.arange(len(rows))
        for index in range(batches):
            yield batch(order[index * batch_size : (index + 1) * batch_size])

    first = batch(range(min(batch_size, len(rows))))
    result = tf.data.Dataset.from_generator(generate, output_signature=tf.nest.map_structure(_spec, first))
    result = result.apply(tf.data.experimental.assert_cardinality(batches))
    return result.prefetch(tf.data.AUTOTUNE) if prefetch else result


class _Rows:
    """The rows of a data set by number, with the columns that are wanted."""

    def __init__(self, dataset: Dataset, wanted: set[str]) -> None:
        self.dataset = dataset
        self.is_columns = isinstance(dataset, Mapping)
        self.count = len(next(iter(dataset.values()))) if self.is_columns and dataset else len(dataset)
        columns = dataset if self.is_columns else self._columns()
        self.columns = [name for name in columns if name in wanted]
        if not self.count or not self.columns:
            raise ValueError(
                f"a data set of {self.count} rows with the columns {list(columns)} has nothing that the model takes, "
                f"such as input_ids; tokenize it first: dataset.map(lambda row: tokenizer(row['text']))"
            )

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> dict[str, Any]:
        row = None if self.is_columns else self.dataset[number]
        return {name: self.dataset[name][number] if row is None else row[name] for name in self.columns}

    def _columns(self) -> list[str]:
        names = getattr(self.dataset, "column_names", None)
        return list(names if names is not None else self.dataset[0]) if self.count else []


def _split(batch: Mapping[str, Any], label_names: Sequence[str]) -> Any:
    """Inputs, or (inputs, labels), of a batch; one alone is not in a dict."""
    inputs = {name: value for name, value in batch.items() if name not in label_names}
    labels = {name: value for name, value in batch.items() if name in label_names}
    return (_alone(inputs), _alone(labels)) if labels else _alone(inputs)


def _stacked(rows: Sequence[_Row]) -> dict[str, np.ndarray]:
    """Rows of one length, column by column.

    Raises:
        ValueError: they are of several lengths.
    """
    result = {}
    for name in rows[0]:
        values = [np.asarray(row[name]) for row in rows]
        if len({value.shape for value in values}) > 1:
            raise ValueError(
                f"{name} is of several lengths in one batch; give tokenizer=, which pads, or a collate_fn that does"
            )
        result[name] = np.stack(values)
    return result


def _padded(tokenizer: "TokenizerBase") -> Callable[[Sequence[_Row]], Mapping[str, Any]]:
    """A collator of rows: what the tokenizer makes is padded by it, the rest is stacked."""

    def collate(rows: Sequence[_Row]) -> dict[str, Any]:
        known = set(tokenizer.model_input_names) | {"token_type_ids", "special_tokens_mask"}
        texts = [{name: value for name, value in row.items() if name in known} for row in rows]
        rest = [{name: value for name, value in row.items() if name not in known} for row in rows]
        return {**tokenizer.pad(texts, return_tensors="np"), **_stacked(rest)}

    return collate


def _alone(values: dict[str, Any]) -> Any:
    return next(iter(values.values())) if len(values) == 1 else values


def _array(value: npt.ArrayLike) -> np.ndarray:
    """Whole numbers as int64, others as float32."""
    array = np.asarray(value)
    return array.astype(np.int64 if array.dtype.kind in "iub" else np.float32)


def _spec(array: np.ndarray) -> tf.TensorSpec:
    """The signature of an array of a batch: any number of rows, of any length; numbers alone have no length."""
    return tf.TensorSpec((None,) * array.ndim, array.dtype)
