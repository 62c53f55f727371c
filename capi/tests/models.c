/* Networks before and beside their sessions: from memory, for shapes of the caller's, with what they say of themselves.
 *
 *     models MODEL DIRECTORY
 *
 * MODEL is assets/resnet20_cifar10.safetensors; the directory has flattened.onnx and two_inputs.onnx of tests/golden/onnx, and tuning.txt.
 */
#include "checks.h"

#include <stdlib.h>

#define INVALID STRIDEWISE_STATUS_INVALID_ARGUMENT

static int says(const char *part) { return strstr(stridewise_last_error(), part) != NULL; }

/* A whole file, to be freed. */
static void *read_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    char *data = malloc(1 << 24);
    *size = file != NULL && data != NULL ? fread(data, 1, 1 << 24, file) : 0;
    if (file != NULL) {
        fclose(file);
    }
    return data;
}

static const char *in(const char *directory, const char *name) {
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static int from_memory(const StridewiseModel *model, const char *path) {
    StridewiseSession *session = NULL;
    CHECK(stridewise_session_new(model, NULL, &session) == OK);
    CHECK(stridewise_session_run(session, &input, 1, &output, 1) == OK);
    stridewise_session_free(session);
    memcpy(expected, logits, sizeof logits);

    size_t size;
    char *data = read_file(path, &size);
    StridewiseLoadOptions options = {.struct_size = sizeof options, .arch = "resnet20-cifar10"};
    StridewiseModel *loaded = NULL;
    CHECK(stridewise_model_load_bytes(data, size, &options, &loaded) == OK);
    memset(data, 255, size); /* it is the model's no more */
    CHECK(stridewise_session_new(loaded, NULL, &session) == OK);
    stridewise_model_free(loaded);
    CHECK(stridewise_session_run(session, &input, 1, &output, 1) == OK && memcmp(logits, expected, sizeof logits) == 0);
    stridewise_session_free(session);

    CHECK(stridewise_model_load_bytes(data, size, NULL, &loaded) == STRIDEWISE_STATUS_FORMAT && says("bytes in memory") && loaded == NULL);
    CHECK(stridewise_model_load_bytes("SWPACKED", 8, NULL, &loaded) == STRIDEWISE_STATUS_FORMAT && says("mapped from its file"));
    CHECK(stridewise_model_load_bytes(NULL, 8, NULL, &loaded) == INVALID && says("data"));
    CHECK(stridewise_model_load_bytes(NULL, 0, NULL, &loaded) == STRIDEWISE_STATUS_FORMAT);
    CHECK(stridewise_model_load_bytes(data, size, NULL, NULL) == INVALID && says("out"));
    free(data);
    return 0;
}

static int for_shapes(const char *directory) {
    StridewiseInputShape shape = {"image", 4, {1, 3, 4, 4}};
    StridewiseLoadOptions load = {.struct_size = sizeof load, .shapes = &shape, .shape_count = 1};
    StridewiseModel *model = NULL;
    const char *path = in(directory, "flattened.onnx");
    CHECK(stridewise_model_load(path, NULL, &model) != OK && model == NULL);
    CHECK(stridewise_model_load(path, "resnet18", &model) == STRIDEWISE_STATUS_ARCH && says("resnet18") && says("flattened.onnx"));
    CHECK(stridewise_model_load_with(path, &load, &model) == OK);
    CHECK(stridewise_model_input_count(model) == 1 && strcmp(stridewise_model_input_name(model, 0), "image") == 0);
    StridewiseTensor tensor;
    CHECK(stridewise_model_input(model, 0, &tensor) == OK && tensor.rank == 4 && tensor.dims[0] == 0 && tensor.dims[1] == 3);
    CHECK(tensor.data == NULL && tensor.dtype == STRIDEWISE_DTYPE_F32);
    CHECK(strcmp(stridewise_model_input_dim_name(model, 0, 3), "W") == 0 && stridewise_model_input_dim_name(model, 0, 1) == NULL);
    CHECK(stridewise_model_input_dim_name(model, 0, 4) == NULL && stridewise_model_input_dim_name(model, 1, 0) == NULL);
    CHECK(stridewise_model_input_name(model, 1) == NULL && stridewise_model_input(model, 1, &tensor) == INVALID);
    CHECK(stridewise_model_label_count(model) == 0 && stridewise_model_label(model, 0) == NULL);

    /* Another batch than it was loaded with. */
    StridewiseInputShape two = {"image", 4, {2, 3, 4, 4}};
    StridewiseSessionOptions options = {.struct_size = sizeof options, .shapes = &two, .shape_count = 1};
    StridewiseSession *session = NULL;
    CHECK(stridewise_session_new(model, &options, &session) == OK);
    static float images[2 * 48], features[4];
    for (size_t i = 0; i < 96; i++) {
        images[i] = i < 48 ? 0.0f : 1.0f;
    }
    StridewiseTensor from = {images, STRIDEWISE_DTYPE_F32, 4, {2, 3, 4, 4}}, to = {features, STRIDEWISE_DTYPE_F32, 2, {2, 2}};
    CHECK(stridewise_session_run(session, &from, 1, &to, 1) == OK && features[0] == 0.0f && features[2] == -0.75f && features[3] == -0.5f);
    stridewise_session_free(session);

    two.name = "picture";
    CHECK(stridewise_session_new(model, &options, &session) == INVALID && says("`picture`") && says("image"));
    two.name = NULL;
    CHECK(stridewise_session_new(model, &options, &session) == INVALID && says("shapes[0].name"));
    two.name = "image";
    two.rank = 7;
    CHECK(stridewise_session_new(model, &options, &session) == STRIDEWISE_STATUS_TOO_LARGE && says("`image`"));
    two.rank = 3;
    CHECK(stridewise_session_new(model, &options, &session) == STRIDEWISE_STATUS_SHAPE);
    StridewiseInputShape twice[2] = {shape, shape};
    options.shapes = twice;
    options.shape_count = 2;
    CHECK(stridewise_session_new(model, &options, &session) == INVALID && says("twice"));
    options.shapes = NULL;
    CHECK(stridewise_session_new(model, &options, &session) == INVALID && says("shapes"));
    stridewise_model_free(model);

    /* From memory likewise. */
    size_t size;
    char *data = read_file(path, &size);
    CHECK(stridewise_model_load_bytes(data, size, NULL, &model) != OK);
    CHECK(stridewise_model_load_bytes(data, size, &load, &model) == OK);
    stridewise_model_free(model);
    free(data);
    load.struct_size = 0;
    CHECK(stridewise_model_load_with(path, &load, &model) == INVALID && says("struct_size"));
    load.struct_size = sizeof load;
    load.max_memory = 1;
    CHECK(stridewise_model_load_with(path, &load, &model) == OK); /* it has no constants to compute */
    stridewise_model_free(model);

    CHECK(stridewise_model_load(in(directory, "two_inputs.onnx"), NULL, &model) == OK && stridewise_model_input_count(model) == 2);
    CHECK(strcmp(stridewise_model_input_name(model, 1), "b") == 0 && stridewise_model_arch(model) == NULL);
    CHECK(stridewise_model_output_count(model) == 2 && stridewise_model_output_name(model, 2) == NULL);
    CHECK(strcmp(stridewise_model_output_name(model, 0), "sum") == 0 && strcmp(stridewise_model_output_name(model, 1), "product") == 0);
    stridewise_model_free(model);
    return 0;
}

static int of_itself(const StridewiseModel *model, const char *path) {
    CHECK(strcmp(stridewise_model_arch(model), "resnet20-cifar10") == 0 && stridewise_model_arch(NULL) == NULL);
    CHECK(stridewise_model_output_count(model) == 1 && stridewise_model_output_name(model, 0) != NULL);
    CHECK(stridewise_model_output_count(NULL) == 0 && stridewise_model_output_name(NULL, 0) == NULL);
    CHECK(stridewise_model_label_count(model) == 10 && stridewise_model_label(model, 10) == NULL);
    CHECK(strcmp(stridewise_model_label(model, 0), "airplane") == 0 && strcmp(stridewise_model_label(model, 9), "truck") == 0);
    StridewisePreprocessing how;
    CHECK(stridewise_model_preprocessing(model, &how) == OK && how.resize == 32 && how.crop_height == 32 && how.crop_width == 32);
    CHECK(how.mean[0] == 0.4914f && how.mean[1] == 0.4822f && how.mean[2] == 0.4465f && how.std[0] == 0.247f);
    CHECK(stridewise_model_preprocessing(NULL, &how) == INVALID && stridewise_model_preprocessing(model, NULL) == INVALID);
    CHECK(stridewise_model_label_count(NULL) == 0 && stridewise_model_label(NULL, 0) == NULL && stridewise_model_input_count(NULL) == 0);
    CHECK(stridewise_model_input_name(NULL, 0) == NULL && stridewise_model_input_dim_name(NULL, 0, 0) == NULL);
    CHECK(stridewise_model_input(model, 0, NULL) == INVALID && stridewise_model_input(NULL, 0, &input) == INVALID);

    /* Only ONNX files are loaded for shapes. */
    StridewiseInputShape shape = {"input", 4, {1, 3, 32, 32}};
    StridewiseLoadOptions load = {.struct_size = sizeof load, .shapes = &shape, .shape_count = 1};
    StridewiseModel *other = NULL;
    CHECK(stridewise_model_load_with(path, &load, &other) == INVALID && says("shapes") && says("safetensors"));
    load.shape_count = 0;
    load.arch = "resnet18";
    CHECK(stridewise_model_load_with(path, &load, &other) == STRIDEWISE_STATUS_WEIGHTS && other == NULL);
    CHECK(stridewise_model_load_with(NULL, NULL, &other) == INVALID && stridewise_model_load_with(path, NULL, NULL) == INVALID);
    return 0;
}

static int tuned(const StridewiseModel *model, const char *directory) {
    StridewiseSessionOptions options = {.struct_size = sizeof options, .tuning = in(directory, "tuning.txt")};
    StridewiseSession *session = NULL;
    CHECK(stridewise_session_new(model, &options, &session) == OK);
    stridewise_session_free(session);
    options.tuning = in(directory, "corrupt.safetensors");
    CHECK(stridewise_session_new(model, &options, &session) == STRIDEWISE_STATUS_FORMAT && says("corrupt.safetensors"));
    options.tuning = in(directory, "missing.txt");
    CHECK(stridewise_session_new(model, &options, &session) == STRIDEWISE_STATUS_IO && says("missing.txt") && session == NULL);
    return 0;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        return 2;
    }
    fill_image();
    StridewiseModel *model = NULL;
    CHECK(stridewise_model_load(argv[1], NULL, &model) == OK);
    int wrong = from_memory(model, argv[1]) || for_shapes(argv[2]) || of_itself(model, argv[1]) || tuned(model, argv[2]);
    stridewise_model_free(model);
    if (!wrong) {
        puts("networks are what they say");
    }
    return wrong;
}
