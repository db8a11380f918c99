"""Training loops with the habits that people have. Each prints what it computes."""

from __future__ import annotations

_MODEL = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(32, 64), nn.Dropout(0.1), nn.Linear(64, 4))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
data = TensorDataset(torch.randn(40, 32), torch.randint(0, 4, (40,)))
def loss_of(x, y):
    return nn.functional.cross_entropy(model(x), y)
"""

PLAIN = (
    _MODEL
    + """
next(iter(DataLoader(data, batch_size=3)))  # a look at the data
for epoch in range(2):
    for n, (x, y) in enumerate(DataLoader(data, batch_size=8, shuffle=True, num_workers=WORKERS)):
        loss = loss_of(x, y)
        HERE
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        print(repr(loss.item()), repr(norm.item()), flush=True)
    model.eval()
    with torch.no_grad():
        for x, y in DataLoader(data, batch_size=20):
            model(x)
    model.train()
"""
)


def plain_loop(*, workers: int = 0, here: str = "pass") -> str:
    """Two epochs of five updates; `here`: a line between forward and backward."""
    return PLAIN.replace("WORKERS", str(workers)).replace("HERE", here)


def failing(line: str) -> str:
    """A loop whose fourth update comes to a line."""
    return plain_loop(here=f"if n == 3: {line}")


FASTAI_FILES = {
    "fastai/__init__.py": "",
    "fastai/optimizer.py": """
class Optimizer:
    def __init__(self, params, **hypers):
        self.param_lists, self.hypers, self.state = [list(params)], [hypers], {}

    @property
    def param_groups(self):
        return [{"params": group, **hypers} for group, hypers in zip(self.param_lists, self.hypers)]

    def step(self, closure=None):
        for group, hypers in zip(self.param_lists, self.hypers):
            for each in group:
                state = self.state.setdefault(each, {"avg": each.grad.clone()})
                state["avg"].mul_(0.9).add_(each.grad)
                each.data.add_(state["avg"], alpha=-hypers["lr"])

    def zero_grad(self):
        for each in self.param_lists[0]:
            each.grad = None
""",
}
"""What of fastai's own optimizer counts."""
FASTAI = (
    _MODEL
    + """
from fastai.optimizer import Optimizer
optimizer = Optimizer(model.parameters(), lr=0.1)
"""
    + PLAIN[len(_MODEL) :].replace("WORKERS", "0").replace("HERE", "optimizer.hypers[0]['lr'] *= 0.5")
)


DIVIDED = (
    _MODEL
    + """
losses = []
loader = DataLoader(data, batch_size=4)
for n, (x, y) in enumerate(loader):  # ten micro-steps: the last update has two of four
    loss = loss_of(x, y)
    losses.append(loss.item())
    (loss / 4).backward()
    if n % 4 == 3 or n == len(loader) - 1:
        optimizer.step()
        optimizer.zero_grad()
        print(sum(losses) / len(losses))
        losses = []
"""
)

SCALED = """
import torch
torch.manual_seed(0)
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.OPTIMIZER
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
for update in range(4):
    for micro_step in range(2):
        ids = torch.randint(0, 9, (3, 4))
        loss = model(ids.float()).mean()
        print(repr(loss.item()))
        if update == 2:
            loss = loss * float("inf")
        scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()
print(model.weight.tolist())
"""

STANDS_IN = (
    SCALED.replace("OPTIMIZER", "SGD(model.parameters(), lr=0.1)")
    .replace(
        "    scaler.step(optimizer)",
        """    given = StandIn()
    scaler.step(given)
    if given.is_asked:
        optimizer.step()""",
    )
    .replace(
        "for update",
        """
class StandIn:
    is_asked = False
    param_groups = property(lambda self: optimizer.param_groups)

    def step(self):
        self.is_asked = True

for update""",
        1,
    )
)
"""Asks the scaler whether to step, as fastai's callback for fp16 does."""

CLOSURE = (
    _MODEL.replace(
        "torch.optim.AdamW(model.parameters(), lr=1e-3)", "torch.optim.LBFGS(model.parameters(), max_iter=4)"
    )
    + """
model[1].p = 0.0
x, y = data.tensors
def closure():
    optimizer.zero_grad()
    loss = loss_of(x, y)
    print(repr(loss.item()))
    loss.backward()
    return loss
for _ in range(3):
    optimizer.step(closure)
    print("step")
"""
)

GAN = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
generator = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 16))
critic = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1))
of_critic = torch.optim.Adam(critic.parameters(), lr=2e-3)
of_generator = torch.optim.Adam(generator.parameters(), lr=1e-3)
for (real,) in DataLoader(TensorDataset(torch.randn(24, 16)), batch_size=8):
    noise = torch.randn(8, 8)
    of_critic.zero_grad()
    critic(real).mean().backward()
    critic(generator(noise).detach()).mean().neg().backward()
    of_critic.step()
    of_generator.zero_grad()
    loss = critic(generator(noise)).mean()
    loss.backward()
    of_generator.step()
    print(repr(loss.item()))
"""

CHECKPOINTED = (
    _MODEL
    + """
from torch.utils.checkpoint import checkpoint
for n, (x, y) in enumerate(DataLoader(data, batch_size=8)):
    hidden = checkpoint(model[:2], x.requires_grad_(), use_reentrant=n % 2 == 0)
    loss = nn.functional.cross_entropy(model[2](hidden), y)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    print(repr(loss.item()))
"""
)

BY_AUTOGRAD = (
    _MODEL
    + """
for n, (x, y) in enumerate(DataLoader(data, batch_size=8)):
    loss = loss_of(x, y)
    if n < 3:
        torch.autograd.backward([loss])
    else:
        for parameter, gradient in zip(model.parameters(), torch.autograd.grad(loss, list(model.parameters()))):
            parameter.grad = gradient
    optimizer.step()
    optimizer.zero_grad()
    print(repr(loss.item()))
"""
)

IN_BACKWARD = """
import torch
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(16, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1))
optimizers = {each: torch.optim.SGD([each], lr=0.01) for each in model.parameters()}
def step(parameter):
    optimizers[parameter].step()
    optimizers[parameter].zero_grad()
for each in model.parameters():
    each.register_post_accumulate_grad_hook(step)
for _ in range(4):
    loss = model(torch.randn(8, 16)).square().mean()
    loss.backward()
    print(repr(loss.item()))
"""

IN_THREADS = (
    _MODEL
    + """
import threading
def train():
    for x, y in DataLoader(data, batch_size=8):
        loss = loss_of(x, y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        print(repr(loss.item()), flush=True)
        go.set(), come.wait(), come.clear()
go, come = threading.Event(), threading.Event()
other = nn.Linear(32, 1)  # another, smaller one, between each two updates of the first; both draw from one generator
smaller = torch.optim.SGD(other.parameters(), lr=0.1)
thread = threading.Thread(target=train)
thread.start()
for _ in range(5):
    go.wait(), go.clear()
    other(data.tensors[0][:7]).mean().backward()
    smaller.step()
    come.set()
thread.join()
"""
)

SAVED = (
    _MODEL
    + """
import copy, pickle
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = model
    def forward(self, x):
        return self.inner(x)
net = Net()
for n, (x, y) in enumerate(DataLoader(data, batch_size=8)):
    loss = nn.functional.cross_entropy(net(x), y)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    averaged = copy.deepcopy(net)
    torch.save(net, "model.pt")
    copied = pickle.loads(pickle.dumps(dict(vars(Net)).get("__call__")))  # as cloudpickle does with a class of __main__
    assert copied in (None, nn.Module.__call__), copied
    print(repr(loss.item()), len(pickle.dumps(net)), list(net._forward_pre_hooks))
"""
)

LEFT = (
    _MODEL
    + """
import gc, random
random.seed(0)
class Gone:
    pass
for epoch in range(3):
    for x, y in DataLoader(data, batch_size=8, shuffle=True):
        loss = loss_of(x, y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
del loss, x, y
gc.collect()
print(sum(isinstance(each, torch.Tensor) for each in gc.get_objects()))
print(torch.random.get_rng_state().sum().item(), random.random(), torch.rand(()).item())
import weakref
gone = [weakref.ref(model), weakref.ref(optimizer), weakref.ref(model[0].weight)]
del model, optimizer
gc.collect()
print([each() for each in gone])
"""
)

COMPILED = (
    _MODEL
    + """
import torch._dynamo
whole = torch.compile(model, backend="aot_eager", fullgraph=True)
def step(x, y):
    loss = nn.functional.cross_entropy(whole(x), y)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss
for x, y in DataLoader(data, batch_size=8):
    print(repr(step(x, y).item()), torch._dynamo.utils.counters["frames"])
torch.manual_seed(1)
later = torch.compile(loss_of, backend="aot_eager", fullgraph=True)  # a module that was looked at until now
for x, y in DataLoader(data, batch_size=8):
    loss = later(x, y)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    print(repr(loss.item()), torch._dynamo.utils.counters["frames"])
"""
)

COMPILED_WHOLE = (
    _MODEL
    + """
import torch._dynamo
model[1].p = 0.0
@torch.compile(backend="aot_eager")
def step(x, y):
    loss = loss_of(x, y)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()
for x, y in DataLoader(data, batch_size=8):
    print(repr(step(x, y).item()))
"""
)

FORKED = (
    _MODEL
    + """
import os
child = os.fork()
if not child:
    model = nn.Linear(32, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for x, y in DataLoader(data, batch_size=8):
    loss = loss_of(x, y)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
if child:
    os.waitpid(child, 0)
"""
)

POOLED = (
    _MODEL
    + """
import torch.multiprocessing as mp
def work(n):
    for x, y in DataLoader(data, batch_size=8):
        loss = loss_of(x, y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
if __name__ == "__main__":
    workers = [mp.get_context("fork").Process(target=work, args=(n,)) for n in range(2)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    print([each.exitcode for each in workers])
"""
)

NANO = """
\"\"\"python train.py config.py --block_size=16\"\"\"
import os, math, pickle, sys
from contextlib import nullcontext
import numpy as np
import torch
from engine import GPT, GPTConfig
import tui
out_dir = "out"
eval_interval = 4
eval_iters = 3
gradient_accumulation_steps = 2
batch_size = 12
block_size = 64
n_embd = 32
dropout = 0.0
learning_rate = 6e-4
max_iters = 600
grad_clip = 1.0
dtype = "float32"
compile = True
config_keys = [k for k, v in globals().items() if not k.startswith("_") and isinstance(v, (int, float, bool, str))]
exec(open("configurator.py").read())
config = {k: globals()[k] for k in config_keys}
os.makedirs(out_dir, exist_ok=True)
torch.manual_seed(1337)
np.random.seed(1337)
np.random.randint(0, 65, 4000, dtype=np.uint16).tofile("train.bin")
ctx = nullcontext() if dtype == "float32" else torch.amp.autocast("cpu", getattr(torch, dtype))
def get_batch(split):
    data = np.memmap("train.bin", dtype=np.uint16, mode="r")
    ix = torch.randint(len(data) - block_size, (batch_size,))
    x = torch.stack([torch.from_numpy((data[i:i+block_size]).astype(np.int64)) for i in ix])
    y = torch.stack([torch.from_numpy((data[i+1:i+1+block_size]).astype(np.int64)) for i in ix])
    return x, y
model = GPT(GPTConfig(block_size=block_size, vocab_size=65, n_embd=n_embd, dropout=dropout))
scaler = torch.amp.GradScaler("cpu", enabled=(dtype == "float16"))
optimizer = model.configure_optimizers(0.1, learning_rate, (0.9, 0.95))
if compile:
    unoptimized_model = model
    model = torch.compile(model, backend="aot_eager")
@torch.no_grad()
def estimate_loss():
    model.eval()
    losses = torch.zeros(eval_iters)
    for k in range(eval_iters):
        X, Y = get_batch("val")
        with ctx:
            logits, loss = model(X, Y)
        losses[k] = loss.item()
    model.train()
    return losses.mean()
X, Y = get_batch("train")
iter_num = 0
while True:
    lr = learning_rate * (iter_num + 1) / 10
    for param_group in optimizer.param_groups:
        param_group["lr"] = lr
    if iter_num % eval_interval == 0:
        print(f"step {iter_num}: val loss {estimate_loss()!r}")
    for micro_step in range(gradient_accumulation_steps):
        with ctx:
            logits, loss = model(X, Y)
            loss = loss / gradient_accumulation_steps
        X, Y = get_batch("train")
        scaler.scale(loss).backward()
    if grad_clip != 0.0:
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    lossf = loss.item() * gradient_accumulation_steps
    print(f"iter {iter_num}: loss {lossf!r}")
    iter_num += 1
    if iter_num > max_iters:
        break
torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "config": config}, f"{out_dir}/ckpt.pt")
"""
"""With the habits of nanoGPT: no loader, its own configurator, a compiled model, and modules of names that we have."""

NANO_FILES = {
    "tui.py": "",
    "config.py": "max_iters = 5\nn_embd = 16\n",
    "configurator.py": """
import sys
from ast import literal_eval
for arg in sys.argv[1:]:
    if '=' not in arg:
        exec(open(arg).read())
    else:
        key, val = arg[2:].split('=')
        assert type(globals()[key]) == type(literal_eval(val)) or isinstance(globals()[key], str)
        globals()[key] = val if isinstance(globals()[key], str) else literal_eval(val)
""",
    "engine.py": """
from dataclasses import dataclass
import torch
from torch import nn
from torch.nn import functional as F
@dataclass
class GPTConfig:
    block_size: int = 64
    vocab_size: int = 65
    n_embd: int = 32
    dropout: float = 0.0
class GPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.block = nn.TransformerEncoderLayer(config.n_embd, 2, 4 * config.n_embd, config.dropout, batch_first=True)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.wte.weight = self.lm_head.weight
    def forward(self, idx, targets=None):
        T = idx.size(1)
        mask = torch.triu(torch.full((T, T), float("-inf")), 1)
        x = self.block(self.wte(idx) + self.wpe(torch.arange(T)), mask)
        logits = self.lm_head(x)
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    def configure_optimizers(self, weight_decay, learning_rate, betas):
        decay = [p for p in self.parameters() if p.dim() >= 2]
        other = [p for p in self.parameters() if p.dim() < 2]
        groups = [{"params": decay, "weight_decay": weight_decay}, {"params": other, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=learning_rate, betas=betas, fused=True)
""",
}
