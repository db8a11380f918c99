"""A script like many: a small GPT learns to write Python, letter by letter, from the standard library's source.

It knows nothing of traintop: `python screenshots/train.py --help`.
"""

import argparse
import sysconfig
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

LETTERS = 256


class Source(Dataset):
    """Pieces of `block_size` + 1 letters."""

    def __init__(self, block_size):
        files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
        text = b"".join(file.read_bytes() for file in files)
        self.pieces = torch.frombuffer(bytearray(text), dtype=torch.uint8).unfold(0, block_size + 1, block_size)

    def __len__(self):
        return len(self.pieces)

    def __getitem__(self, index):
        return self.pieces[index].long()


class GPT(nn.Module):
    """(batch, length) letters to (batch, length, 256) logits."""

    def __init__(self, width, n_layers, block_size):
        super().__init__()
        self.letters, self.places = nn.Embedding(LETTERS, width), nn.Embedding(block_size, width)
        layers = (nn.TransformerEncoderLayer(width, 4, 4 * width, 0.1, "gelu", 1e-5, True) for _ in range(n_layers))
        self.layers, self.head = nn.ModuleList(layers), nn.Linear(width, LETTERS)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(block_size))

    def forward(self, letters):
        hidden = self.letters(letters) + self.places.weight
        for layer in self.layers:
            hidden = layer(hidden, self.mask, is_causal=True)
        return self.head(hidden)


def main():
    """Train, and print the loss now and then."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--block_size", type=int, default=64)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--max_steps", type=int, default=200)
    args = parser.parse_args()

    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = GPT(args.width, args.layers, args.block_size).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, args.max_steps)
    halved = torch.autocast(device, torch.bfloat16) if args.dtype == "bfloat16" else nullcontext()
    loader = DataLoader(Source(args.block_size), args.batch_size, shuffle=True, drop_last=True)
    for step, letters in zip(range(1, args.max_steps + 1), loader):  # noqa: B905
        letters = letters.to(device)
        with halved:
            logits = model(letters[:, :-1])
        loss = nn.functional.cross_entropy(logits.float().flatten(0, 1), letters[:, 1:].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 20 == 0:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)


if __name__ == "__main__":
    main()
