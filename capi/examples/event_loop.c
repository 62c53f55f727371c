/* A program whose main thread must never wait: an epoll loop that a timer wakes 30 times a second. Each tick hands the newest frame to
 * a thread that owns the session; its answer comes back through an eventfd. A frame that takes longer than its 33 ms is given up
 * between two layers, and a tick that finds the thread busy drops its frame.
 *
 *     event_loop MODEL [FRAMES]
 */
#define _GNU_SOURCE
#include <stridewise.h>

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { FRAME_NANOSECONDS = 33333333 };

/* What the loop and the worker share: whose turn it is says who may touch the buffers. */
struct worker {
    StridewiseSession *session;
    StridewiseTensor input, output;
    pthread_mutex_t mutex;
    pthread_cond_t work;
    bool busy, leave;
    int done; /* eventfd: written when an answer is there */
    StridewiseStatus status;
};

static void *work(void *given) {
    struct worker *w = given;
    pthread_mutex_lock(&w->mutex);
    for (;;) {
        while (!w->busy && !w->leave) {
            pthread_cond_wait(&w->work, &w->mutex);
        }
        if (w->leave) {
            break;
        }
        pthread_mutex_unlock(&w->mutex);
        StridewiseStatus status = stridewise_session_run(w->session, &w->input, 1, &w->output, 1);
        if (status != STRIDEWISE_STATUS_OK && status != STRIDEWISE_STATUS_TIMED_OUT) {
            fprintf(stderr, "%s\n", stridewise_last_error()); /* the message is this thread's */
        }
        pthread_mutex_lock(&w->mutex);
        w->status = status;
        w->busy = false;
        uint64_t one = 1;
        if (write(w->done, &one, sizeof one) != sizeof one) {
            abort();
        }
    }
    pthread_mutex_unlock(&w->mutex);
    return NULL;
}

static size_t elements(const StridewiseTensor *tensor) {
    size_t product = 1;
    for (size_t axis = 0; axis < tensor->rank; axis++) {
        product *= tensor->dims[axis];
    }
    return product;
}

static float *buffer(const StridewiseTensor *tensor) {
    return calloc(elements(tensor), sizeof(float));
}

static void watch(int epoll, int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (fd < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
        perror("epoll");
        exit(EXIT_FAILURE);
    }
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: %s MODEL [FRAMES]\n", argv[0]);
        return EXIT_FAILURE;
    }
    long frames = argc > 2 ? strtol(argv[2], NULL, 10) : 30;

    struct worker w = {.mutex = PTHREAD_MUTEX_INITIALIZER, .work = PTHREAD_COND_INITIALIZER};
    StridewiseModel *model = NULL;
    if (stridewise_model_load(argv[1], NULL, &model) != STRIDEWISE_STATUS_OK ||
        stridewise_session_new(model, NULL, &w.session) != STRIDEWISE_STATUS_OK ||
        stridewise_session_set_time_limit(w.session, FRAME_NANOSECONDS) != STRIDEWISE_STATUS_OK ||
        stridewise_session_input(w.session, 0, &w.input) != STRIDEWISE_STATUS_OK ||
        stridewise_session_output(w.session, 0, &w.output) != STRIDEWISE_STATUS_OK) {
        fprintf(stderr, "%s\n", stridewise_last_error());
        return EXIT_FAILURE;
    }
    stridewise_model_free(model);
    float *image = buffer(&w.input), *logits = buffer(&w.output);
    w.input.data = image;
    w.output.data = logits;
    w.done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), epoll = epoll_create1(EPOLL_CLOEXEC);
    struct itimerspec period = {{0, FRAME_NANOSECONDS}, {0, FRAME_NANOSECONDS}};
    watch(epoll, timer);
    watch(epoll, w.done);
    pthread_t thread;
    if (image == NULL || logits == NULL || timerfd_settime(timer, 0, &period, NULL) != 0 || pthread_create(&thread, NULL, work, &w) != 0) {
        perror("start");
        return EXIT_FAILURE;
    }

    long ticks = 0, answers = 0, late = 0, dropped = 0;
    bool waiting = false, failed = false;
    while (!failed && (ticks < frames || waiting)) {
        struct epoll_event event;
        if (epoll_wait(epoll, &event, 1, -1) != 1) {
            continue;
        }
        uint64_t count;
        if (read(event.data.fd, &count, sizeof count) != sizeof count) {
            continue;
        }
        if (event.data.fd == w.done) {
            waiting = false;
            failed = w.status != STRIDEWISE_STATUS_OK && w.status != STRIDEWISE_STATUS_TIMED_OUT;
            answers += w.status == STRIDEWISE_STATUS_OK;
            late += w.status == STRIDEWISE_STATUS_TIMED_OUT;
            continue;
        }
        ticks++;
        if (waiting || ticks > frames) {
            dropped += ticks <= frames;
            continue;
        }
        image[(size_t)ticks % elements(&w.input)] = 1.0f; /* where the camera's picture would be copied to */
        pthread_mutex_lock(&w.mutex);
        w.busy = waiting = true;
        pthread_cond_signal(&w.work);
        pthread_mutex_unlock(&w.mutex);
    }
    pthread_mutex_lock(&w.mutex);
    w.leave = true;
    pthread_cond_signal(&w.work);
    pthread_mutex_unlock(&w.mutex);
    pthread_join(thread, NULL);
    stridewise_session_free(w.session);
    free(image);
    free(logits);
    close(timer);
    close(w.done);
    close(epoll);
    printf("%ld frames: %ld answers, %ld late, %ld dropped\n", frames, answers, late, dropped);
    return failed || answers + late + dropped != frames ? EXIT_FAILURE : EXIT_SUCCESS;
}
