"""A training from beginning to end: its settings, what its folder has already, the backend's loop, and the result."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from roberta.common import frameworks
from roberta.common.adapters.adapter_files import open_adapter
from roberta.common.config import CONFIG_FILE
from roberta.common.devices import device_of, dtype_on, to_train_on
from roberta.common.parameters import parameters
from roberta.common.tokenizer.auto import AutoTokenizer
from roberta.common.tokenizer.base import TokenizerBase
from roberta.common.training import plot
from roberta.common.training.callbacks import Callbacks
from roberta.common.training.checkpoints import Checkpoints, Saved, differences
from roberta.common.training.data.batches import Batches
from roberta.common.training.data.orders import MOST_SHUFFLED
from roberta.common.training.datasets import Data, make_data
from roberta.common.training.fingerprints import fingerprint, tokenizer_hash, weights_checksum
from roberta.common.training.folder_locks import locked_output
from roberta.common.training.initial_weights import initial_weights, open_config
from roberta.common.training.journal import METRICS_FILE, Journal
from roberta.common.training.large_files import stored_if_large
from roberta.common.training.lora import LoraStart, base_named, check_new, continued, new_adapter
from roberta.common.training.loss_options import LossOptions
from roberta.common.training.metrics import compared, entity_scheme
from roberta.common.training.parameter_groups import frozen_parameters
from roberta.common.training.part_checkpoints import as_whole, check_engine
from roberta.common.training.processes import OneProcess, Processes, result_of
from roberta.common.training.recipes import Settings, agreed, check_warmup, total_updates
from roberta.common.training.report import REPORT_FILE, Report
from roberta.common.training.run import Run, RunPlan
from roberta.common.training.training_fields import TrainingFields

_LOCK_FILE = ".training.lock"
_MOST_BETWEEN_SAVES = 1000  # updates
# Fields of a config that do not affect the training, or follow from what is compared already.
_CONFIG_APART = ("_name_or_path", "architectures", "dtype", "transformers_version", "task_specific_params")


@dataclass(frozen=True)
class TrainingResult:
    """The result of a training: its folder, which `from_pretrained` reads, and the update that gave its model.

    Attributes:
        best: update and value of the best evaluation; None without validation data.
        data: what was read; `data.lines()` is what was printed before the first update.
    """

    output: Path
    update: int
    best: tuple[int, float] | None
    data: Report


@dataclass(frozen=True, kw_only=True)
class Training(TrainingFields):
    """A training, which `run()` carries out. Its arguments are the fields of `TrainingFields`."""

    def run(self) -> TrainingResult:
        """Train, or resume; at the end the model is in `output`.

        Raises:
            ValueError: data, settings or an older training in `output` do not allow it, and nothing was changed.
            Interrupted: a signal came, and a checkpoint was written.
            CheckpointError: a model or checkpoint cannot be read, or the disk cannot be written; names what is kept.
        """
        name = frameworks.one_framework(self.framework, frameworks.installed())
        if self.workers and name != "pt":
            raise ValueError(
                f"workers={self.workers} are for PyTorch; framework={name!r} prepares batches itself: omit it"
            )
        if self.sharded_checkpoints:
            check_engine(name)
        is_first = self._is_first(name)  # before devices are looked for, which JAX does once for all processes
        if self.device is not None:  # before the data is read
            to_train_on(self.device, self.dtype, self.sharding, name)
        if self.dtype == "auto":
            known: Any = dtype_on(self.dtype, self.device, name)
            return replace(self, dtype=known).run()
        if self.chosen_recipe.updates is not None:  # else they are known once the data is read
            check_warmup(self.chosen_recipe, self.chosen_recipe.updates)
        output = Path(self.output)
        with training_lock(output) if is_first else contextlib.nullcontext():
            self._check_output(output)
            data = self._data()
            checkpoints = Checkpoints(output, keep=self.keep, texts=self._tokenizer.files_to_save())
            agreement = self._agreement(data)
            saved = self._saved(checkpoints, agreement, data)
            run = self._run(data, checkpoints, agreement, saved, is_first=is_first, framework=name)
            if run.journal is not None:
                self._show(data.report, run.journal)
            with run:
                processes = self._train(run, name, data, saved)
            if is_first:
                checkpoints.publish(run.chosen())
                plot.draw_beside(output)
        return TrainingResult(output, *result_of(run, processes), data.report)

    # -- parts of `run` ------------------------------------------------------------------------------------------

    def _new_adapter(self, data: Data) -> LoraStart | None:
        """The adapter that is trained, before its first update."""
        if self._lora_options is None:
            return None
        table = parameters(data.config, self.head)
        return new_adapter(self._lora_options, table, self.seed, base_named(self.model))

    def _frozen(self, data: Data) -> tuple[str, ...]:
        """The names of the parameters that are not trained."""
        table = parameters(data.config, self.head)
        return () if self.freeze is None else frozen_parameters(self.freeze, list(table), data.config.num_hidden_layers)

    @cached_property
    def _tokenizer(self) -> TokenizerBase:
        given = self.model if self.tokenizer is None else self.tokenizer
        if not isinstance(given, str | Path):
            return given
        folder = Path(given).parent if Path(given).is_file() else given
        return AutoTokenizer.from_pretrained(folder)

    def _is_first(self, framework: str) -> bool:
        """Whether this process writes, or is the only one."""
        return self.sharding == "none" or bool(frameworks.backend_module(framework, "sharding").is_first())

    def _check_output(self, output: Path) -> None:
        """Raise `ValueError` for a folder that has a training already, or is the model's own."""
        has_log = (output / METRICS_FILE).is_file() and (output / METRICS_FILE).stat().st_size > 0
        if not self.resume and (has_log or Checkpoints(output).updates()):
            raise ValueError(f"{output} has a training already; resume it with resume=True, or give another folder")
        own = Path(self.model)
        if output.resolve() == (own if own.is_dir() else own.parent).resolve() and own.exists() and not self.resume:
            raise ValueError(f"{output} is the model's own folder, which the result would replace; give another folder")

    def _data(self) -> Data:
        train = stored_if_large(self.train, self.task, self, self._tokenizer, Path(self.output), self.progress)
        data = make_data(
            self.task, train, self.validation, self, config=open_config(self.model),
            recipe=self.chosen_recipe, tokenizer=self._tokenizer, seed=self.seed,
        )  # fmt: skip
        if data.report.labels is not None:
            LossOptions(self.chosen_recipe.label_smoothing).check_problem(data.report.labels.problem)
        return data

    def _show(self, report: Report, journal: Journal) -> None:
        """Report what was read, on the terminal and in the folder, before anything is trained."""
        for line in report.lines():
            journal.say(line)
        text = json.dumps(report.as_json(), indent=2, ensure_ascii=False)
        (Path(self.output) / REPORT_FILE).write_text(text + "\n", encoding="utf-8")

    def _settings(self, data: Data) -> Settings:
        updates = total_updates(self.chosen_recipe, len(data.features))
        check_warmup(self.chosen_recipe, updates)
        assert self.dtype != "auto", "`run` has replaced it"
        return Settings(
            self.task, self.chosen_recipe, updates, self.seed, self.dtype, self.compile, self.sharding,
            self._new_adapter(data), data.class_weights, self._frozen(data), self.gradient_checkpointing,
        )  # fmt: skip

    def _agreement(self, data: Data) -> dict[str, Any]:
        """What a resumed training must share with the one that began: everything that its numbers depend on."""
        recipe = agreed(self.chosen_recipe)
        config = {name: value for name, value in data.config.to_dict().items() if name not in _CONFIG_APART}
        files = fingerprint("train", self.train, data.features)
        if data.evaluation is not None:
            files |= fingerprint("validation", self.validation, data.evaluation.features)
        lora = self._new_adapter(data)
        agreement = {
            **{"task": self.task, "seed": self.seed, "dtype": self.dtype, "updates": self._settings(data).updates},
            **{"rows": data.agreement, "recipe": recipe, "config": config},
            **{"data": files, "tokenizer": tokenizer_hash(self._tokenizer)},
            **({} if lora is None else {"lora": json.loads(lora.config.to_json())}),
            **({} if len(data.features) <= MOST_SHUFFLED else {"order": "computed"}),
            **({} if self.freeze is None else {"frozen": self._frozen(data)}),
            **({} if data.class_weights is None else {"class_weights": data.class_weights}),
            **(
                {} if data.evaluation is None else {"metric": self._compared(data)[0]}
            ),  # the best evaluation has its value
        }
        plain: dict[str, Any] = json.loads(json.dumps(agreement))
        return plain

    def _compared(self, data: Data) -> tuple[str, bool]:
        """The metric by which evaluations are compared, and whether more of it is better."""
        return compared(self.task, data.config, self.metric)

    def _saved(self, checkpoints: Checkpoints, agreement: Mapping[str, Any], data: Data) -> Saved | None:
        """The checkpoint to resume from; `ValueError` if it is of another training."""
        saved = checkpoints.newest() if self.resume else None
        # older checkpoints have the metric only if it was given
        own = {"metric": compared(self.task, data.config)[0]} if "metric" in agreement else {}
        wrong = [] if saved is None else differences({**own, **_of_today(saved.position.agreement)}, agreement)
        if saved is not None and wrong:
            raise ValueError(
                f"{saved.folder} is of another training:\n  " + "\n  ".join(wrong) + "\n"
                "To resume it, give what it had; or start a new training from its model: "
                f"model={str(saved.folder)!r}, with another folder as output"
            )
        return saved

    def _run(
        self, data: Data, checkpoints: Checkpoints, agreement: Mapping[str, Any], saved: Saved | None, *, is_first: bool,
        framework: str,
    ) -> Run:  # fmt: skip
        settings, recipe = self._settings(data), self.chosen_recipe
        batches = Batches(
            data.features, data.collate, batch_size=recipe.batch_size, micro_batch_size=self.micro_batch_size,
            seed=self.seed,
        )  # fmt: skip
        journal = None
        start, size = (0, 0) if saved is None else (saved.position.update, saved.position.metrics_bytes)
        plan = self._plan(data)
        if is_first:
            checkpoints.remove_litter()
            journal = Journal(
                checkpoints.output, metrics_bytes=size, start=start, stop=settings.updates, log_every=self.log_every,
                tensorboard=self.tensorboard, progress=self.progress, callbacks=Callbacks(self.callbacks),
            )  # fmt: skip
            if self.task == "token-classification":
                journal.say(f"{entity_scheme(data.config)}. Evaluations are compared by {plan.metric[0]}")
        return Run(
            settings, batches, checkpoints, journal, plan, agreement=agreement, evaluate=data.evaluation, saved=saved,
            sharded=framework if self.sharded_checkpoints else None,
        )  # fmt: skip

    def _plan(self, data: Data) -> RunPlan:
        epoch = -(-len(data.features) // self.chosen_recipe.batch_size)  # updates
        save_every = self.save_every if self.save_every is not None else min(epoch, _MOST_BETWEEN_SAVES)
        evaluate_every = self.evaluate_every if self.evaluate_every is not None else save_every
        return RunPlan(save_every, evaluate_every, self._compared(data), self.best, self.early_stopping)

    def _train(self, run: Run, framework: str, data: Data, saved: Saved | None) -> Processes:
        """Load the model and make the updates that are left; the processes that did so together."""
        if run.is_stopped or (run.start == run.stop and self.sharding == "none"):  # several may not see the same folder
            return OneProcess()
        if saved is not None and saved.parts not in (None, framework):
            with as_whole(saved, run.checkpoints.output) as readable:
                run.resumed, run.restored = readable.state, None
                return self._train(run, framework, data, readable)
        wide = "float64" if self.dtype == "float64" else "float32"
        lora = run.settings.lora
        is_begun = saved is None or lora is not None  # a checkpoint with an adapter lacks the base's weights
        source = self.model if saved is None or lora is not None else saved.folder
        if saved is not None and saved.parts is not None:
            source = saved.folder / CONFIG_FILE  # the weights are put in once each process has its part of the model
        with initial_weights(
            source, self.head, data.config, seed=self.seed, dtype=wide, beside=run.checkpoints.output,
            is_new_head=data.is_new_head and is_begun, is_first=run.journal is not None,
        ) as (place, new):  # fmt: skip
            class_ = frameworks.class_of(framework, self.head, data.config.model_type)
            device = to_train_on(self.device, self.dtype, self.sharding, framework)
            model = class_.from_pretrained(place, config=data.config, dtype=wide, device_map=device)
        if lora is not None:
            check_new(new, lora)
            if saved is not None:
                adapter = open_adapter(saved.folder).fitted(parameters(data.config, self.head))
                lora, whole = continued(lora, adapter)
                model.write_weights(whole)
                run.settings = replace(run.settings, lora=lora)
        if self.sharding != "none" and (saved is None or lora is not None):
            run.first_weights = weights_checksum(model)
        if run.journal is not None:
            run.journal.say(f"device: {device_of(model)}")
        if new and saved is None and run.journal is not None:
            run.journal.say(
                f"{class_.__name__}: {len(new)} newly initialised tensors: {', '.join(new[:4])}{', ...' * (len(new) > 4)}"
            )
        backend = frameworks.backend_module(framework, "training")
        trainer = backend.train(model, run, **({"workers": self.workers} if self.workers else {}))
        processes: Processes = trainer.processes
        return processes


def _of_today(agreement: Mapping[str, Any]) -> dict[str, Any]:
    """An agreement without the fields of the config that only older versions compared."""
    config = {name: value for name, value in agreement.get("config", {}).items() if name not in _CONFIG_APART}
    return {**agreement, "config": config}


def training_lock(output: Path) -> contextlib.AbstractContextManager[None]:
    """Hold a folder, so that no other process trains in it; `ValueError` if one does, or it cannot be made."""

    def refuse() -> None:
        raise ValueError(f"another process trains in {output}; wait for it, or give another folder") from None

    return locked_output(output, _LOCK_FILE, "a training", refuse)
