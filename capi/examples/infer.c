/* Runs a network on an input that this program makes up, and prints the largest outputs:
 *
 *     infer MODEL [THREADS]
 */
#include <stridewise.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static int failed(const char *call) {
    fprintf(stderr, "%s: %s\n", call, stridewise_last_error());
    return EXIT_FAILURE;
}

static size_t elements(const StridewiseTensor *tensor) {
    size_t product = 1;
    for (size_t axis = 0; axis < tensor->rank; axis++) {
        product *= tensor->dims[axis];
    }
    return product;
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: %s MODEL [THREADS]\n", argv[0]);
        return EXIT_FAILURE;
    }
    if (stridewise_abi_version() != STRIDEWISE_ABI_VERSION) {
        fprintf(stderr, "the library has ABI %" PRIu32 ", the header %d\n", stridewise_abi_version(), STRIDEWISE_ABI_VERSION);
        return EXIT_FAILURE;
    }

    StridewiseModel *model = NULL;
    if (stridewise_model_load(argv[1], NULL, &model) != STRIDEWISE_STATUS_OK) {
        return failed("stridewise_model_load");
    }
    StridewiseSessionOptions options = {.struct_size = sizeof options}; /* all else is 0: the defaults */
    options.threads = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;
    StridewiseSession *session = NULL;
    StridewiseStatus status = stridewise_session_new(model, &options, &session);
    stridewise_model_free(model); /* the session keeps what it needs of it */
    if (status != STRIDEWISE_STATUS_OK) {
        return failed("stridewise_session_new");
    }

    /* The caller owns both buffers; one run after the other allocates nothing. */
    StridewiseTensor input, output;
    if (stridewise_session_input(session, 0, &input) != STRIDEWISE_STATUS_OK ||
        stridewise_session_output(session, 0, &output) != STRIDEWISE_STATUS_OK) {
        stridewise_session_free(session);
        return failed("stridewise_session_input");
    }
    size_t pixels = elements(&input), classes = elements(&output);
    float *image = malloc(pixels * sizeof *image), *logits = malloc(classes * sizeof *logits);
    status = STRIDEWISE_STATUS_OK;
    if (image == NULL || logits == NULL) {
        fprintf(stderr, "no memory\n");
        status = STRIDEWISE_STATUS_INTERNAL;
    } else {
        for (size_t i = 0; i < pixels; i++) {
            image[i] = (float)(i * 37 % 256) / 128.0f - 1.0f;
        }
        input.data = image;
        output.data = logits;
        status = stridewise_session_run(session, &input, 1, &output, 1);
        if (status != STRIDEWISE_STATUS_OK) {
            failed("stridewise_session_run");
        }
        for (int rank = 0; rank < 3 && status == STRIDEWISE_STATUS_OK; rank++) {
            size_t best = 0;
            for (size_t i = 1; i < classes; i++) {
                best = logits[i] > logits[best] ? i : best;
            }
            printf("%s %zu: %.9g\n", stridewise_session_output_name(session, 0), best, logits[best]);
            logits[best] = -1e30f;
        }
    }
    free(image);
    free(logits);
    stridewise_session_free(session);
    return status == STRIDEWISE_STATUS_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
