"""Many pictures on a local Ray cluster of two nodes: the results are those of one process, also when a worker is killed."""

import os
import random
import signal
import tempfile
from pathlib import Path

import numpy as np
import ray
from PIL import Image
from ray.cluster_utils import Cluster

import stridewise
from ray_batch import Classifier, classify

PICTURES = 240


class Mortal(Classifier):
    """A worker that is killed once, in the middle of a batch."""

    def __init__(self, model, threads, mark):
        super().__init__(model, threads)
        self.mark = mark
        self.batches = 0

    def __call__(self, batch):
        self.batches += 1
        if self.batches == 3:
            try:
                os.close(os.open(self.mark, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return super().__call__(batch)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(batch)


def make_pictures(folder):
    noise = random.Random(0)
    for index in range(PICTURES):
        pixels = np.array([[[noise.randrange(256) for _ in range(3)] for _ in range(8)] for _ in range(8)], np.uint8)
        Image.fromarray(pixels).resize((32 + index % 40, 32 + index % 23)).save(folder / f"{index:04}.png")


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "pictures")
        folder.mkdir()
        make_pictures(folder)
        model = stridewise.builtin()
        session = model.session(numerics="exact")
        expected = {str(path): session.run(model.load_image(path))[0] for path in folder.iterdir()}
        packed = Path(name, "model.swp")
        model.save_packed(packed)

        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        cluster.add_node(num_cpus=2)
        ray.init(address=cluster.address)
        mark = Path(name, "killed")
        try:
            for worker, arguments, file in [(Classifier, (), None), (Classifier, (), str(packed)), (Mortal, (str(mark),), None)]:
                rows = classify(str(folder), file, actors=2, threads=1, batch=8, worker=worker, arguments=arguments).take_all()
                assert len(rows) == PICTURES, f"{len(rows)} rows for {PICTURES} pictures"
                found = {row["path"]: row["logits"] for row in rows}
                assert found.keys() == expected.keys()
                assert all(np.array_equal(found[path], expected[path]) for path in expected)
                print(f"{worker.__name__}: {len(rows)} pictures as in one process")
            assert mark.exists(), "no worker was killed"
        finally:
            ray.shutdown()
            cluster.shutdown()


if __name__ == "__main__":
    main()
