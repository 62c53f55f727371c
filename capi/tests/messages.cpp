// What messages.c does, through the C++ header: messages_cpp MODEL DIRECTORY
#include <stridewise.hpp>

#include <cstdio>
#include <string>
#include <vector>

template <class Call> int fails(const char *what, StridewiseStatus expected, Call call) {
    try {
        call();
    } catch (const stridewise::Error &error) {
        std::printf("%s: %s\n", what, error.what());
        return error.status() != expected;
    }
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        return 2;
    }
    const std::string directory = std::string(argv[2]) + "/";
    const auto load = [&](const char *name) { stridewise::Model model(directory + name); };
    int wrong = 0;
    wrong |= fails("missing file", STRIDEWISE_STATUS_IO, [&] { load("missing.safetensors"); });
    wrong |= fails("corrupt model", STRIDEWISE_STATUS_FORMAT, [&] { load("corrupt.safetensors"); });
    wrong |= fails("dtype of a weight", STRIDEWISE_STATUS_DTYPE, [&] { load("dtype.safetensors"); });
    wrong |= fails("unsupported op", STRIDEWISE_STATUS_UNSUPPORTED, [&] { load("unsupported.onnx"); });
    stridewise::Session session{stridewise::Model(argv[1])};
    std::vector<float> image(4 * 32 * 32), logits(10);
    StridewiseTensor input = stridewise::tensor(image.data(), {1, 4, 32, 32}), output = stridewise::tensor(logits.data(), {1, 10});
    wrong |= fails("shape of an input", STRIDEWISE_STATUS_SHAPE, [&] { session.run({input}, {output}); });
    input.dims[1] = 3;
    input.dtype = STRIDEWISE_DTYPE_F64;
    wrong |= fails("dtype of an input", STRIDEWISE_STATUS_DTYPE, [&] { session.run({input}, {output}); });
    session.run(image.data(), logits.data());
    return wrong;
}
