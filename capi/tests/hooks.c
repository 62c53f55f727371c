/* The corners of the C interface: hooks that break their word, cancelled and late runs, NULL everywhere, a packed network.
 *
 *     hooks MODEL DIRECTORY
 */
#include "checks.h"

#include <pthread.h>

struct call {
    StridewisePart part;
    void *task;
};

static void *second(void *given) {
    struct call *call = given;
    call->part(call->task, 1);
    return NULL;
}

/* Two threads: the calling one and one more. */
static void both(void *context, StridewisePart part, void *task) {
    *(int *)context += 1;
    struct call call = {part, task};
    pthread_t thread;
    if (pthread_create(&thread, NULL, second, &call) == 0) {
        part(task, 0);
        pthread_join(thread, NULL);
    }
}

/* Some parts twice, and some that there are not. */
static void sloppy(void *context, StridewisePart part, void *task) {
    (void)context;
    size_t calls[] = {1, 0, 1, 7, 0, (size_t)-1};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        part(task, calls[i]);
    }
}

static void forgetful(void *context, StridewisePart part, void *task) {
    (void)context;
    part(task, 0);
}

static int on_hooks(const StridewiseModel *model, void (*run)(void *, StridewisePart, void *), StridewiseStatus status) {
    int calls = 0;
    StridewiseExecutor executor = {&calls, 2, run};
    StridewisePool *pool = NULL;
    CHECK(stridewise_pool_from_executor(&executor, &pool) == OK && stridewise_pool_threads(pool) == 2);
    StridewiseSessionOptions options = {.struct_size = sizeof options};
    options.pool = pool;
    StridewiseSession *session = NULL;
    StridewiseStatus made = stridewise_session_new(model, &options, &session);
    stridewise_pool_free(pool);
    CHECK(made == OK || made == status);
    if (made == OK) {
        memset(logits, 0, sizeof logits);
        CHECK(stridewise_session_run(session, &input, 1, &output, 1) == status);
        CHECK(status != OK || memcmp(logits, expected, sizeof logits) == 0);
    }
    CHECK(run != both || calls > 0);
    stridewise_session_free(session);
    return 0;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        return 2;
    }
    fill_image();
    StridewiseModel *model = NULL;
    StridewiseSession *session = NULL;
    CHECK(stridewise_model_load(argv[1], NULL, &model) == OK && stridewise_session_new(model, NULL, &session) == OK);
    CHECK(stridewise_session_input_count(session) == 1 && stridewise_session_output_count(session) == 1);
    CHECK(stridewise_session_input_name(session, 0) != NULL && stridewise_session_input_name(session, 1) == NULL);
    CHECK(stridewise_session_run(session, &input, 1, &output, 1) == OK);
    memcpy(expected, logits, sizeof logits);

    CHECK(on_hooks(model, both, OK) == 0);
    CHECK(on_hooks(model, sloppy, OK) == 0);
    CHECK(on_hooks(model, forgetful, STRIDEWISE_STATUS_KERNEL) == 0);

    /* Cancelled, late, and well again. */
    StridewiseToken *token = NULL;
    CHECK(stridewise_token_new(&token) == OK && stridewise_session_set_token(session, token) == OK);
    stridewise_token_cancel(token);
    CHECK(stridewise_session_run(session, &input, 1, &output, 1) == STRIDEWISE_STATUS_CANCELLED);
    stridewise_token_reset(token);
    stridewise_token_free(token);
    for (uint64_t limit = 0; limit < 2; limit++) {
        CHECK(stridewise_session_set_time_limit(session, limit) == OK);
        CHECK(stridewise_session_run(session, &input, 1, &output, 1) == STRIDEWISE_STATUS_TIMED_OUT);
    }
    CHECK(stridewise_session_set_time_limit(session, STRIDEWISE_NO_TIME_LIMIT - 1) == OK);
    CHECK(stridewise_session_run(session, &input, 1, &output, 1) == OK);
    CHECK(stridewise_session_set_time_limit(session, 0) == OK);
    CHECK(stridewise_session_set_time_limit(session, STRIDEWISE_NO_TIME_LIMIT) == OK && stridewise_session_set_token(session, NULL) == OK);
    CHECK(stridewise_session_run(session, &input, 1, &output, 1) == OK && memcmp(logits, expected, sizeof logits) == 0);

    /* A packed network. */
    char path[4096];
    snprintf(path, sizeof path, "%s/packed.swp", argv[2]);
    CHECK(stridewise_model_save_packed(model, path) == OK);
    StridewiseModel *packed = NULL;
    StridewiseSession *mapped = NULL;
    CHECK(stridewise_model_load(path, NULL, &packed) == OK && stridewise_session_new(packed, NULL, &mapped) == OK);
    stridewise_model_free(packed);
    CHECK(stridewise_model_load(path, "resnet18", &packed) == STRIDEWISE_STATUS_ARCH && packed == NULL);
    CHECK(strstr(stridewise_last_error(), "resnet18") != NULL && strstr(stridewise_last_error(), "resnet20-cifar10") != NULL);
    CHECK(stridewise_model_load(path, "resnet20-cifar10", &packed) == OK);
    stridewise_model_free(packed);
    CHECK(stridewise_session_run(mapped, &input, 1, &output, 1) == OK && memcmp(logits, expected, sizeof logits) == 0);
    stridewise_session_free(mapped);

    /* bfloat16 is near, or the same where f32 is faster; bytes need scales, which this network has not. */
    StridewiseSessionOptions narrow = {.struct_size = sizeof narrow};
    narrow.precision = STRIDEWISE_PRECISION_BF16;
    CHECK(stridewise_session_new(model, &narrow, &mapped) == OK);
    CHECK(stridewise_session_run(mapped, &input, 1, &output, 1) == OK);
    for (size_t i = 0; i < 10; i++) {
        CHECK(logits[i] - expected[i] < 0.5f && expected[i] - logits[i] < 0.5f);
    }
    stridewise_session_free(mapped);
    narrow.precision = STRIDEWISE_PRECISION_INT8;
    CHECK(stridewise_session_new(model, &narrow, &mapped) == STRIDEWISE_STATUS_INVALID_ARGUMENT);
    CHECK(strstr(stridewise_last_error(), "stridewise quantize") != NULL);
    narrow.precision = 3;
    CHECK(stridewise_session_new(model, &narrow, &mapped) == STRIDEWISE_STATUS_INVALID_ARGUMENT);

    /* Things to read. */
    char *text = NULL;
    size_t memory = 0, weights = 0;
    CHECK(stridewise_session_explain(session, &text) == OK && strstr(text, "conv1") != NULL);
    stridewise_string_free(text);
    CHECK(stridewise_session_bytes(session, &memory, &weights) == OK && memory > 0 && weights > 0);
    CHECK(strlen(stridewise_version()) > 0);

    /* Nothing where something is needed. */
    StridewiseStatus invalid = STRIDEWISE_STATUS_INVALID_ARGUMENT;
    StridewisePool *pool = NULL;
    StridewiseExecutor none = {NULL, 2, NULL}, idle = {NULL, 0, both};
    StridewiseSessionOptions options = {.struct_size = sizeof options};
    StridewiseModel *nothing = model;
    CHECK(stridewise_model_load(NULL, NULL, &nothing) == invalid && nothing == NULL);
    CHECK(stridewise_model_load(argv[1], "resnet51", &nothing) == STRIDEWISE_STATUS_ARCH);
    CHECK(stridewise_model_load("\xff", NULL, &nothing) == invalid);
    CHECK(stridewise_model_load(argv[1], NULL, NULL) == invalid);
    CHECK(stridewise_session_new(NULL, NULL, &mapped) == invalid && strstr(stridewise_last_error(), "model") != NULL);
    CHECK(stridewise_pool_new(0, &pool) == invalid && pool == NULL);
    CHECK(stridewise_pool_from_executor(&none, &pool) == invalid && stridewise_pool_from_executor(&idle, &pool) == invalid);
    CHECK(stridewise_pool_pinned(NULL, 2, &pool) == invalid);
    CHECK(stridewise_session_run(NULL, &input, 1, &output, 1) == invalid);
    CHECK(stridewise_session_run(session, NULL, 1, &output, 1) == invalid);
    CHECK(stridewise_session_run(session, &input, 0, &output, 1) == STRIDEWISE_STATUS_SHAPE);
    CHECK(stridewise_session_run(session, &input, 100, &output, 1) == STRIDEWISE_STATUS_SHAPE);
    StridewiseTensor odd = input;
    odd.data = (char *)image + 1;
    CHECK(stridewise_session_run(session, &odd, 1, &output, 1) == invalid && strstr(stridewise_last_error(), "aligned") != NULL);
    odd = input;
    odd.rank = 7;
    CHECK(stridewise_session_run(session, &odd, 1, &output, 1) == STRIDEWISE_STATUS_TOO_LARGE);
    odd.data = NULL;
    CHECK(stridewise_session_run(session, &odd, 1, &output, 1) != OK);
    CHECK(stridewise_session_explain(session, NULL) == invalid && stridewise_session_input(session, 9, &odd) == invalid);
    /* The struct of the first header is shorter; what is behind it is not looked at. No other size is any. */
    options.struct_size = offsetof(StridewiseSessionOptions, shapes);
    options.shape_count = 7;
    CHECK(stridewise_session_new(model, &options, &mapped) == OK);
    stridewise_session_free(mapped);
    size_t sizes[] = {0, 8, options.struct_size - 4, options.struct_size + 8, sizeof options + 8, (size_t)-1};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        options.struct_size = sizes[i];
        CHECK(stridewise_session_new(model, &options, &mapped) == invalid && strstr(stridewise_last_error(), "struct_size") != NULL);
    }
    stridewise_model_free(NULL);
    stridewise_pool_free(NULL);
    stridewise_token_free(NULL);
    stridewise_token_cancel(NULL);
    stridewise_string_free(NULL);
    stridewise_session_free(NULL);
    stridewise_session_free(session);
    stridewise_model_free(model);
    puts("all is as it should be");
    return 0;
}
