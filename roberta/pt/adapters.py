"""Adapters in a PyTorch model: those of the peft library, `model.add_adapter(LoraConfig(...))`, and LoRA without it.

A saved LoRA adapter is loaded by `roberta.common.adapters`, as in the other frameworks. What is to be trained, and kinds
that only peft computes, are peft's, which is imported when a method
needs it. `peft.get_peft_model` works on these classes too, and wraps the model instead.
"""

import importlib
import importlib.util
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from roberta.common.adapters.lora_config import UnsupportedAdapterError
from roberta.common.formats.safetensors_file import safetensors_pieces
from roberta.common.storage.folders import Content, write_folder
from roberta.common.storage.names import ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILES
from roberta.pt.facts import Facts
from roberta.pt.sources import stored_tensors
from roberta.pt.weights import to_tensor

_PREFIX = "base_model.model."  # of the names in peft's own files


def _peft(name: str = "peft") -> Any:
    """A module of peft, or an error that says what brings it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ImportError("adapters need peft, which is not installed; pip install peft") from error


class Adapters(Facts):
    """Adding, loading and switching adapters; part of `RobertaPreTrainedModel`."""

    _hf_peft_config_loaded = False  # the name that Trainer and peft look for
    peft_config: dict[str, Any]

    def add_adapter(self, adapter_config: Any, adapter_name: str | None = None) -> None:
        """Put a new adapter into the model, and make it the active one; the model's own parameters are frozen.

        Args:
            adapter_config: a `peft.LoraConfig`, `IA3Config` or another that puts layers into a model.
            adapter_name: "default" when not given.
        """
        if self.has_live_adapters:
            raise ValueError(
                f"the model has loaded adapters, {self.active_adapters()}; load the new one's base from a folder with them "
                "merged (merge_adapter, save_pretrained), or delete_adapter them first"
            )
        peft, name = _peft(), self._new_name(adapter_name)
        if not isinstance(adapter_config, peft.PeftConfig):
            raise TypeError(f"adapter_config must be a peft.PeftConfig, not {type(adapter_config).__name__}")
        adapter_config.base_model_name_or_path = self.name_or_path or None
        peft.inject_adapter_in_model(adapter_config, self, name)
        self._hf_peft_config_loaded = True
        self.set_adapter(name)

    def load_adapter(
        self,
        peft_model_id: str | Path | None = None,
        adapter_name: str | None = None,
        revision: str | None = None,
        token: str | None = None,
        device_map: object = "auto",
        max_memory: object = None,
        offload_folder: str | None = None,
        offload_index: int | None = None,
        peft_config: Any = None,
        adapter_state_dict: Mapping[str, Tensor] | None = None,
        low_cpu_mem_usage: bool = False,
        is_trainable: bool = False,
        adapter_kwargs: dict[str, Any] | None = None,
    ) -> None:
        """Put a saved adapter into the model.

        Args:
            peft_model_id: folder or hub name of the adapter; or `peft_config` and `adapter_state_dict`.
            adapter_name: "default" when not given.
            revision, token, adapter_kwargs: of the download.
            is_trainable: leave the adapter's parameters trainable, instead of frozen.
            device_map, max_memory, offload_folder, offload_index: ignored: an adapter goes where the model is.

        Raises:
            ValueError: the name is taken, nothing to load from is given, or tensors of the adapter have no place.
        """
        is_plain = peft_config is None and adapter_state_dict is None and not is_trainable and not adapter_kwargs
        if peft_model_id is not None and is_plain and not self._hf_peft_config_loaded:
            try:
                return super().load_adapter(peft_model_id, adapter_name, revision, token)
            except UnsupportedAdapterError:
                if self.has_live_adapters or importlib.util.find_spec("peft") is None:
                    raise
        # by peft: its config and tensors, given or of the folder
        peft, name = _peft(), self._new_name(adapter_name)
        hub = {**(adapter_kwargs or {}), **({} if revision is None else {"revision": revision})}
        hub.setdefault("token", token)
        if peft_model_id is not None:
            if peft_config is None:
                peft_config = peft.PeftConfig.from_pretrained(str(peft_model_id), **hub)
                peft_config.inference_mode = not is_trainable
            adapter_state_dict = peft.load_peft_weights(str(peft_model_id), device=str(self.device), **hub)
        elif peft_config is None or adapter_state_dict is None:
            raise ValueError("give peft_model_id, or both peft_config and adapter_state_dict")
        # into the model, where each has a place and none is left as it was drawn
        peft.inject_adapter_in_model(peft_config, self, name, low_cpu_mem_usage=low_cpu_mem_usage)
        self._hf_peft_config_loaded = True
        state = {key.removeprefix(_PREFIX): value for key, value in adapter_state_dict.items()}
        result = peft.set_peft_model_state_dict(self, state, name, low_cpu_mem_usage=low_cpu_mem_usage)
        if result is not None and result.unexpected_keys:
            raise ValueError(
                f"{peft_model_id or 'adapter_state_dict'} does not fit this model: {sorted(result.unexpected_keys)} have "
                "no place in it; load the adapter into the model that it was trained with"
            )
        prefix = f"{peft_config.peft_type.value.lower()}_"
        missing = [] if result is None else sorted(key for key in result.missing_keys if prefix in key and name in key)
        if missing:
            raise ValueError(
                f"{peft_model_id or 'adapter_state_dict'} lacks {missing}, which its config names; save the adapter again, "
                "or name in its target_modules only what was trained"
            )
        if peft_config.inference_mode:
            self.eval()

    def set_adapter(self, adapter_name: list[str] | str) -> None:
        """Make an adapter, or several, the active ones."""
        if self.has_live_adapters:
            return super().set_adapter(adapter_name)
        names = [adapter_name] if isinstance(adapter_name, str) else list(adapter_name)
        self._check_names(names)
        for layer in self._adapter_layers():
            layer.set_adapter(adapter_name)

    def disable_adapters(self) -> None:
        """Compute without adapters, until `enable_adapters`."""
        if self.has_live_adapters:
            return super().disable_adapters()
        self._check_names([])
        for layer in self._adapter_layers():
            layer.enable_adapters(enabled=False)

    def enable_adapters(self) -> None:
        """Undo `disable_adapters`."""
        if self.has_live_adapters:
            return super().enable_adapters()
        self._check_names([])
        for layer in self._adapter_layers():
            layer.enable_adapters(enabled=True)

    def active_adapters(self) -> list[str]:
        """The names of the active adapters."""
        if self.has_live_adapters:
            return super().active_adapters()
        self._check_names([])
        layer = next(iter(self._adapter_layers()))
        return [layer.active_adapter] if isinstance(layer.active_adapter, str) else list(layer.active_adapter)

    def get_adapter_state_dict(
        self, adapter_name: str | None = None, state_dict: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """The tensors of an adapter, by default of the active one, as peft names them."""
        if self.has_live_adapters:
            if state_dict is not None:
                raise ValueError("a loaded adapter is in the weights, and not among the tensors of state_dict; omit it")
            sources = self.loaded_adapter(adapter_name).tensors(is_peft=False)
            return {
                name: to_tensor(load(), getattr(torch, dtype)).to(self.device)
                for name, (_, dtype, load) in sources.items()
            }
        name = self.active_adapters()[0] if adapter_name is None else adapter_name
        self._check_names([name])
        return _peft().get_peft_model_state_dict(self, state_dict=state_dict, adapter_name=name)

    def delete_adapter(self, adapter_names: list[str] | str) -> None:
        """Take adapters out of the model; without any left it is as it was."""
        if self.has_live_adapters:
            return super().delete_adapter(adapter_names)
        names = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)
        self._check_names(names)
        delete = _peft("peft.functional").delete_adapter
        for name in names:
            delete(self, adapter_name=name, prefix=f"{self.peft_config[name].peft_type.value.lower()}_")
            self.peft_config.pop(name, None)
        if not self.peft_config:
            del self.peft_config
            self._hf_peft_config_loaded = False

    def save_adapter(
        self, folder: str | Path, state_dict: Mapping[str, Tensor] | None = None, *, save_peft_format: bool = True
    ) -> None:
        """Write the active adapter into a folder: its config and its tensors, without the model's own.

        Args:
            state_dict: instead of the model's own; of a loaded adapter, which is in the weights, the same values, such as
                those gathered from several devices.
            save_peft_format: the names as `peft.PeftModel.from_pretrained` wants them; False, as the model has them.
        """
        if self.has_live_adapters:
            if state_dict is not None:
                self._check_same(state_dict)
            return super().save_adapter(folder, save_peft_format=save_peft_format)
        names = self.active_adapters()
        if len(names) > 1:
            raise ValueError(f"several adapters are active: {names}; choose one with set_adapter(name), and save it")
        tensors = self.get_adapter_state_dict(names[0], state_dict)
        prefix = _PREFIX if save_peft_format else ""
        sources = {f"{prefix}{name}": (t.shape, t.dtype, t.load) for name, t in (stored_tensors(tensors) or {}).items()}
        files: dict[str, Content] = {
            ADAPTER_WEIGHTS_FILES[0]: safetensors_pieces(sources),
            ADAPTER_CONFIG_FILE: _config_text(self.peft_config[names[0]]),
        }
        write_folder(folder, files)

    # -- helpers -------------------------------------------------------------------------------------------------

    def _check_same(self, state_dict: Mapping[str, Tensor]) -> None:
        """Raise unless tensors are the model's own, in which a loaded adapter is."""
        own: Any = self
        for name, (_, _, load) in own.to_save(state_dict)[1].items():
            if not np.array_equal(load(), self.read_weights([name])[name]):
                raise ValueError(
                    f"state_dict has other values of {name} than the model, and the files of the adapter "
                    f"{self.active_adapters()} do not have them; call merge_adapter() and save_pretrained(folder, "
                    "state_dict=...) to save whole weights, or omit state_dict to save the adapter"
                )

    def _new_name(self, name: str | None) -> str:
        name = name or "default"
        if self._hf_peft_config_loaded and name in self.peft_config:
            raise ValueError(f"the model has an adapter {name!r} already; give another adapter_name, or delete_adapter")
        return name

    def _check_names(self, names: list[str]) -> None:
        if not self._hf_peft_config_loaded:
            raise ValueError("the model has no adapter; add_adapter or load_adapter puts one in")
        missing = [name for name in names if name not in self.peft_config]
        if missing:
            raise ValueError(f"the model has no adapter {missing[0]!r}; it has {sorted(self.peft_config)}")

    def _adapter_layers(self) -> Iterator[Any]:
        """The modules that peft put into the model."""
        kinds = (_peft("peft.tuners.tuners_utils").BaseTunerLayer, _peft("peft.utils").ModulesToSaveWrapper)
        return (module for module in self.modules() if isinstance(module, kinds))


def _config_text(config: Any) -> bytes:
    """The file that peft writes for a config: of one that is ready to be used, not to be trained."""
    was, config.inference_mode = config.inference_mode, True
    try:
        with tempfile.TemporaryDirectory() as folder:
            config.save_pretrained(folder)
            return (Path(folder) / ADAPTER_CONFIG_FILE).read_bytes()
    finally:
        config.inference_mode = was
