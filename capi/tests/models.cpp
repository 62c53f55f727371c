// What models.c does, as far as the C++ header has it in words of its own: models_cpp MODEL DIRECTORY
#include <stridewise.hpp>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#define CHECK(condition)                                                                                                                   \
    do {                                                                                                                                   \
        if (!(condition)) {                                                                                                                \
            std::fprintf(stderr, "line %d: %s\n", __LINE__, #condition);                                                                   \
            std::exit(1);                                                                                                                  \
        }                                                                                                                                  \
    } while (0)

template <class Call> bool fails(StridewiseStatus expected, const char *part, Call call) {
    try {
        call();
    } catch (const stridewise::Error &error) {
        return error.status() == expected && std::strstr(error.what(), part) != nullptr;
    }
    return false;
}

static std::vector<char> read(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    return std::vector<char>(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

int main(int argc, char **argv) {
    if (argc != 3) {
        return 2;
    }
    const std::string path = argv[1], directory = std::string(argv[2]) + "/", flattened = directory + "flattened.onnx";
    stridewise::Model model(path);
    stridewise::Session session(model);
    std::vector<float> image(stridewise::elements(session.input()), 0.5f), logits(10), others(10);
    session.run(image.data(), logits.data());

    // From memory.
    std::vector<char> bytes = read(path);
    stridewise::Model loaded = stridewise::Model::from_bytes(bytes.data(), bytes.size(), stridewise::LoadOptions().arch("resnet20-cifar10"));
    bytes.clear();
    stridewise::Session(loaded).run(image.data(), others.data());
    CHECK(logits == others);
    CHECK(fails(STRIDEWISE_STATUS_FORMAT, "bytes in memory", [] { stridewise::Model::from_bytes("nothing", 7); }));

    // What it says of itself.
    CHECK(model.arch() == "resnet20-cifar10" && !stridewise::Model(directory + "two_inputs.onnx").arch());
    CHECK(model.output_count() == 1 && model.output_name(0) == session.output_name(0));
    CHECK(model.labels().size() == 10 && model.labels()[3] == "cat" && model.preprocessing().crop_width == 32);
    CHECK(model.input_count() == 1 && model.input(0).dims[1] == 3 && model.input_dim_name(0, 0) && !model.input_dim_name(0, 1));

    // Shapes of the caller's. Options may be copied, and made of temporaries.
    CHECK(fails(STRIDEWISE_STATUS_ARCH, "resnet18", [&] { stridewise::Model(flattened, "resnet18"); }));
    stridewise::LoadOptions load = stridewise::LoadOptions().shape(std::string("image"), {1, 3, 4, 4}).max_memory(1 << 20);
    stridewise::Model features(flattened, stridewise::LoadOptions(load));
    CHECK(features.input_name(0) == "image" && features.input_dim_name(0, 2) == "H" && features.labels().empty());
    stridewise::Options options = stridewise::Options().shape("image", {2, 3, 4, 4});
    CHECK(stridewise::Session(features, stridewise::Options(options)).output().dims[0] == 2);
    CHECK(fails(STRIDEWISE_STATUS_INVALID_ARGUMENT, "`picture`",
                [&] { stridewise::Session(features, stridewise::Options().shape("picture", {1, 3, 4, 4})); }));
    CHECK(fails(STRIDEWISE_STATUS_IO, "missing.txt", [&] { stridewise::Session(model, stridewise::Options().tuning(directory + "missing.txt")); }));
    stridewise::Session tuned(model, stridewise::Options().tuning(directory + "tuning.txt"));

    // A deadline that has passed.
    for (int left : {0, -1, 1}) {
        session.set_time_limit(std::chrono::nanoseconds(left));
        CHECK(fails(STRIDEWISE_STATUS_TIMED_OUT, "limit", [&] { session.run(image.data(), others.data()); }));
    }
    session.set_time_limit(std::chrono::nanoseconds::max());
    session.run(image.data(), others.data());
    session.set_time_limit(std::chrono::nanoseconds::min());
    session.clear_time_limit();
    session.run(image.data(), others.data());
    CHECK(logits == others);
    std::puts("networks are what they say");
    return 0;
}
