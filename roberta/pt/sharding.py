"""Several processes that train one model: torchrun starts them, each takes rows of every micro-batch.

Between two updates the first process alone logs, evaluates and saves. The others wait for it, and help where weights
or moments are split over all: it sends them what it needs, until it sends that the training continues.
"""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh

from roberta.common.training.optimizer_state import TrainingState
from roberta.common.training.run import AnyTrainer
from roberta.pt.pretrained import NoDraws, RobertaPreTrainedModel
from roberta.pt.weights import gathered, native

if TYPE_CHECKING:
    from roberta.pt.training import Loss, Trainer

Sharding = Literal["none", "data", "full"]
_PATIENCE = timedelta(days=1)  # the first process may evaluate for longer than PyTorch's half hour
GO_ON, MODEL, STATE, END, STOP = range(5)


def join(sharding: Sharding, device: torch.device) -> tuple[int, int]:
    """The number of this process, from 0, and how many there are; they are connected when there is a need for it.

    Raises:
        ValueError: several processes are wanted, and torchrun has not started this one.
    """
    if sharding == "none":
        return 0, 1
    if not dist.is_initialized():
        if "RANK" not in os.environ:
            raise ValueError(
                f"sharding={sharding!r} is for several processes, and this is one alone; start it with "
                "torchrun --nproc-per-node PROCESSES -m roberta train ..., or take sharding='none'"
            )
        if device.type != "cpu":
            torch.accelerator.set_device_index(device.index or 0)
        dist.init_process_group(group_backend(device), timeout=_PATIENCE)
    return dist.get_rank(), dist.get_world_size()


def group_backend(device: torch.device) -> str:
    """What carries tensors between the processes: gloo those of the CPU, such as the loss, and NCCL those of CUDA."""
    if device.type == "cpu":
        return "gloo"
    return f"cpu:gloo,{device.type}:{dist.get_default_backend_for_device(device)}"


def spread(loss: "Loss", sharding: Sharding, compiles: bool) -> nn.Module:
    """The module of a model's loss, whose gradients are averaged over the processes."""
    if sharding == "full":
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        # weights of 16 bits go to the layers, where autocast is that of one process; gradients are added in float32
        policy = MixedPrecisionPolicy(loss.low, None if loss.low is None else torch.float32, cast_forward_inputs=False)
        device = loss.model.device.type
        mesh = init_device_mesh(device, (dist.get_world_size(),))
        for layer in loss.model.base_model.encoder.layer:
            fully_shard(layer, mesh=mesh, mp_policy=policy)
        fully_shard(loss, mesh=mesh, mp_policy=policy)
    if compiles:
        loss.compile()
    if sharding == "data":
        # no gradients to wait for: a decoder's cross-attention has no encoder to attend to here, and beside distances
        # positions are not used
        unused = loss.model.config.add_cross_attention or loss.model.config.has_distances
        return nn.parallel.DistributedDataParallel(loss, find_unused_parameters=unused)
    return loss


def held_back(loss: nn.Module, is_held: bool) -> AbstractContextManager[Any]:
    """While it lasts, gradients of copies of a model stay where they are, if `is_held`."""
    return loss.no_sync() if is_held and isinstance(loss, nn.parallel.DistributedDataParallel) else nullcontext()


def total(value: Tensor, world: int) -> float:
    """The sum of a number over the processes."""
    if world > 1:
        dist.all_reduce(value)
    return float(value)


def whole_model(model: RobertaPreTrainedModel) -> RobertaPreTrainedModel:
    """A copy of a model that is split over the processes, which all ask for it."""
    state = {name: gathered(parameter.detach()) for name, (parameter, _) in native(model).items()}
    with torch.device("meta"), NoDraws():
        copy = type(model)(model.config)
    copy.load_state_dict(state, strict=False, assign=True)  # what is tied is there once
    copy.name_or_path = model.name_or_path
    return copy.eval()


def between(
    trainer: "Trainer", finished: Callable[[AnyTrainer], None], is_stopped: Callable[[], bool] = lambda: False
) -> bool:
    """Call `finished` in the first process; the others help it until it is done.

    Returns:
        Whether the training ends here: what `is_stopped` says in the first process.

    Raises:
        RuntimeError: in the others, where `finished` raised in the first.
    """
    if trainer.settings.sharding == "none":
        finished(trainer)
        return is_stopped()
    if trainer.rank:
        return _help(trainer)
    try:
        finished(First(trainer))
    except BaseException:
        _send(END)
        raise
    _send(STOP if is_stopped() else GO_ON)
    return is_stopped()


class First:
    """A trainer as the first process sees it: the others join in what they all have a part of."""

    def __init__(self, trainer: "Trainer") -> None:
        self.trainer = trainer

    @property
    def model(self) -> RobertaPreTrainedModel:
        """The model with whole weights."""
        _send(MODEL)
        return self.trainer.model

    def state(self) -> TrainingState:
        """What the optimizer knows, whole."""
        _send(STATE)
        return self.trainer.state()

    def pairs(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """A and B of the adapter that is trained, by weight; none without an adapter."""
        return self.trainer.pairs()


def _send(what: int) -> None:
    dist.broadcast(torch.tensor(what, device="cpu"), src=0)


def _help(trainer: "Trainer") -> bool:
    """Do what the first process asks for; whether the training ends then."""
    while (what := _received()) not in (GO_ON, STOP):
        if what == END:
            raise RuntimeError("the first process has ended the training; its own message says why")
        assert trainer.model if what == MODEL else trainer.state()
    return what == STOP


def _received() -> int:
    what = torch.tensor(0, device="cpu")
    dist.broadcast(what, src=0)
    return int(what)
