"""Trains a CIFAR-10 network of He et al. (2016) and writes its weights as float32 safetensors.

DATA is a folder with train_x.npy (u8 [50000,3,32,32]), train_y.npy, test_x.npy and test_y.npy. After every epoch the
weights are saved and one JSON line with loss, test accuracy and seconds goes to stdout; progress goes to stderr.
The file's metadata holds the architecture, the input's mean and standard deviation, and that log.

`--depth 20 --epochs 20 --seed 0` on CIFAR-10 re-encoded as JPEG made the network that Stridewise ships: 86.25 % top-1,
about 100 s an epoch on two cores. `convert_half.py` then rounds the weights to float16. Needs torch, numpy, safetensors.
"""

import argparse
import json
import os
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

from cifar_net import CifarNet, top1
from tensor_file import save_sorted

MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)


def load(folder, split):
    """Images u8 [N,3,32,32] and labels of one split."""
    x = torch.from_numpy(np.load(os.path.join(folder, f"{split}_x.npy")))
    y = torch.from_numpy(np.load(os.path.join(folder, f"{split}_y.npy"))).long()
    if x.dtype != torch.uint8 or x.ndim != 4 or tuple(x.shape[1:]) != (3, 32, 32) or len(x) != len(y):
        raise SystemExit(f"{folder}/{split}_x.npy is {x.dtype} {list(x.shape)} with {len(y)} labels, expected u8 [N,3,32,32]")
    return x, y


def augment(x, generator):
    """Pads by 4, crops 32x32 at random and mirrors every other image."""
    n = x.shape[0]
    x = F.pad(x, (4, 4, 4, 4))
    dy, dx = torch.randint(0, 9, (2, n), generator=generator)
    flip = torch.rand(n, generator=generator) < 0.5
    rows = dy[:, None] + torch.arange(32)
    cols = dx[:, None] + torch.arange(32)
    cols = torch.where(flip[:, None], cols.flip(1), cols)
    image = torch.arange(n)[:, None, None, None]
    channel = torch.arange(3)[None, :, None, None]
    return x[image, channel, rows[:, None, :, None], cols[:, None, None, :]]


def train_epoch(net, optimizer, schedule, images, labels, batch, generator, title):
    """One pass over the data in random order; the mean loss."""
    net.train()
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    order = torch.randperm(len(images), generator=generator)
    steps, start, total = len(images) // batch, time.time(), 0.0
    for step in range(steps):
        pick = order[step * batch : (step + 1) * batch]
        x = augment((images[pick].float() / 255 - mean) / std, generator)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = net(x.contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits.float(), labels[pick], label_smoothing=0.05)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        total += loss.item()
        if sys.stderr.isatty() and (step % 10 == 9 or step + 1 == steps):
            left = (time.time() - start) / (step + 1) * (steps - step - 1)
            end = "\n" if step + 1 == steps else ""
            print(f"\r{title}  {step + 1}/{steps}  loss {total / (step + 1):.3f}  {left:4.0f} s left", end=end, file=sys.stderr)
    return total / steps


def arguments():
    title, _, details = __doc__.partition("\n\n")
    p = argparse.ArgumentParser(description=title, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("data", metavar="DATA", help="folder with the four .npy files")
    p.add_argument("out", metavar="OUT.safetensors", help="where the weights go")
    p.add_argument("--depth", type=int, default=20, help="6n+2 layers: 20, 32, 44, 56, 110 (default %(default)s)")
    p.add_argument("--plain", action="store_true", help="the plain net: no shortcuts")
    p.add_argument("--epochs", type=int, default=24, help="default %(default)s")
    p.add_argument("--batch", type=int, default=128, help="images a step (default %(default)s)")
    p.add_argument("--lr", type=float, default=0.4, help="peak learning rate (default %(default)s)")
    p.add_argument("--seed", type=int, default=0, help="initial weights, order and augmentation (default %(default)s)")
    p.add_argument("--limit", type=int, metavar="N", help="train on about N images, evenly chosen, for a quick try")
    return p.parse_args()


def main():
    a = arguments()
    torch.manual_seed(a.seed)
    generator = torch.Generator().manual_seed(a.seed)
    images, labels = load(a.data, "train")
    test_images, test_labels = load(a.data, "test")
    if a.limit:
        every = max(1, len(images) // a.limit)
        images, labels = images[::every], labels[::every]
    if a.epochs < 1 or not 1 <= a.batch <= len(images):
        raise SystemExit(f"--epochs {a.epochs} --batch {a.batch}: expected at least 1 epoch and 1 to {len(images)} images a step")

    net = CifarNet(a.depth, "none" if a.plain else "projection").to(memory_format=torch.channels_last)
    decayed = [w for w in net.parameters() if w.ndim > 1]
    others = [w for w in net.parameters() if w.ndim == 1]
    groups = [{"params": decayed, "weight_decay": 5e-4}, {"params": others, "weight_decay": 0}]
    optimizer = torch.optim.SGD(groups, lr=a.lr, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        a.lr,
        total_steps=a.epochs * (len(images) // a.batch),
        pct_start=0.2,
        anneal_strategy="linear",
        div_factor=10,
        final_div_factor=1e3,
    )

    log = []
    for epoch in range(1, a.epochs + 1):
        start = time.time()
        title = f"epoch {epoch}/{a.epochs}"
        loss = train_epoch(net, optimizer, schedule, images, labels, a.batch, generator, title)
        hits = top1(net, test_images, test_labels, MEAN, STD)
        log.append({"epoch": epoch, "loss": loss, "test_top1": hits / len(test_images), "seconds": round(time.time() - start, 1)})
        print(json.dumps(log[-1]), flush=True)
        arch = f"{'plain' if a.plain else 'resnet'}{a.depth}-cifar10"
        state = {k: v for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
        save_sorted(state, a.out, {"arch": arch, "mean": str(MEAN), "std": str(STD), "log": json.dumps(log)})


if __name__ == "__main__":
    main()
