"""The order of the samples in the script, where it is not the Trainer's own."""

from __future__ import annotations

from engine.contract.config import RunConfig
from engine.export.trainer_script import several
from engine.export.trainer_script.embedding import source_of
from engine.export.trainer_script.parts import Part


def order_part(config: RunConfig) -> tuple[Part, str]:
    """What orders the samples, and the kind of Trainer that does so.

    A masked text hides other words in each epoch: there the places of the samples count on through the epochs.
    """
    bucketed, masked = config.padding == "bucketed", hides_words(config)
    if not bucketed and not masked and not config.is_parallel:
        return Part(), "Trainer"
    from engine.techniques import bucketing, preloading

    n, lengths = "len(self.train_dataset)", '[len(ids) for ids in self.train_dataset["input_ids"]]'
    definitions: list[object] = [preloading.EpochOrder]
    order, kind = f"EpochOrder({n}, self.args.seed)", "EpochOrder"
    if bucketed:
        definitions.append(bucketing.BucketedOrder)
        lengths = "[len(row) for row in self.train_dataset.rows]" if masked else lengths
        kind = "BucketedOrder"
        size = "self.args.per_device_train_batch_size" + (" * self.args.world_size" if config.is_parallel else "")
        order = f"BucketedOrder({lengths}, {size}, self.args.seed)"
    own = _SET.replace("KIND", kind)
    if masked:
        definitions.append(preloading.Counted)
        own, order = _SET.replace("KIND", "Counted").replace("self.epoch", "self.order.epoch"), f"Order({order})"
    else:
        order = order.replace(kind, "Order")
    trainer = (
        several.ordered_trainer(order) if config.is_parallel else Part(functions=(_TRAINER.replace("ORDER", order),))
    )
    return (
        Part(
            imports=(
                "from collections.abc import Iterator, Sequence",
                "from torch.utils.data import Sampler",
                "from transformers import Trainer",
                *trainer.imports,
            ),
            constants=(f"MEGABATCH = {bucketing.MEGABATCH}  # batches that are sorted by length among themselves",)
            if bucketed
            else (),
            functions=(*source_of(*definitions), own, *trainer.functions),
        ),
        "OrderedTrainer",
    )


def hides_words(config: RunConfig) -> bool:
    """Whether the samples differ from epoch to epoch."""
    return config.workload == "text" and config.task == "masked-lm"


_SET = '''
class Order(KIND):
    """The order of an epoch, which the Trainer sets."""

    def set_epoch(self, epoch):
        self.epoch = epoch
'''
_TRAINER = '''
class OrderedTrainer(Trainer):
    """Takes the samples in the order of the run."""

    def _get_train_sampler(self, train_dataset=None):
        return ORDER
'''
