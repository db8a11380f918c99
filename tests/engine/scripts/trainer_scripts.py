"""Training scripts on top of trainers, as their documentation has them. Each prints what it computes."""

from __future__ import annotations

_TINY = """
import torch
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed
from transformers.trainer_callback import PrinterCallback
set_seed(0)
class Tokens(Dataset):
    def __len__(self):
        return 24
    def __getitem__(self, n):
        ids = torch.randint(0, 64, (16,), generator=torch.Generator().manual_seed(n))
        return {"input_ids": ids, "labels": ids}
model = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_positions=16, n_embd=16, n_layer=2, n_head=2))
"""

TRANSFORMERS = (
    _TINY
    + """
arguments = TrainingArguments(
    "out", per_device_train_batch_size=4, gradient_accumulation_steps=2, num_train_epochs=2, logging_steps=1,
    eval_strategy="epoch", save_strategy="epoch", gradient_checkpointing=True, report_to=[], use_cpu=True,
    disable_tqdm=True,
)
trainer = Trainer(model, arguments, train_dataset=Tokens(), eval_dataset=Tokens())
trainer.remove_callback(PrinterCallback)
trainer.train()
for entry in trainer.state.log_history:
    print({name: value for name, value in entry.items() if "runtime" not in name and "per_second" not in name})
print(sum(each.double().sum().item() for each in model.parameters()))
"""
)

ACCELERATE = (
    _TINY
    + """
from accelerate import Accelerator
from torch.utils.data import DataLoader
from transformers import get_linear_schedule_with_warmup
accelerator = Accelerator(cpu=True, gradient_accumulation_steps=3)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
schedule = get_linear_schedule_with_warmup(optimizer, 1, 4)
loader, held_out = DataLoader(Tokens(), batch_size=2, shuffle=True), DataLoader(Tokens(), batch_size=8)
model, optimizer, loader, held_out, schedule = accelerator.prepare(model, optimizer, loader, held_out, schedule)
model.train()
for epoch in range(2):
    for batch in loader:
        with accelerator.accumulate(model):
            loss = model(**batch).loss
            print(repr(loss.item()))
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                print("norm", repr(accelerator.clip_grad_norm_(model.parameters(), 1.0).item()))
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    model.eval()
    for batch in held_out:
        with torch.no_grad():
            accelerator.gather_for_metrics(model(**batch).loss)
    model.train()
"""
)

LIGHTNING = """
import warnings
warnings.filterwarnings("ignore")
import torch
import lightning as L
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
class Encoder(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(32, 16), nn.Dropout(0.1), nn.Linear(16, 32))
    def training_step(self, batch, _):
        loss = nn.functional.mse_loss(self.net(batch[0]), batch[0])
        self.log("train_loss", loss)
        print(repr(loss.item()))
        return loss
    def validation_step(self, batch, _):
        self.log("val_loss", nn.functional.mse_loss(self.net(batch[0]), batch[0]))
    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)
L.seed_everything(0)
data = TensorDataset(torch.randn(48, 32))
trainer = L.Trainer(
    max_epochs=2, accelerator="cpu", accumulate_grad_batches=3, gradient_clip_val=0.1, logger=False,
    enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1, enable_checkpointing=False,
)
module = Encoder()
trainer.fit(module, DataLoader(data, batch_size=4, shuffle=True), DataLoader(data, batch_size=16))
print("end", float(trainer.callback_metrics["val_loss"]))
"""

TRL = (
    _TINY
    + """
from datasets import Dataset as Table
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer
words = {word: n for n, word in enumerate(["[PAD]", "[UNK]", "[EOS]", *"abcdefghij"])}
backend = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
backend.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", eos_token="[EOS]"
)
table = Table.from_dict({"text": [" ".join("abcdefghij"[: 3 + n % 7]) for n in range(16)]})
arguments = SFTConfig(
    "out", per_device_train_batch_size=2, gradient_accumulation_steps=2, max_steps=4, logging_steps=1, report_to=[],
    use_cpu=True, bf16=False, disable_tqdm=True, max_length=16, save_strategy="no",
)
trainer = SFTTrainer(model, arguments, train_dataset=table, processing_class=tokenizer)
trainer.remove_callback(PrinterCallback)
trainer.train()
for entry in trainer.state.log_history:
    print({name: value for name, value in entry.items() if "runtime" not in name and "per_second" not in name})
"""
)
