#ifndef STRIDEWISE_H
#define STRIDEWISE_H

/* Written by cbindgen from capi/src: `STRIDEWISE_BLESS=1 cargo test -p stridewise-capi --test header` writes it anew. */

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>

// Goes up with every change that a program compiled with an older header would notice.
#define STRIDEWISE_ABI_VERSION 2

// The time limit of sessions that have none.
#define STRIDEWISE_NO_TIME_LIMIT UINT64_MAX

// Most dimensions of a tensor.
#define STRIDEWISE_MAX_RANK 6

// What became of a call.
typedef enum {
  // Done.
  STRIDEWISE_STATUS_OK = 0,
  // A file could not be opened, read, mapped or written.
  STRIDEWISE_STATUS_IO = 1,
  // A file is not what its format demands.
  STRIDEWISE_STATUS_FORMAT = 2,
  // Weights that an architecture needs are missing, unexpected, of another shape, or not finite.
  STRIDEWISE_STATUS_WEIGHTS = 3,
  // The architecture is unknown, or not that of the file.
  STRIDEWISE_STATUS_ARCH = 4,
  // A tensor or buffer has another shape than the one that is needed.
  STRIDEWISE_STATUS_SHAPE = 5,
  // A tensor has another element type than the one that is needed.
  STRIDEWISE_STATUS_DTYPE = 6,
  // A size is over a limit; nothing was allocated.
  STRIDEWISE_STATUS_TOO_LARGE = 7,
  // An argument means nothing, is NULL where it must not be, or is no UTF-8.
  STRIDEWISE_STATUS_INVALID_ARGUMENT = 8,
  // A graph is malformed.
  STRIDEWISE_STATUS_GRAPH = 9,
  // A kernel refused, an executor broke its word, or an instruction set is not available.
  STRIDEWISE_STATUS_KERNEL = 10,
  // The run was cancelled.
  STRIDEWISE_STATUS_CANCELLED = 11,
  // The run took longer than its limit.
  STRIDEWISE_STATUS_TIMED_OUT = 12,
  // A pool from before a fork was used behind it.
  STRIDEWISE_STATUS_FORKED = 13,
  // A defect of this library: please report it.
  STRIDEWISE_STATUS_INTERNAL = 14,
  // A network has ops that this library does not run; the message lists all of them.
  STRIDEWISE_STATUS_UNSUPPORTED = 15,
} StridewiseStatus;

// Element types of buffers. Networks compute with f32, and take and give nothing else.
typedef enum {
  // 32-bit floating point.
  STRIDEWISE_DTYPE_F32 = 0,
  // 64-bit floating point.
  STRIDEWISE_DTYPE_F64 = 1,
  // Bytes.
  STRIDEWISE_DTYPE_U8 = 2,
  // 64-bit whole numbers.
  STRIDEWISE_DTYPE_I64 = 3,
} StridewiseDtype;

// How convolutions may sum.
typedef enum {
  // Winograd where it is faster.
  STRIDEWISE_NUMERICS_FAST = 0,
  // Direct summation only.
  STRIDEWISE_NUMERICS_EXACT = 1,
} StridewiseNumerics;

// What activations and weights are rounded to while a network runs. Inputs and outputs are f32 all the same.
typedef enum {
  // Nothing is rounded further.
  STRIDEWISE_PRECISION_F32 = 0,
  // bfloat16, with sums in f32.
  STRIDEWISE_PRECISION_BF16 = 1,
  // Bytes, with exact sums; for networks that `stridewise quantize` wrote.
  STRIDEWISE_PRECISION_INT8 = 2,
} StridewisePrecision;

// A network with its weights. Any number of sessions, on any threads, share it and its packed weights.
typedef struct StridewiseModel StridewiseModel;

// Threads that sessions run on. The thread that runs a session takes part.
typedef struct StridewisePool StridewisePool;

// A running network: its plan, its memory, its threads. One thread at a time may use it, any thread.
typedef struct StridewiseSession StridewiseSession;

// Cancels runs from another thread.
typedef struct StridewiseToken StridewiseToken;

// A dense row-major tensor in the caller's memory.
typedef struct {
  // The elements; any alignment that the element type allows, and NULL if there are none.
  void *data;
  // Their type, one of `StridewiseDtype`.
  uint32_t dtype;
  // Number of dimensions.
  size_t rank;
  // The dimensions, outermost first: `[N, C, H, W]` for images.
  size_t dims[STRIDEWISE_MAX_RANK];
} StridewiseTensor;

// What is done to a picture before it is the input of a network: its shorter side is resized to `resize` pixels, `crop_height` times
// `crop_width` are cut out of the middle, and each byte `x` of red, green and blue becomes `(x / 255 - mean) / std`.
typedef struct {
  // Pixels of the shorter side after resizing, which is bilinear and antialiased.
  size_t resize;
  // H of the input.
  size_t crop_height;
  // W of the input.
  size_t crop_width;
  // Subtracted from red, green and blue between 0 and 1.
  float mean[3];
  // What they are divided by after that.
  float std[3];
} StridewisePreprocessing;

// The shape of one input of a network.
typedef struct {
  // The input's name.
  const char *name;
  // Number of dimensions.
  size_t rank;
  // The dimensions, outermost first.
  size_t dims[STRIDEWISE_MAX_RANK];
} StridewiseInputShape;

// How a network is read. `{.struct_size = sizeof(StridewiseLoadOptions)}` are the defaults, and sizes are as with
// `StridewiseSessionOptions`.
typedef struct {
  // `sizeof(StridewiseLoadOptions)`, which tells the library what the program was compiled with.
  size_t struct_size;
  // The name of the architecture of a safetensors file, such as `resnet50`; NULL for the one that the file names or that its tensors
  // tell. A packed network must be of this one; an ONNX file has none.
  const char *arch;
  // Shapes of inputs by name, of an ONNX file that does not fit batch 1, images of 224x224 and other dimensions of 1; `shape_count` of
  // them. Sessions may be made for other ones. Other files than of ONNX are refused with them.
  const StridewiseInputShape *shapes;
  // How many shapes there are.
  size_t shape_count;
  // Most bytes that constants of an ONNX file may take which are computed from constants, or of which a run needs a copy in f32; 0 for
  // 8 GiB.
  size_t max_memory;
} StridewiseLoadOptions;

// One part of a layer's work: the library's, for the caller's executor to call. It does not throw.
typedef void (*StridewisePart)(void *task, size_t index);

// The caller's threads.
typedef struct {
  // Given to `run` as it is.
  void *context;
  // In how many parts layers are cut: as many as there are threads.
  size_t threads;
  // Calls `part(task, i)` for each `i` below `threads`, each once and on any thread, and returns when all have returned. Sessions
  // that share the executor call it from several threads at once. It must not throw. A part left out makes the run an error; one
  // called twice changes nothing; one called after `run` has returned is undefined behaviour.
  void (*run)(void *context, StridewisePart part, void *task);
} StridewiseExecutor;

// What a session is made for. `{.struct_size = sizeof(StridewiseSessionOptions)}` are the defaults: in every other field, 0 and NULL mean
// the default. Programs compiled with an older header, whose struct is shorter, go on; another size than one that the struct has had
// is refused.
typedef struct {
  // `sizeof(StridewiseSessionOptions)`, which tells the library what the program was compiled with.
  size_t struct_size;
  // Threads of a pool of the session's own, the calling one included. 0 and 1: everything runs on the calling thread.
  size_t threads;
  // A pool instead; `threads` is then 0.
  const StridewisePool *pool;
  // The name of an instruction set, such as `avx2`; NULL for the best.
  const char *isa;
  // One of `StridewiseNumerics`.
  uint32_t numerics;
  // One of `StridewisePrecision`.
  uint32_t precision;
  // Most bytes of activations, scratch, packed weights and tables together; 0 for 8 GiB.
  size_t max_memory;
  // Images in a batch; 0 for 1.
  size_t batch;
  // H of the input; 0 for the size that the network was made for, and then `width` is 0 too.
  size_t height;
  // W of the input.
  size_t width;
  // Shapes of inputs by name, where batch, height and width do not say it all; `shape_count` of them. Those of inputs that are not
  // named follow from the network, batch, height and width.
  const StridewiseInputShape *shapes;
  // How many shapes there are.
  size_t shape_count;
  // A file of measured times that `stridewise tune` wrote, by which algorithms are chosen; NULL for the rules of shape. With it,
  // results are no longer the same for every number of threads and on every machine.
  const char *tuning;
} StridewiseSessionOptions;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The ABI version of the library that the program runs with. Compare it with `STRIDEWISE_ABI_VERSION`, that of the header that it
// was compiled with: they must be equal.
uint32_t stridewise_abi_version(void);

// The version of the library, such as `0.1.0`.
const char *stridewise_version(void);

// The name of the network's architecture, such as `resnet50`, until the model is freed; NULL where it has none that is known, as an ONNX
// file.
//
// # Safety
// `model` is NULL or a model.
const char *stridewise_model_arch(const StridewiseModel *model);

// Inputs of the network; 0 for NULL.
//
// # Safety
// `model` is NULL or a model.
size_t stridewise_model_input_count(const StridewiseModel *model);

// The name of an input, until the model is freed; NULL when there is none of this number.
//
// # Safety
// `model` is NULL or a model.
const char *stridewise_model_input_name(const StridewiseModel *model, size_t index);

// Describes the input of a number: type, rank and dimensions are written to `tensor`, and NULL for its data. Dimensions that are not
// fixed are 0: `stridewise_model_input_dim_name` tells which they are.
//
// # Safety
// `model` is a model; `tensor` may be written to.
StridewiseStatus stridewise_model_input(const StridewiseModel *model,
                                        size_t index,
                                        StridewiseTensor *tensor);

// The name of a dimension of an input that a session binds, until the model is freed: dimensions of one name are equal, but for those of
// the empty name. NULL for a dimension that is fixed, and when there is none of these numbers.
//
// # Safety
// `model` is NULL or a model.
const char *stridewise_model_input_dim_name(const StridewiseModel *model,
                                            size_t index,
                                            size_t axis);

// Outputs of the network; 0 for NULL.
//
// # Safety
// `model` is NULL or a model.
size_t stridewise_model_output_count(const StridewiseModel *model);

// The name of an output, until the model is freed; NULL when there is none of this number.
//
// # Safety
// `model` is NULL or a model.
const char *stridewise_model_output_name(const StridewiseModel *model, size_t index);

// The names of classes that the network has, where the number of its outputs tells them: 1,000 of ImageNet or 10 of CIFAR-10. Else, and
// for NULL, 0.
//
// # Safety
// `model` is NULL or a model.
size_t stridewise_model_label_count(const StridewiseModel *model);

// The name of a class, until the model is freed: that of the output of this index. NULL when it has none.
//
// # Safety
// `model` is NULL or a model.
const char *stridewise_model_label(const StridewiseModel *model, size_t index);

// The preprocessing of a network: `mean` and `std` of the metadata of its file, where it has them, and else those of ImageNet.
//
// # Safety
// `model` is a model; `out` may be written to.
StridewiseStatus stridewise_model_preprocessing(const StridewiseModel *model,
                                                StridewisePreprocessing *out);

// Reads a network from a file. `arch` names its architecture, such as `resnet50`; NULL for the one that the file names or that its
// tensors tell. What else a file may be than safetensors is known by its first bytes, and ONNX by its name: a packed network must be of
// the architecture that is named, and an ONNX file has none.
//
// # Safety
// `path` is a string that ends with a zero, `arch` likewise or NULL; `out` may be written to.
StridewiseStatus stridewise_model_load(const char *path,
                                       const char *arch,
                                       StridewiseModel **out);

// Reads a network from a file that more needs to be said about, such as an ONNX file that does not fit images of 224x224. `options` may
// be NULL for the defaults.
//
// # Safety
// `path` is a string that ends with a zero; `options` is NULL or points to options of the size that they say, whose pointers are valid;
// `out` may be written to.
StridewiseStatus stridewise_model_load_with(const char *path,
                                            const StridewiseLoadOptions *options,
                                            StridewiseModel **out);

// Reads a network from the `size` bytes of a safetensors or an ONNX file that are in memory; which of them, the bytes tell. What the model
// needs of them it copies: they may be freed at once. A packed network is refused, for it is mapped from its file; so is an ONNX network
// with tensors in other files. `options` may be NULL for the defaults. Messages name the file as `bytes in memory`.
//
// # Safety
// `data` points to `size` bytes that nobody writes to meanwhile; `options` is NULL or points to options of the size that they say, whose
// pointers are valid; `out` may be written to.
StridewiseStatus stridewise_model_load_bytes(const void *data,
                                             size_t size,
                                             const StridewiseLoadOptions *options,
                                             StridewiseModel **out);

// A network with random weights, initialised as PyTorch does, the same for a seed on every machine: for trying things out.
//
// # Safety
// `arch` is a string that ends with a zero; `out` may be written to.
StridewiseStatus stridewise_model_random(const char *arch,
                                         uint64_t seed,
                                         StridewiseModel **out);

// Writes the network with the weights that its sessions have packed so far, for `stridewise_model_load` to map: a `.swp` file.
//
// # Safety
// `model` is a model; `path` is a string that ends with a zero.
StridewiseStatus stridewise_model_save_packed(const StridewiseModel *model,
                                              const char *path);

// Frees a model. Sessions of it go on. NULL is let through.
//
// # Safety
// `model` is NULL or a model that is not used again.
void stridewise_model_free(StridewiseModel *model);

// Starts a pool of `threads` threads in all, the calling one included. They have ended when the pool and all its sessions are freed.
//
// # Safety
// `out` may be written to.
StridewiseStatus stridewise_pool_new(size_t threads,
                                     StridewisePool **out);

// Starts a pool with one thread for each of `count` cores, bound there; the calling thread makes one more and stays as it is.
//
// # Safety
// `cores` points to `count` numbers; `out` may be written to.
StridewiseStatus stridewise_pool_pinned(const size_t *cores,
                                        size_t count,
                                        StridewisePool **out);

// A pool of the caller's own threads.
//
// # Safety
// `executor` points to an executor whose `run` does as its description says, from any thread, until the pool and all its sessions
// are freed; `out` may be written to.
StridewiseStatus stridewise_pool_from_executor(const StridewiseExecutor *executor,
                                               StridewisePool **out);

// Threads of a pool in all; 0 for NULL.
//
// # Safety
// `pool` is NULL or a pool.
size_t stridewise_pool_threads(const StridewisePool *pool);

// Frees a pool. Sessions on it go on. NULL is let through.
//
// # Safety
// `pool` is NULL or a pool that is not used again.
void stridewise_pool_free(StridewisePool *pool);

// A token that is not cancelled.
//
// # Safety
// `out` may be written to.
StridewiseStatus stridewise_token_new(StridewiseToken **out);

// Ends the runs of every session that has the token before their next layer, and refuses new ones until it is reset. From any
// thread, and from a signal handler too.
//
// # Safety
// `token` is NULL or a token.
void stridewise_token_cancel(const StridewiseToken *token);

// Lets runs begin again.
//
// # Safety
// `token` is NULL or a token.
void stridewise_token_reset(const StridewiseToken *token);

// Frees a token. Sessions that have it go on. NULL is let through.
//
// # Safety
// `token` is NULL or a token that is not used again.
void stridewise_token_free(StridewiseToken *token);

// Plans, packs and allocates: everything that a run needs. `options` may be NULL for the defaults.
//
// # Safety
// `model` is a model; `options` is NULL or points to options of the size that they say, whose pointers are valid; `out` may be written to.
StridewiseStatus stridewise_session_new(const StridewiseModel *model,
                                        const StridewiseSessionOptions *options,
                                        StridewiseSession **out);

// Frees a session. NULL is let through.
//
// # Safety
// `session` is NULL or a session that is not used again.
void stridewise_session_free(StridewiseSession *session);

// Inputs of the network; 0 for NULL.
//
// # Safety
// `session` is NULL or a session.
size_t stridewise_session_input_count(const StridewiseSession *session);

// Outputs of the network; 0 for NULL.
//
// # Safety
// `session` is NULL or a session.
size_t stridewise_session_output_count(const StridewiseSession *session);

// The name of an input, until the session is freed; NULL when there is none of this number.
//
// # Safety
// `session` is NULL or a session.
const char *stridewise_session_input_name(const StridewiseSession *session, size_t index);

// The name of an output, until the session is freed; NULL when there is none of this number.
//
// # Safety
// `session` is NULL or a session.
const char *stridewise_session_output_name(const StridewiseSession *session, size_t index);

// Describes the input of a number: type, rank and dimensions are written to `tensor`, and NULL for its data.
//
// # Safety
// `session` is a session; `tensor` may be written to.
StridewiseStatus stridewise_session_input(const StridewiseSession *session, size_t index, StridewiseTensor *tensor);

// Describes the output of a number, as `stridewise_session_input` does.
//
// # Safety
// `session` is a session; `tensor` may be written to.
StridewiseStatus stridewise_session_output(const StridewiseSession *session, size_t index, StridewiseTensor *tensor);

// Runs the network. Inputs and outputs stand in the network's order, and have the shapes that are planned; the outputs are written, and
// overlap no other tensor. Allocates nothing. At most 16 of each.
//
// # Safety
// `session` is a session that no other thread uses meanwhile; `inputs` and `outputs` point to so many tensors, whose data is as long
// as their dimensions say; nobody else uses that of the outputs, or writes to that of the inputs.
StridewiseStatus stridewise_session_run(StridewiseSession *session,
                                        const StridewiseTensor *inputs,
                                        size_t input_count,
                                        const StridewiseTensor *outputs,
                                        size_t output_count);

// The token that cancels a session's runs, looked at before each layer; NULL for none.
//
// # Safety
// `session` is a session that no other thread uses meanwhile; `token` is NULL or a token.
StridewiseStatus stridewise_session_set_token(StridewiseSession *session, const StridewiseToken *token);

// Most nanoseconds that a run may take, looked at before each layer; `STRIDEWISE_NO_TIME_LIMIT` for no limit, as at first. With 0, which
// is what is left when a deadline has passed, every run times out before its first layer.
//
// # Safety
// `session` is a session that no other thread uses meanwhile.
StridewiseStatus stridewise_session_set_time_limit(StridewiseSession *session,
                                                   uint64_t nanoseconds);

// The plan as a table for people, to be freed by `stridewise_string_free`.
//
// # Safety
// `session` is a session; `out` may be written to.
StridewiseStatus stridewise_session_explain(const StridewiseSession *session, char **out);

// Bytes that a session holds: `memory` its activations and scratch, `weights` the packed weights that it shares with other sessions of
// its model. Either may be NULL.
//
// # Safety
// `session` is a session; the others are NULL or may be written to.
StridewiseStatus stridewise_session_bytes(const StridewiseSession *session,
                                          size_t *memory,
                                          size_t *weights);

// What was wrong in the last call of this thread that failed: file, tensor, node or argument, what was expected and what was found.
// Empty before the first. The text stays until the next call of this thread that fails.
const char *stridewise_last_error(void);

// Frees a text that a function of this library gave away. NULL is let through.
//
// # Safety
// `text` is NULL or such a text, and is not used again.
void stridewise_string_free(char *text);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* STRIDEWISE_H */
