"""Says what is on each picture of a folder.

    classify_folder.py FOLDER [--model resnet50.safetensors] [--threads 2]

Without --model, the CIFAR-10 network of the package. Pictures are decoded by one thread while another runs the network.
"""

import argparse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

import stridewise


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    model = stridewise.load(arguments.model) if arguments.model else stridewise.builtin()
    session = model.session(threads=arguments.threads)
    paths = sorted(p for p in arguments.folder.rglob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png"})

    def decode(path):
        try:
            return model.load_image(path)
        except stridewise.Error as error:
            return error

    failed = 0
    with ThreadPoolExecutor(1) as pool, tqdm(total=len(paths), unit="picture") as bar:
        for path, image in zip(paths, pool.map(decode, paths)):
            if isinstance(image, stridewise.Error):
                bar.write(str(image))
                failed += 1
            else:
                logits = session.run(image)[0].astype(np.float64)
                probabilities = np.exp(logits - logits.max())
                probabilities /= probabilities.sum()
                best = int(probabilities.argmax())
                label = model.labels[best] if model.labels else f"class {best}"
                bar.write(f"{path}: {label} ({probabilities[best]:.1%})")
            bar.update()
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
