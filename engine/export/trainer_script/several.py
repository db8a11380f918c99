"""Several GPUs in the script: a process for each, started by torchrun, with its part of the run's order. Pure."""

from __future__ import annotations

from engine.contract.config import ConfigError, RunConfig
from engine.export.trainer_script.parts import Part


def start_part(config: RunConfig, visible: str, *, limited: bool) -> Part:
    """Refuses to run without its processes, and leaves them the cards that `visible` names (empty: all), `limited` to
    the run's memory.

    Without torchrun the Trainer would train by DataParallel, which is another thing.
    """
    if not config.is_parallel:
        return Part()
    n = "gpu" if config.gpus is None else str(config.gpus)
    there = '"WORLD_SIZE" not in os.environ' if config.gpus is None else f'os.environ.get("WORLD_SIZE") != "{n}"'
    limit = (
        'card = int(os.environ["LOCAL_RANK"])',
        "total = torch.cuda.get_device_properties(card).total_memory",
        f"torch.cuda.set_per_process_memory_fraction({config.vram_limit} * 2**20 / total, card)",
    )
    return Part(
        imports=("import os", "import torch"),
        main=(
            f"if {there}:",
            f'    raise SystemExit(f"A process for every GPU: torchrun --nproc-per-node {n} {{__file__}}")',
            *([f'os.environ["CUDA_VISIBLE_DEVICES"] = "{visible}"'] if visible else ()),
            *(limit if limited else ()),
        ),
        notes=(f"Start it by: torchrun --nproc-per-node {n} THIS_FILE", *_notes(config)),
    )


def dropout_part(config: RunConfig) -> Part:
    """Each process drops out other values, when all have made the same weights."""
    if not config.is_parallel:
        return Part()
    return Part(
        main=(
            'if rank := int(os.environ["RANK"]):',
            "    torch.manual_seed(SEED + rank)  # dropout is not that of the first",
            "    dropout = torch.get_rng_state()",
        )
    )


def arguments(config: RunConfig) -> dict[str, object]:
    """The TrainingArguments of how the work is divided; none with one GPU."""
    if not config.is_parallel:
        return {}
    if config.parallel == "fsdp":
        return {"fsdp": True, "fsdp_config": {"reshard_after_forward": config.reshard_after_forward}}
    return {"ddp_bucket_cap_mb": config.bucket_mib}


def check(config: RunConfig, own_optimizer: str) -> None:
    """Raise `ConfigError` where the Trainer cannot do it. `own_optimizer`: what has no name there; else empty."""
    if own_optimizer and config.is_parallel and config.parallel == "fsdp":
        raise ConfigError(
            "optimizer",
            f"With --parallel fsdp the Trainer takes only optimizers that it has a name for, and --optimizer "
            f"{config.optimizer} with these options has none: use adamw, or --parallel ddp, for the script.",
        )


def _notes(config: RunConfig) -> list[str]:
    notes = []
    if config.parallel == "zero1":
        notes.append(
            "The run divided the optimizer's states by whole tensors (ZeroRedundancyOptimizer), which the Trainer has "
            "no name for: the losses are the same, and each GPU's memory is higher by the states of the others."
        )
    if config.parallel == "fsdp" and config.precision in ("bf16", "fp16"):
        notes.append(
            f"Under FSDP the Trainer computes whole layers in {config.precision}, where the run cast what profits from "
            "it: the losses differ in their last digits."
        )
    return notes


def ordered_trainer(order: str) -> Part:
    """A Trainer whose processes have their parts of `order`, source of what yields the places of all samples."""
    return Part(
        imports=("from torch.utils.data import DataLoader, DistributedSampler", "from transformers import Trainer"),
        functions=(_DIVIDED, _LOADER, _TRAINER.replace("ORDER", order)),
    )


_DIVIDED = '''
class Divided(DistributedSampler):
    """Of the order of all samples every Nth one, from this process's own on; N is the number of processes."""

    def __init__(self, order):
        super().__init__(order)
        self.order = order

    def set_epoch(self, epoch):
        self.order.set_epoch(epoch)

    def __iter__(self):
        whole = list(self.order)
        whole = (whole * self.total_size)[: self.total_size]  # it begins again, until all have as many
        return iter(whole[self.rank :: self.num_replicas])
'''
_LOADER = '''
class Loader(DataLoader):
    """Tells its sampler of the epoch, as the Trainer tells it."""

    def set_epoch(self, epoch):
        self.sampler.set_epoch(epoch)
'''
_TRAINER = '''
class OrderedTrainer(Trainer):
    """Takes the samples in the order of the run, of which accelerate would give a process every Nth batch."""

    def get_train_dataloader(self):
        return Loader(
            self.train_dataset,
            self.args.per_device_train_batch_size,
            sampler=Divided(ORDER),
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            prefetch_factor=self.args.dataloader_prefetch_factor,
            persistent_workers=self.args.dataloader_persistent_workers,
            multiprocessing_context=self.args.dataloader_multiprocessing_context,
        )
'''
