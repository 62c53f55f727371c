/* Prints the messages of errors that every binding has alike: messages MODEL DIRECTORY */
#include <stridewise.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *path_in(const char *directory, const char *name) {
    size_t size = strlen(directory) + strlen(name) + 2;
    char *path = malloc(size);
    if (path != NULL) {
        snprintf(path, size, "%s/%s", directory, name);
    }
    return path;
}

static int load(const char *what, const char *directory, const char *name, StridewiseStatus expected) {
    char *path = path_in(directory, name);
    StridewiseModel *model = NULL;
    StridewiseStatus status = stridewise_model_load(path, NULL, &model);
    printf("%s: %s\n", what, stridewise_last_error());
    free(path);
    return status != expected || model != NULL;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        return 2;
    }
    int wrong = 0;
    wrong |= load("missing file", argv[2], "missing.safetensors", STRIDEWISE_STATUS_IO);
    wrong |= load("corrupt model", argv[2], "corrupt.safetensors", STRIDEWISE_STATUS_FORMAT);
    wrong |= load("dtype of a weight", argv[2], "dtype.safetensors", STRIDEWISE_STATUS_DTYPE);
    wrong |= load("unsupported op", argv[2], "unsupported.onnx", STRIDEWISE_STATUS_UNSUPPORTED);

    StridewiseModel *model = NULL;
    StridewiseSession *session = NULL;
    wrong |= stridewise_model_load(argv[1], NULL, &model) != STRIDEWISE_STATUS_OK;
    wrong |= stridewise_session_new(model, NULL, &session) != STRIDEWISE_STATUS_OK;
    static float image[1 * 4 * 32 * 32], logits[10];
    StridewiseTensor input = {image, STRIDEWISE_DTYPE_F32, 4, {1, 4, 32, 32}}, output = {logits, STRIDEWISE_DTYPE_F32, 2, {1, 10}};
    wrong |= stridewise_session_run(session, &input, 1, &output, 1) != STRIDEWISE_STATUS_SHAPE;
    printf("shape of an input: %s\n", stridewise_last_error());
    input.dims[1] = 3;
    input.dtype = STRIDEWISE_DTYPE_F64;
    wrong |= stridewise_session_run(session, &input, 1, &output, 1) != STRIDEWISE_STATUS_DTYPE;
    printf("dtype of an input: %s\n", stridewise_last_error());
    input.dtype = STRIDEWISE_DTYPE_F32;
    output.data = image + 5;
    wrong |= stridewise_session_run(session, &input, 1, &output, 1) != STRIDEWISE_STATUS_INVALID_ARGUMENT;
    output.data = logits;
    wrong |= stridewise_session_run(session, &input, 1, &output, 1) != STRIDEWISE_STATUS_OK;
    stridewise_session_free(session);
    stridewise_model_free(model);
    return wrong;
}
