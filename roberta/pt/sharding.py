"""Several processes that train one model: torchrun starts them, on one host or several, each takes rows of every
micro-batch.
"""

import os
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh

from roberta.common.training.processes import OneProcess, Processes
from roberta.pt.pretrained import NoDraws, RobertaPreTrainedModel
from roberta.pt.weights import gathered, native

if TYPE_CHECKING:
    from roberta.pt.training import Loss

Sharding = Literal["none", "data", "full"]
_PATIENCE = timedelta(days=1)  # the first process may evaluate for longer than PyTorch's half hour


class Torchrun:
    """The processes that torchrun has started, connected."""

    def __init__(self) -> None:
        self.rank, self.count = dist.get_rank(), dist.get_world_size()

    def gathered(self, value: int) -> list[int]:
        """The value of each process, by rank."""
        values = [torch.tensor(0, device="cpu") for _ in range(self.count)]
        dist.all_gather(values, torch.tensor(value, device="cpu"))
        return [int(value) for value in values]

    @cached_property
    def background(self) -> dist.ProcessGroup:
        """The same processes, for what they send each other beside a training; all ask for it at the same moment."""
        group = dist.new_group(backend="gloo", timeout=_PATIENCE)
        assert isinstance(group, dist.ProcessGroup)
        return group


def is_first() -> bool:
    """Whether this process is the first one of those that torchrun starts."""
    return os.environ.get("RANK", "0") == "0"


def join(sharding: Sharding, device: torch.device) -> Processes:
    """The processes of a training; they are connected when there is a need for it.

    Raises:
        ValueError: several processes are wanted, and torchrun has not started this one.
    """
    if sharding == "none":
        return OneProcess()
    if not dist.is_initialized():
        if "RANK" not in os.environ:
            raise ValueError(
                f"sharding={sharding!r} is for several processes, and this is one alone; start it with "
                "torchrun --nproc-per-node PROCESSES -m roberta train ..., or take sharding='none'"
            )
        if device.type != "cpu":
            torch.accelerator.set_device_index(device.index or 0)
        dist.init_process_group(group_backend(device), timeout=_PATIENCE)
    return Torchrun()


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
