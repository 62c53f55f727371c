"""Writes the activations of every layer of a torchvision model, for `stridewise compare --taps`.

    python export_taps.py resnet50 --weights resnet50.safetensors --input x.npy -o taps.safetensors
    python export_taps.py resnet50 --seed 0 --save-weights resnet50.safetensors --input x.npy -o taps.safetensors

The layers have the names that torchvision.models.feature_extraction gives them: conv1, bn1, relu, layer1.0.conv1,
layer1.0.relu_1, layer1.0.add, avgpool, flatten, fc. Each tensor is the node's own output, copied before a later node
(an in-place ReLU) overwrites it. The metadata names the model, the weights, the dtype and the versions of torch and
torchvision. MODEL may also be resnetN-cifar10 or plainN-cifar10 of `cifar_net.py`, with projection shortcuts.

The input is floating point, already normalised: [N,3,H,W]. Without --weights the model is initialised from --seed.
The model runs in eval mode. Needs torch, torchvision, numpy and safetensors.
"""

import argparse
import os
import re
import warnings

import numpy as np
import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names


class Recorder(torch.fx.Interpreter):
    """Runs a graph node by node and copies what each of the nodes named in its output returns."""

    def __init__(self, extractor):
        super().__init__(extractor)
        output = next(node for node in extractor.graph.nodes if node.op == "output")
        self.names = {}
        for name, node in output.args[0].items():
            self.names.setdefault(node, name)
        self.taps = {}

    def run_node(self, node):
        value = super().run_node(node)
        if node in self.names and torch.is_tensor(value) and value.is_floating_point():
            self.taps[self.names[node]] = value.detach().clone(memory_format=torch.contiguous_format)
        return value


def record(model, x):
    """The output of every node of `model` in eval mode, by torchvision's node name, in the order of computation."""
    model.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # train and eval graphs differ in some models: both are named in full
        train, evaluation = get_graph_node_names(model)
        extractor = create_feature_extractor(model, train_return_nodes=train[1:], eval_return_nodes=evaluation[1:])
    recorder = Recorder(extractor.eval())
    with torch.no_grad():
        recorder.run(x)
    return recorder.taps


def build(name, classes):
    """The model with random weights (nothing is downloaded): torchvision's, or one of the CIFAR-10 nets."""
    cifar = re.fullmatch(r"(resnet|plain)(\d+)-cifar10", name)
    if cifar:
        from cifar_net import CifarNet

        return CifarNet(int(cifar[2]), "none" if cifar[1] == "plain" else "projection", classes or 10)
    if name not in torchvision.models.list_models(module=torchvision.models):
        known = f"a classification model of torchvision {torchvision.__version__}, resnetN-cifar10 or plainN-cifar10"
        raise SystemExit(f"{name}: unknown, expected {known}")
    options = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
    return torchvision.models.get_model(name, weights=None, num_classes=classes or 1000, **options)


def load_weights(model, path):
    """Copies the tensors of a safetensors file into the model; every name and shape has to match."""
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise SystemExit(f"{path}: {error}")
    expected = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    found = {k: v for k, v in found.items() if not k.endswith("num_batches_tracked")}
    wrong = [f"{k}: missing" for k in expected.keys() - found.keys()]
    wrong += [f"{k}: unexpected" for k in found.keys() - expected.keys()]
    for k in expected.keys() & found.keys():
        if expected[k].shape != found[k].shape:
            wrong.append(f"{k}: expected {list(expected[k].shape)}, found {list(found[k].shape)}")
    if wrong:
        raise SystemExit(f"{path} does not fit the model:\n  " + "\n  ".join(sorted(wrong)))
    model.load_state_dict(found, strict=False)


def load_input(path):
    try:
        x = np.load(path)
    except (OSError, ValueError) as error:
        raise SystemExit(f"{path}: {error}")
    if x.dtype not in (np.float32, np.float64) or x.ndim != 4:
        raise SystemExit(f"{path} is {x.dtype} {list(x.shape)}, expected float32 or float64 [N,3,H,W]")
    return torch.from_numpy(x)


def main():
    title, _, details = __doc__.partition("\n\n")
    p = argparse.ArgumentParser(description=title, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", metavar="MODEL", help="such as resnet50")
    p.add_argument("--weights", metavar="FILE.safetensors", help="by torchvision's names, in any floating-point type")
    p.add_argument("--seed", type=int, default=0, help="initial weights without --weights (default %(default)s)")
    p.add_argument("--save-weights", metavar="FILE.safetensors", help="also write the weights in use, as float32")
    p.add_argument("--classes", type=int, help="default 1000, or 10 for CIFAR-10")
    p.add_argument("--input", metavar="X.npy", required=True)
    p.add_argument("-o", "--output", metavar="TAPS.safetensors", required=True)
    help_dtype = "of the computation and the file (default %(default)s)"
    p.add_argument("--dtype", choices=("float32", "float64"), default="float32", help=help_dtype)
    a = p.parse_args()

    x = load_input(a.input)
    torch.manual_seed(a.seed)
    model = build(a.model, a.classes)
    if a.weights:
        load_weights(model, a.weights)
    if a.save_weights:
        state = model.state_dict()
        save_file({k: v.contiguous() for k, v in state.items() if not k.endswith("num_batches_tracked")}, a.save_weights)
    dtype = getattr(torch, a.dtype)
    taps = record(model.to(dtype), x.to(dtype))
    metadata = {
        "model": a.model,
        "weights": os.path.basename(a.weights) if a.weights else f"seed {a.seed}",
        "input": f"{os.path.basename(a.input)} {list(x.shape)}",
        "dtype": a.dtype,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }
    save_file(taps, f"{a.output}.part", metadata=metadata)
    os.replace(f"{a.output}.part", a.output)
    last = list(taps)[-1]
    print(f"{a.output}: {len(taps)} layers, {os.path.getsize(a.output)} bytes; {last} {list(taps[last].shape)}")


if __name__ == "__main__":
    main()
