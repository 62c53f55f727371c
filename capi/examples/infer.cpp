// What infer.c does, in C++17, and on threads of this program's own:
//
//     infer_cpp MODEL [THREADS]
#include <stridewise.hpp>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <thread>
#include <vector>

// A thread for each part but the calling one's: where a program's own thread pool or job system would stand.
class Threads : public stridewise::Executor {
public:
    explicit Threads(std::size_t count) : count_(count) {}
    std::size_t threads() const override { return count_; }
    void run(const stridewise::Parts &part) override {
        std::vector<std::thread> others;
        for (std::size_t index = 1; index < count_; ++index) {
            others.emplace_back([&part, index] { part(index); });
        }
        part(0);
        for (std::thread &other : others) {
            other.join();
        }
    }

private:
    std::size_t count_;
};

int main(int argc, char **argv) {
    if (argc < 2) {
        std::fprintf(stderr, "usage: %s MODEL [THREADS]\n", argv[0]);
        return EXIT_FAILURE;
    }
    try {
        Threads threads(argc > 2 ? std::stoul(argv[2]) : 1);
        stridewise::Pool pool(threads);
        stridewise::Session session(stridewise::Model(argv[1]), stridewise::Options().pool(pool));
        std::vector<float> image(stridewise::elements(session.input())), logits(stridewise::elements(session.output()));
        for (std::size_t i = 0; i < image.size(); ++i) {
            image[i] = static_cast<float>(i * 37 % 256) / 128.0f - 1.0f;
        }
        session.run(image.data(), logits.data());
        for (int rank = 0; rank < 3; ++rank) {
            auto best = std::max_element(logits.begin(), logits.end());
            std::printf("%s %zu: %.9g\n", session.output_name(0).c_str(), static_cast<std::size_t>(best - logits.begin()), *best);
            *best = -1e30f;
        }
    } catch (const std::exception &error) {
        std::fprintf(stderr, "%s\n", error.what());
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
