"""The CIFAR-10 networks of He et al. (2016), section 4.2, in torchvision's naming.

ResNet-(6n+2) with projection shortcuts (option B) or subsampled, zero-padded ones (option A), and the plain net
without shortcuts. Names: conv1, bn1, layer{1,2,3}.{i}.{conv1,bn1,conv2,bn2}, layer{2,3}.0.downsample.{0,1} (option B), fc.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SHORTCUTS = ("projection", "padding", "none")


class PaddedShortcut(nn.Module):
    """Option A: every second row and column, and as many zero channels before as after the old ones."""

    def __init__(self, channels, new_channels):
        super().__init__()
        self.pad = (new_channels - channels) // 2

    def forward(self, x):
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))


class BasicBlock(nn.Module):
    def __init__(self, channels, new_channels, stride, shortcut):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, new_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(new_channels)
        self.conv2 = nn.Conv2d(new_channels, new_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(new_channels)
        self.residual = shortcut != "none"
        self.downsample = None
        if stride != 1 or channels != new_channels:
            if shortcut == "projection":
                projection = nn.Conv2d(channels, new_channels, 1, stride, bias=False)
                self.downsample = nn.Sequential(projection, nn.BatchNorm2d(new_channels))
            elif shortcut == "padding":
                self.downsample = PaddedShortcut(channels, new_channels)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.residual:
            y = y + (x if self.downsample is None else self.downsample(x))
        return F.relu(y)


class CifarNet(nn.Module):
    """`depth` is 6n+2: a stem, three stages of n blocks with 16, 32 and 64 channels, and the classifier."""

    def __init__(self, depth, shortcut="projection", classes=len(CLASSES)):
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"depth is {depth}, expected 6n+2: 8, 14, 20, 32, 44, 56, 110, ...")
        if shortcut not in SHORTCUTS:
            raise ValueError(f"shortcut is {shortcut!r}, expected one of {', '.join(SHORTCUTS)}")
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        channels = 16
        for stage, width in enumerate((16, 32, 64)):
            blocks = []
            for i in range((depth - 2) // 6):
                stride = 2 if stage > 0 and i == 0 else 1
                blocks.append(BasicBlock(channels, width, stride, shortcut))
                channels = width
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(self.avgpool(x).flatten(1))


def top1(net, images, labels, mean, std, batch=500):
    """How many of the u8 `images` [N,3,32,32] the network puts in the class `labels` names. Inputs are x/255, normalised."""
    mean, std = torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None]
    net.eval()
    hits = 0
    with torch.no_grad():
        for i in range(0, len(images), batch):
            logits = net((images[i : i + batch].float() / 255 - mean) / std)
            hits += (logits.argmax(1) == labels[i : i + batch]).sum().item()
    return hits
