"""Classifies a folder of pictures on every machine of a Ray cluster.

    ray_batch.py FOLDER OUTPUT [--model FILE] [--actors 2] [--threads 1] [--batch 16]

OUTPUT becomes a folder of Parquet files with a row for each picture: path, class, label, logits.

Each actor loads the network once and holds one session. A session's threads share one layer, a batch's pictures one run; both add up
less than perfectly, and actors do not, but each actor needs its own activations. So use as many actors as fit the memory, and give each
as many threads as are left: actors x threads = cores. Actors of one machine share the weights of a .swp file, which they map.

Ray runs a batch again on another actor when its worker dies; results do not depend on where a picture was classified.
"""

import argparse
import os

import numpy as np
import ray

import stridewise


class Classifier:
    """One session, for one actor."""

    def __init__(self, model, threads):
        self.model = stridewise.load(model) if model else stridewise.builtin()
        # Exact: an image has the same bits in any batch.
        self.session = self.model.session(threads=threads, numerics="exact")

    def __call__(self, batch):
        images = np.concatenate([self.model.decode_image(data, name=str(path)) for data, path in zip(batch["bytes"], batch["path"])])
        logits = self.session.run(images)
        best = logits.argmax(1)
        labels = self.model.labels
        return {
            "path": batch["path"],
            "class": best,
            "label": np.array([labels[i] if labels else f"class {i}" for i in best]),
            "logits": logits,
        }


def classify(folder, model=None, actors=2, threads=1, batch=16, worker=Classifier, arguments=()):
    """The dataset of results; nothing runs before it is read. `worker` is the class of the actors."""
    pictures = ray.data.read_binary_files(folder, include_paths=True, file_extensions=["png", "jpg", "jpeg"])
    return pictures.map_batches(
        worker,
        fn_constructor_args=(model, threads, *arguments),
        batch_size=batch,
        num_cpus=threads,
        compute=ray.data.ActorPoolStrategy(size=actors),
        # A worker that dies is replaced, and what it had not finished is done again.
        max_restarts=-1,
        max_task_retries=-1,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=os.path.abspath)
    parser.add_argument("output", type=os.path.abspath)
    parser.add_argument("--model", type=os.path.abspath)
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=16)
    arguments = parser.parse_args()
    ray.init(address=os.environ.get("RAY_ADDRESS"))
    classify(arguments.folder, arguments.model, arguments.actors, arguments.threads, arguments.batch).write_parquet(arguments.output)


if __name__ == "__main__":
    main()
