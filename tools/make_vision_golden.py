"""Writes tests/golden/vision: pictures, and what Pillow and torchvision make of them.

    python tools/make_vision_golden.py

Needs torch, torchvision, Pillow and numpy. Every picture is drawn here, from fixed seeds. `cases.json` lists per case the
input, the sizes, the expected pixels after `convert("RGB")`, `Resize` and `CenterCrop` (a PNG), and whether the input's decoding
is exact by its format.
`table_*.npy` hold what `ToTensor` and `Normalize` make of each byte: [3, 256] float32.
"""

import io
import json
import pathlib
import struct
import zlib

import numpy as np
import torch
import torchvision
from PIL import Image, ImageDraw, __version__ as pillow
from torchvision import transforms as T

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden" / "vision"
STATISTICS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar": ((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)),
}


def drawing(width, height, seed):
    """A gradient with shapes and letters: smooth areas and hard edges."""
    y, x = np.mgrid[0:height, 0:width]
    base = np.stack([x * 255 // max(width - 1, 1), y * 255 // max(height - 1, 1), (x + y) * 255 // max(width + height - 2, 1)], -1)
    image = Image.fromarray(base.astype(np.uint8))
    draw, rng = ImageDraw.Draw(image), np.random.default_rng(seed)
    for _ in range(8):
        cx, cy, r = rng.integers(0, width), rng.integers(0, height), rng.integers(3, max(width, height) // 4 + 4)
        color = tuple(int(v) for v in rng.integers(0, 256, 3))
        draw.ellipse([cx - r, cy - r, cx + r, cy + r], outline=color, width=1 + int(rng.integers(0, 4)))
        draw.line([cx, cy, width - cx, height - cy], fill=color, width=1)
        draw.text((cx, cy), "Stride 16", fill=color)
    return image


def noise(width, height, seed):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def png16(samples, color_type):
    """A 16-bit PNG, which Pillow does not write for all colour types."""
    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)

    def chunk(tag, data):
        return struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))

    header = struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def encode(image, kind="png", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def inputs():
    rng = np.random.default_rng(16)
    small = drawing(90, 70, 5)
    alpha = small.convert("RGBA")
    alpha.putalpha(Image.fromarray(rng.integers(0, 4, (70, 90), dtype=np.uint8) * 85))
    y, x = np.mgrid[0:15, 0:23]
    ramp = (x * 2800 + y * 37) % 65536
    color = np.stack([ramp, 65535 - ramp, (ramp * 7) % 65536, (ramp * 3) % 65536], -1)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees, which torchvision does not do
    return {
        "drawing_317x241.png": encode(drawing(317, 241, 1), optimize=True),
        "drawing_64x900.png": encode(drawing(64, 900, 2), optimize=True),
        "noise_61x83.png": encode(noise(61, 83, 3)),
        "noise_32x32.png": encode(noise(32, 32, 4)),
        "noise_200x3.png": encode(noise(200, 3, 8)),
        "gray_90x70.png": encode(small.convert("L"), optimize=True),
        "gray_alpha_90x70.png": encode(alpha.convert("LA"), optimize=True),
        "rgba_90x70.png": encode(alpha, optimize=True),
        "palette_90x70.png": encode(small.quantize(37), optimize=True, transparency=3),
        "bits_90x70.png": encode(small.convert("1"), optimize=True),
        "gray16_23x15.png": png16(ramp % 700, 0),
        "rgb16_23x15.png": png16(color[..., :3], 2),
        "gray_alpha16_23x15.png": png16(color[..., :2], 4),
        "rgba16_23x15.png": png16(color, 6),
        "photo_300x225.jpg": encode(drawing(300, 225, 6), "jpeg", quality=80, subsampling="4:2:0"),
        "turned_100x75.jpg": encode(drawing(100, 75, 7), "jpeg", quality=90, subsampling="4:4:4", exif=exif),
        "progressive_gray_100x75.jpg": encode(drawing(100, 75, 9).convert("L"), "jpeg", quality=85, progressive=True),
    }


# input, shorter side, crop (height, width)
CASES = [
    ("drawing_317x241.png", 256, (224, 224)),
    ("drawing_317x241.png", 100, (61, 88)),
    ("drawing_317x241.png", 240, (40, 33)),
    ("drawing_64x900.png", 40, (120, 40)),
    ("drawing_64x900.png", 256, (64, 64)),
    ("drawing_64x900.png", 17, (32, 32)),
    ("noise_61x83.png", 61, (36, 36)),
    ("noise_61x83.png", 60, (55, 56)),
    ("noise_61x83.png", 48, (42, 42)),
    ("noise_61x83.png", 7, (9, 5)),
    ("noise_61x83.png", 90, (32, 33)),
    ("noise_32x32.png", 32, (32, 32)),
    ("noise_32x32.png", 256, (50, 51)),
    ("noise_200x3.png", 5, (7, 40)),
    ("noise_200x3.png", 2, (2, 140)),
    ("gray_90x70.png", 64, (56, 56)),
    ("gray_alpha_90x70.png", 70, (70, 90)),
    ("rgba_90x70.png", 70, (70, 90)),
    ("palette_90x70.png", 70, (70, 90)),
    ("bits_90x70.png", 70, (70, 90)),
    ("gray16_23x15.png", 15, (15, 23)),
    ("rgb16_23x15.png", 15, (15, 23)),
    ("gray_alpha16_23x15.png", 15, (15, 23)),
    ("rgba16_23x15.png", 15, (15, 23)),
    ("photo_300x225.jpg", 150, (97, 98)),
    ("turned_100x75.jpg", 75, (40, 90)),
    ("progressive_gray_100x75.jpg", 75, (40, 90)),
]


def main():
    # Before version 13, tall pictures were resized along the other axis first.
    assert int(pillow.split(".")[0]) >= 13, f"Pillow {pillow} is too old: version 13 or later is needed"
    OUT.mkdir(parents=True, exist_ok=True)
    for old in OUT.iterdir():
        old.unlink()
    files = inputs()
    for name, data in files.items():
        (OUT / name).write_bytes(data)
    cases = []
    for name, shorter, crop in CASES:
        image = Image.open(io.BytesIO(files[name])).convert("RGB")
        result = T.CenterCrop(crop)(T.Resize(shorter, interpolation=T.InterpolationMode.BILINEAR)(image))
        expected = f"{name.rsplit('.', 1)[0]}_resize{shorter}_crop{crop[0]}x{crop[1]}.expected.png"
        (OUT / expected).write_bytes(encode(result, optimize=True))
        cases.append({"input": name, "resize": shorter, "crop": crop, "expected": expected, "lossless": name.endswith(".png")})
    every = Image.fromarray(np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2))
    for name, (mean, std) in STATISTICS.items():
        table = T.Compose([T.ToTensor(), T.Normalize(mean, std)])(every)[:, 0]
        np.save(OUT / f"table_{name}.npy", table.numpy())
    versions = {"torch": torch.__version__.split("+")[0], "torchvision": torchvision.__version__.split("+")[0], "pillow": pillow}
    (OUT / "cases.json").write_text(json.dumps({"made_with": versions, "cases": cases}, indent=1) + "\n")
    print(f"{len(cases)} cases, {sum(f.stat().st_size for f in OUT.iterdir())} bytes")


if __name__ == "__main__":
    main()
