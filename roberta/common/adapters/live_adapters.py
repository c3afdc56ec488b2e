"""Adapters of a model that is loaded: put into its weights, switched, taken out bit for bit, and saved.

An active adapter is in the weights, so that every call, `generate` and `infer` have it at no cost; the base's values of
what it changes are kept beside the model.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from roberta.common.adapters.adapter_files import open_adapter, write_adapter
from roberta.common.adapters.lora_adapter import LoraAdapter
from roberta.common.formats.safetensors_file import StoredTensor
from roberta.common.parameters import Parameter
from roberta.common.storage.hub import HubOptions


@dataclass
class HeldAdapters:
    """The adapters of one model.

    Attributes:
        named: each with the names of the model's class.
        active: those that are in the weights, or would be if adapters were enabled.
        base: the values, before any adapter, of what the active ones have changed; empty while none is in the weights.
        checksums: of everything else, since then: what is trained there is not in the adapter's files.
        is_merged: whether the changed weights count as the model's own, which `save_pretrained` then writes whole.
    """

    named: dict[str, LoraAdapter] = field(default_factory=dict)
    active: list[str] = field(default_factory=list)
    base: dict[str, np.ndarray] = field(default_factory=dict)
    checksums: dict[str, int] = field(default_factory=dict)
    is_merged: bool = False

    def __deepcopy__(self, memo: dict[int, Any]) -> HeldAdapters:
        # adapters and arrays are never changed in place
        return replace(self, named=dict(self.named), active=list(self.active), base=dict(self.base))


# beside the models, not in them: frameworks would copy, track or save it
_HELD: WeakKeyDictionary[object, HeldAdapters] = WeakKeyDictionary()
_STATE = "_held_adapters"  # their name in the state of a copy or a pickle


class LiveAdapters:
    """The methods of a model that load, switch, merge and save adapters; names are transformers' and PEFT's."""

    def __getstate__(self) -> Any:
        """The state of a copy or a pickle, with the adapters if there are any."""
        state: Any = super().__getstate__()
        return {**state, _STATE: _HELD[self]} if self.has_live_adapters else state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over the state of a copy or a pickle."""
        own = {name: value for name, value in state.items() if name != _STATE}
        if _STATE in state:
            _HELD[self] = state[_STATE]
        getattr(super(), "__setstate__", self.__dict__.update)(own)

    def adapter_table(self) -> Mapping[str, Parameter]:
        """The parameters of this model, by canonical name."""
        raise NotImplementedError

    def read_weights(self, names: Iterable[str]) -> dict[str, np.ndarray]:
        """Copies of the values of parameters, by canonical name, in PyTorch's shapes."""
        raise NotImplementedError

    def write_weights(self, values: Mapping[str, np.ndarray]) -> None:
        """Give parameters these values; `infer` prepares its weights again."""
        raise NotImplementedError

    @property
    def saves_adapter(self) -> bool:
        """Whether `save_pretrained` writes the active adapter alone: one is loaded, active, and not merged."""
        held = _HELD.get(self)
        return held is not None and bool(held.base) and not held.is_merged

    @property
    def has_live_adapters(self) -> bool:
        """Whether adapters were loaded into this model."""
        return bool(_HELD.get(self, HeldAdapters()).named)

    def load_adapter(
        self,
        peft_model_id: str | Path,
        adapter_name: str | None = None,
        revision: str | None = None,
        token: str | None = None,
    ) -> None:
        """Load a LoRA adapter in PEFT's format, and make it the active one.

        Args:
            peft_model_id: folder or hub name of the adapter.
            adapter_name: "default" when not given.
            revision, token: of the download.

        Raises:
            ValueError: the name is taken.
            CheckpointError: the adapter cannot be read, or is of another base; the model is as it was.
        """
        name = adapter_name or "default"
        held = _HELD.setdefault(self, HeldAdapters())
        if name in held.named:
            raise ValueError(f"the model has an adapter {name!r} already; give another adapter_name, or delete_adapter")
        hub: HubOptions = {"revision": revision or "main", "token": token}
        held.named[name] = open_adapter(peft_model_id, hub).fitted(self.adapter_table())
        try:
            self.set_adapter(name)
        except ValueError:
            del held.named[name]
            raise

    def set_adapter(self, adapter_name: list[str] | str) -> None:
        """Make an adapter, or several, the active ones: the base's weights with their changes."""
        names = [adapter_name] if isinstance(adapter_name, str) else list(dict.fromkeys(adapter_name))
        held = self._held(names)
        _refuse_two_heads(held, names)
        self._take_out(held)
        self._put_in(held, names)

    def active_adapters(self) -> list[str]:
        """The names of the active adapters."""
        return list(self._held().active)

    def disable_adapters(self) -> None:
        """Compute without adapters, until `enable_adapters`; the base's weights are back bit for bit."""
        self._take_out(self._held())

    def enable_adapters(self) -> None:
        """Undo `disable_adapters`."""
        held = self._held()
        if not held.base:
            self._put_in(held, held.active)

    def merge_adapter(self) -> None:
        """Make the active adapters' changes the model's own: `save_pretrained` writes the merged weights."""
        self.enable_adapters()
        self._held().is_merged = True

    def unmerge_adapter(self) -> None:
        """Take the active adapters out; the base's weights are back bit for bit. `enable_adapters` puts them in again."""
        self.disable_adapters()

    def delete_adapter(self, adapter_names: list[str] | str) -> None:
        """Forget adapters; those that were active are taken out of the weights first."""
        names = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)
        held = self._held(names)
        left, was_in = [name for name in held.active if name not in names], bool(held.base)
        self._take_out(held)
        for name in names:
            del held.named[name]
        held.active = left
        if left and was_in:
            self._put_in(held, left)

    def save_adapter(self, folder: str | Path, *, save_peft_format: bool = True) -> None:
        """Write the active adapter into a folder: its config and its tensors, without the model's own.

        Args:
            save_peft_format: the names as `peft.PeftModel.from_pretrained` wants them; False, as the model has them.
        """
        adapter, held = self.loaded_adapter(), self._held()
        if held.base:
            self._refuse_changed(held)
            changed = [name for name, value in self._checksums(held.checksums).items() if value != held.checksums[name]]
            if changed:
                raise ValueError(
                    f"{changed[0]} was changed since the adapter {held.active} was put in, and an adapter's files do not "
                    "have it; call merge_adapter() and save_pretrained(folder) to save the whole model"
                )
        write_adapter(folder, adapter, is_peft=save_peft_format)

    def loaded_adapter(self, adapter_name: str | None = None) -> LoraAdapter:
        """An adapter that was loaded, by default the active one."""
        held = self._held([] if adapter_name is None else [adapter_name])
        names = held.active if adapter_name is None else [adapter_name]
        if len(names) != 1:
            raise ValueError(f"the active adapters are {names}; choose one with set_adapter(name), and save it")
        return held.named[names[0]]

    # -- helpers -------------------------------------------------------------------------------------------------

    def _held(self, names: Iterable[str] = ()) -> HeldAdapters:
        held = _HELD.get(self)
        if held is None or not held.named:
            raise ValueError("the model has no adapter; load_adapter(folder) loads one")
        missing = [name for name in names if name not in held.named]
        if missing:
            raise ValueError(f"the model has no adapter {missing[0]!r}; it has {sorted(held.named)}")
        return held

    def _put_in(self, held: HeldAdapters, names: list[str]) -> None:
        """Change the weights, whose values before are kept."""
        adapters = [held.named[name] for name in names]
        touched = dict.fromkeys(name for one in adapters for name in (*one.changes, *one.replaced, *one.shifts))
        base = self.read_weights(touched)
        held.checksums = self._checksums(name for name in self.adapter_table() if name not in touched)
        self.write_weights(_adapted(adapters, base))
        held.base, held.active, held.is_merged = base, names, False

    def _checksums(self, names: Iterable[str]) -> dict[str, int]:
        """A number for the values of each parameter, by which a change is seen; one copy at a time is made."""
        return {name: zlib.crc32(self.read_weights([name])[name].tobytes()) for name in names}

    def _take_out(self, held: HeldAdapters) -> None:
        """Give the base's values back.

        Raises:
            ValueError: the weights were changed while the adapter was in them, and that would be lost.
        """
        if not held.base:
            return
        self._refuse_changed(held)
        self.write_weights(held.base)
        held.base, held.is_merged = {}, False

    def _refuse_changed(self, held: HeldAdapters) -> None:
        """Raise where the weights are not those that the adapter made of the base's."""
        wanted = _adapted([held.named[name] for name in held.active], held.base)
        now = self.read_weights(wanted)
        changed = [name for name, value in wanted.items() if not np.array_equal(now[name], value)]
        if changed:
            raise ValueError(
                f"{changed[0]} was changed while the adapters {held.active} were in the weights, which would be lost; "
                "call merge_adapter() and save_pretrained(folder) to keep the weights as they are"
            )


def reduced_with_adapters(model: LiveAdapters, made: tuple[Any, ...]) -> tuple[Any, ...]:
    """What `__reduce__` returns, with the adapters of the model if there are any.

    Args:
        made: what it would return without: a function, and its arguments.
    """
    return (_made_with_adapters, (*made, _HELD[model])) if model.has_live_adapters else made


def _made_with_adapters(make: Callable[..., object], arguments: tuple[Any, ...], held: HeldAdapters) -> object:
    model = make(*arguments)
    _HELD[model] = held
    return model


def _refuse_two_heads(held: HeldAdapters, names: list[str]) -> None:
    """Raise for adapters that bring the same whole tensor."""
    whole = [name for one in names for name in held.named[one].replaced]
    twice = sorted({name for name in whole if whole.count(name) > 1})
    if twice:
        raise ValueError(f"the adapters {names} both bring {twice[0]}, and a model has one; activate one of them")


def _adapted(adapters: Iterable[LoraAdapter], base: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The values with adapters in them, in the dtypes of the base."""
    kinds = {name: value.dtype.name for name, value in base.items()}
    wide = {
        name: StoredTensor(name, value.shape, kinds[name], Path("the model"), partial(np.asarray, value))
        for name, value in base.items()
    }
    for adapter in adapters:
        wide = adapter.merged(wide, "float64")
    return {name: wide[name].load().astype(base[name].dtype) for name in base}
