/* Checks of the C tests, and the image that they give the network in assets/. */
#ifndef STRIDEWISE_TESTS_CHECKS_H
#define STRIDEWISE_TESTS_CHECKS_H

#include <stridewise.h>

#include <stdio.h>
#include <string.h>

#define CHECK(condition)                                                                                                                   \
    do {                                                                                                                                   \
        if (!(condition)) {                                                                                                                \
            fprintf(stderr, "line %d: %s; last error: %s\n", __LINE__, #condition, stridewise_last_error());                               \
            return 1;                                                                                                                      \
        }                                                                                                                                  \
    } while (0)

#define OK STRIDEWISE_STATUS_OK

static float image[3 * 32 * 32], expected[10], logits[10];
static StridewiseTensor input = {image, STRIDEWISE_DTYPE_F32, 4, {1, 3, 32, 32}};
static StridewiseTensor output = {logits, STRIDEWISE_DTYPE_F32, 2, {1, 10}};

static void fill_image(void) {
    for (size_t i = 0; i < sizeof image / sizeof *image; i++) {
        image[i] = (float)(i % 17) / 8.0f - 1.0f;
    }
}

#endif
