// Stridewise for C++17: handles that free themselves, and exceptions with the library's messages.
//
//     stridewise::Model model("resnet50.safetensors");
//     stridewise::Session session(model, stridewise::Options().threads(2));
//     session.run(image.data(), logits.data());   // the shapes are session.input(0) and session.output(0)
//
// Link with libstridewise; everything else is in this header.
#ifndef STRIDEWISE_HPP
#define STRIDEWISE_HPP

#include "stridewise.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <initializer_list>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace stridewise {

// What a call of the library failed with: its message, and its status.
class Error : public std::runtime_error {
public:
    Error(StridewiseStatus status, const char *message) : std::runtime_error(message), status_(status) {}
    StridewiseStatus status() const noexcept { return status_; }

private:
    StridewiseStatus status_;
};

namespace detail {

inline void check(StridewiseStatus status) {
    if (status != STRIDEWISE_STATUS_OK) {
        throw Error(status, stridewise_last_error());
    }
}

template <class T, void (*Free)(T *)> struct Freed {
    void operator()(T *handle) const noexcept { Free(handle); }
};

template <class T, void (*Free)(T *)> using Handle = std::unique_ptr<T, Freed<T, Free>>;

template <std::size_t Rank> void copy_dims(std::size_t (&to)[Rank], std::size_t &rank, std::initializer_list<std::size_t> dims) {
    if (dims.size() > Rank) {
        throw std::invalid_argument("stridewise: a tensor has at most " + std::to_string(Rank) + " dimensions");
    }
    rank = 0;
    for (std::size_t dim : dims) {
        to[rank++] = dim;
    }
}

// Shapes by name. Copies share the names, which therefore stay where they are.
class Shapes {
public:
    void add(std::string name, std::initializer_list<std::size_t> dims) {
        names_.push_back(std::make_shared<const std::string>(std::move(name)));
        StridewiseInputShape shape{};
        shape.name = names_.back()->c_str();
        copy_dims(shape.dims, shape.rank, dims);
        shapes_.push_back(shape);
    }
    const StridewiseInputShape *data() const noexcept { return shapes_.data(); }
    std::size_t size() const noexcept { return shapes_.size(); }

private:
    std::vector<std::shared_ptr<const std::string>> names_;
    std::vector<StridewiseInputShape> shapes_;
};

} // namespace detail

// Throws when the library that the program runs with has another ABI than the header that it was compiled with.
inline void check_abi() {
    if (stridewise_abi_version() != STRIDEWISE_ABI_VERSION) {
        throw std::runtime_error("stridewise: ABI " + std::to_string(STRIDEWISE_ABI_VERSION) + " in the header, " +
                                 std::to_string(stridewise_abi_version()) + " in the library");
    }
}

// How a network is read.
class LoadOptions {
public:
    LoadOptions() { options_.struct_size = sizeof options_; }
    // The architecture of a safetensors file, or the one that a packed network must be of; empty for the one that the file tells.
    LoadOptions &arch(std::string name) {
        arch_ = std::move(name);
        return *this;
    }
    // The shape of an input of an ONNX file that does not fit batch 1, images of 224x224 and other dimensions of 1.
    LoadOptions &shape(std::string input, std::initializer_list<std::size_t> dims) {
        shapes_.add(std::move(input), dims);
        return *this;
    }
    // Most bytes of constants that are computed from constants, or of which a run needs a copy in f32.
    LoadOptions &max_memory(std::size_t bytes) {
        options_.max_memory = bytes;
        return *this;
    }

    // What they are in C, for as long as these options are there and not changed.
    StridewiseLoadOptions get() const {
        StridewiseLoadOptions options = options_;
        options.arch = arch_.empty() ? nullptr : arch_.c_str();
        options.shapes = shapes_.data();
        options.shape_count = shapes_.size();
        return options;
    }

private:
    StridewiseLoadOptions options_{};
    std::string arch_;
    detail::Shapes shapes_;
};

// A network with its weights. Any number of sessions share it; it may be destroyed before them.
class Model {
public:
    // Reads a file; an empty architecture is the one that the file tells.
    explicit Model(const std::string &path, const std::string &arch = "") : Model(path, LoadOptions().arch(arch)) {}

    // Reads a file that more needs to be said about.
    Model(const std::string &path, const LoadOptions &options) {
        check_abi();
        const StridewiseLoadOptions given = options.get();
        StridewiseModel *handle = nullptr;
        detail::check(stridewise_model_load_with(path.c_str(), &given, &handle));
        handle_.reset(handle);
    }

    // Reads the bytes of a safetensors or an ONNX file, which may be freed at once.
    static Model from_bytes(const void *data, std::size_t size, const LoadOptions &options = LoadOptions()) {
        check_abi();
        const StridewiseLoadOptions given = options.get();
        StridewiseModel *handle = nullptr;
        detail::check(stridewise_model_load_bytes(data, size, &given, &handle));
        return Model(handle);
    }

    // Random weights, the same for a seed on every machine.
    static Model random(const std::string &arch, std::uint64_t seed) {
        check_abi();
        StridewiseModel *handle = nullptr;
        detail::check(stridewise_model_random(arch.c_str(), seed, &handle));
        return Model(handle);
    }

    // Writes the network with the weights that its sessions have packed so far, for the constructor to map.
    void save_packed(const std::string &path) const { detail::check(stridewise_model_save_packed(handle_.get(), path.c_str())); }

    // The name of the architecture; nothing where there is none that is known.
    std::optional<std::string> arch() const {
        const char *name = stridewise_model_arch(handle_.get());
        return name == nullptr ? std::nullopt : std::optional<std::string>(name);
    }

    std::size_t input_count() const noexcept { return stridewise_model_input_count(handle_.get()); }
    std::string input_name(std::size_t index) const {
        const char *name = stridewise_model_input_name(handle_.get(), index);
        if (name == nullptr) {
            throw std::out_of_range("stridewise: no input has this number");
        }
        return name;
    }
    // Type and dimensions of an input, without data; 0 for dimensions that a session binds.
    StridewiseTensor input(std::size_t index = 0) const {
        StridewiseTensor tensor{};
        detail::check(stridewise_model_input(handle_.get(), index, &tensor));
        return tensor;
    }
    // The name, which may be empty, of a dimension that a session binds; nothing for one that is fixed or not there.
    std::optional<std::string> input_dim_name(std::size_t index, std::size_t axis) const {
        const char *name = stridewise_model_input_dim_name(handle_.get(), index, axis);
        return name == nullptr ? std::nullopt : std::optional<std::string>(name);
    }

    std::size_t output_count() const noexcept { return stridewise_model_output_count(handle_.get()); }
    std::string output_name(std::size_t index) const {
        const char *name = stridewise_model_output_name(handle_.get(), index);
        if (name == nullptr) {
            throw std::out_of_range("stridewise: no output has this number");
        }
        return name;
    }

    // The names of the classes in the order of the outputs, where their number tells them.
    std::vector<std::string> labels() const {
        std::vector<std::string> labels(stridewise_model_label_count(handle_.get()));
        for (std::size_t index = 0; index < labels.size(); ++index) {
            labels[index] = stridewise_model_label(handle_.get(), index);
        }
        return labels;
    }

    // What is done to a picture before it is the input.
    StridewisePreprocessing preprocessing() const {
        StridewisePreprocessing preprocessing{};
        detail::check(stridewise_model_preprocessing(handle_.get(), &preprocessing));
        return preprocessing;
    }

    const StridewiseModel *get() const noexcept { return handle_.get(); }

private:
    explicit Model(StridewiseModel *handle) : handle_(handle) {}
    detail::Handle<StridewiseModel, stridewise_model_free> handle_;
};

// The caller's threads, as a class to derive from. It must live as long as the pool that is made of it and all its sessions.
class Executor {
public:
    virtual ~Executor() = default;
    // In how many parts layers are cut: as many as there are threads.
    virtual std::size_t threads() const = 0;
    // Calls `part(i)` for each i below `threads()`, each once and on any thread, and returns when all have returned.
    virtual void run(const class Parts &part) = 0;
};

// The parts of a layer.
class Parts {
public:
    Parts(StridewisePart part, void *task) : part_(part), task_(task) {}
    void operator()(std::size_t index) const { part_(task_, index); }

private:
    StridewisePart part_;
    void *task_;
};

// Threads that sessions share; they take turns.
class Pool {
public:
    // Threads of its own, the calling one included.
    explicit Pool(std::size_t threads) {
        StridewisePool *handle = nullptr;
        detail::check(stridewise_pool_new(threads, &handle));
        handle_.reset(handle);
    }

    // One thread of its own bound to each core, and the calling one.
    static Pool pinned(const std::vector<std::size_t> &cores) {
        StridewisePool *handle = nullptr;
        detail::check(stridewise_pool_pinned(cores.data(), cores.size(), &handle));
        return Pool(handle);
    }

    // The caller's threads. An exception that leaves `run` makes the run of the network an error.
    explicit Pool(Executor &executor) {
        StridewiseExecutor hooks{&executor, executor.threads(), [](void *context, StridewisePart part, void *task) {
                                     try {
                                         static_cast<Executor *>(context)->run(Parts(part, task));
                                     } catch (...) {
                                         // The library misses the parts that were not run, and says so.
                                     }
                                 }};
        StridewisePool *handle = nullptr;
        detail::check(stridewise_pool_from_executor(&hooks, &handle));
        handle_.reset(handle);
    }

    std::size_t threads() const noexcept { return stridewise_pool_threads(handle_.get()); }
    const StridewisePool *get() const noexcept { return handle_.get(); }

private:
    explicit Pool(StridewisePool *handle) : handle_(handle) {}
    detail::Handle<StridewisePool, stridewise_pool_free> handle_;
};

// Cancels runs from another thread.
class CancelToken {
public:
    CancelToken() {
        StridewiseToken *handle = nullptr;
        detail::check(stridewise_token_new(&handle));
        handle_.reset(handle);
    }
    void cancel() noexcept { stridewise_token_cancel(handle_.get()); }
    void reset() noexcept { stridewise_token_reset(handle_.get()); }
    const StridewiseToken *get() const noexcept { return handle_.get(); }

private:
    detail::Handle<StridewiseToken, stridewise_token_free> handle_;
};

// What a session is made for.
class Options {
public:
    Options() { options_.struct_size = sizeof options_; }
    Options &threads(std::size_t count) { return set(options_.threads, count); }
    // The pool must be there until the session is made, which then keeps it.
    Options &pool(const Pool &pool) {
        if (pool.get() == nullptr) {
            throw std::invalid_argument("the pool was moved from");
        }
        return set(options_.pool, pool.get());
    }
    Options &isa(std::string name) {
        isa_ = std::move(name);
        return *this;
    }
    Options &numerics(StridewiseNumerics numerics) { return set(options_.numerics, static_cast<std::uint32_t>(numerics)); }
    Options &precision(StridewisePrecision precision) { return set(options_.precision, static_cast<std::uint32_t>(precision)); }
    Options &max_memory(std::size_t bytes) { return set(options_.max_memory, bytes); }
    Options &batch(std::size_t images) { return set(options_.batch, images); }
    Options &size(std::size_t height, std::size_t width) {
        options_.height = height;
        return set(options_.width, width);
    }
    // The shape of an input, where batch and size do not say it.
    Options &shape(std::string input, std::initializer_list<std::size_t> dims) {
        shapes_.add(std::move(input), dims);
        return *this;
    }
    // A file of measured times by which algorithms are chosen.
    Options &tuning(std::string path) {
        tuning_ = std::move(path);
        return *this;
    }

    // What they are in C, for as long as these options are there and not changed.
    StridewiseSessionOptions get() const {
        StridewiseSessionOptions options = options_;
        options.isa = isa_.empty() ? nullptr : isa_.c_str();
        options.tuning = tuning_.empty() ? nullptr : tuning_.c_str();
        options.shapes = shapes_.data();
        options.shape_count = shapes_.size();
        return options;
    }

private:
    template <class T> Options &set(T &field, T value) {
        field = value;
        return *this;
    }
    StridewiseSessionOptions options_{};
    std::string isa_, tuning_;
    detail::Shapes shapes_;
};

// A dense row-major tensor of the caller's.
inline StridewiseTensor tensor(const float *data, std::initializer_list<std::size_t> dims) {
    StridewiseTensor tensor{};
    tensor.data = const_cast<float *>(data);
    tensor.dtype = STRIDEWISE_DTYPE_F32;
    detail::copy_dims(tensor.dims, tensor.rank, dims);
    return tensor;
}

inline std::size_t elements(const StridewiseTensor &tensor) {
    std::size_t product = 1;
    for (std::size_t axis = 0; axis < tensor.rank; ++axis) {
        product *= tensor.dims[axis];
    }
    return product;
}

// A planned network with its memory and threads: one caller's at a time.
class Session {
public:
    explicit Session(const Model &model, const Options &options = Options()) {
        const StridewiseSessionOptions given = options.get();
        StridewiseSession *handle = nullptr;
        detail::check(stridewise_session_new(model.get(), &given, &handle));
        handle_.reset(handle);
    }

    std::size_t input_count() const noexcept { return stridewise_session_input_count(handle_.get()); }
    std::size_t output_count() const noexcept { return stridewise_session_output_count(handle_.get()); }
    std::string input_name(std::size_t index) const { return name(stridewise_session_input_name(handle_.get(), index)); }
    std::string output_name(std::size_t index) const { return name(stridewise_session_output_name(handle_.get(), index)); }

    // Shape and type of an input, without data.
    StridewiseTensor input(std::size_t index = 0) const {
        StridewiseTensor tensor{};
        detail::check(stridewise_session_input(handle_.get(), index, &tensor));
        return tensor;
    }
    StridewiseTensor output(std::size_t index = 0) const {
        StridewiseTensor tensor{};
        detail::check(stridewise_session_output(handle_.get(), index, &tensor));
        return tensor;
    }

    // Runs a network of one input and one output, of the planned shapes. Allocates nothing.
    void run(const float *in, float *out) {
        StridewiseTensor from = input(), to = output();
        from.data = const_cast<float *>(in);
        to.data = out;
        detail::check(stridewise_session_run(handle_.get(), &from, 1, &to, 1));
    }

    // Runs a network of any number of inputs and outputs.
    void run(const std::vector<StridewiseTensor> &inputs, const std::vector<StridewiseTensor> &outputs) {
        detail::check(stridewise_session_run(handle_.get(), inputs.data(), inputs.size(), outputs.data(), outputs.size()));
    }

    void set_cancel_token(const CancelToken &token) { detail::check(stridewise_session_set_token(handle_.get(), token.get())); }
    void clear_cancel_token() { detail::check(stridewise_session_set_token(handle_.get(), nullptr)); }
    // The time that a run may take. Zero and less, which is what is left when a deadline has passed, end every run before its first layer.
    void set_time_limit(std::chrono::nanoseconds limit) {
        const std::int64_t left = limit.count();
        detail::check(stridewise_session_set_time_limit(handle_.get(), left > 0 ? static_cast<std::uint64_t>(left) : 0));
    }
    void clear_time_limit() { detail::check(stridewise_session_set_time_limit(handle_.get(), STRIDEWISE_NO_TIME_LIMIT)); }

    std::string explain() const {
        char *text = nullptr;
        detail::check(stridewise_session_explain(handle_.get(), &text));
        std::unique_ptr<char, void (*)(char *)> owned(text, stridewise_string_free);
        return std::string(text);
    }

private:
    static std::string name(const char *text) {
        if (text == nullptr) {
            throw std::out_of_range("stridewise: no input or output has this number");
        }
        return text;
    }
    detail::Handle<StridewiseSession, stridewise_session_free> handle_;
};

} // namespace stridewise

#endif // STRIDEWISE_HPP
