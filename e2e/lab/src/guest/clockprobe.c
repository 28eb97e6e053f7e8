/* clockprobe FILE: the guest's end of measurements from outside, over a page of memory shared with the host.
 *
 * Idle it looks at the page 50 times a second. While the host wants it, it spins: the host writes a number into `ask`,
 * the guest does what `verb` says, reads its clocks, and writes the number into `answer`. It is also the harness's hand
 * that sets a clock off before a test. The layout is that of truth.rs. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

enum { READ = 0, STEP = 1, FREQUENCY = 2, CLEAR = 3 };

struct page {
    volatile uint64_t wanted;              /* not 0: spin */
    volatile uint64_t ask, answer;         /* numbers of exchanges */
    volatile uint64_t verb;
    volatile int64_t argument;             /* STEP: nanoseconds */
    volatile int64_t realtime, raw;        /* CLOCK_REALTIME and CLOCK_MONOTONIC_RAW, nanoseconds */
    volatile int64_t error;                /* errno of the verb, or 0 */
    volatile int64_t frequency, tick, status; /* of adjtimex: 2^-16 ppm, microseconds, STA_ bits */
    volatile int64_t apart;                /* CLOCK_REALTIME minus CLOCK_MONOTONIC, nanoseconds */
};

static int64_t now(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* Adds to the clock in one piece, without the time it takes to ask and to set. */
static int step(int64_t by)
{
    struct timex t = {.modes = ADJ_SETOFFSET | ADJ_NANO};
    t.time.tv_sec = by / 1000000000LL;
    t.time.tv_usec = by % 1000000000LL;
    if (t.time.tv_usec < 0) {
        t.time.tv_sec -= 1;
        t.time.tv_usec += 1000000000LL;
    }
    return adjtimex(&t) < 0 ? errno : 0;
}

/* Back to a kernel that nobody has disciplined yet. */
static int clear(void)
{
    struct timex t = {.modes = ADJ_FREQUENCY | ADJ_TICK | ADJ_STATUS, .freq = 0, .tick = 10000, .status = STA_UNSYNC};
    return adjtimex(&t) < 0 ? errno : 0;
}

/* The two clocks cannot be read at once: of a few tries the one in between which least time passed. */
static int64_t apart(void)
{
    int64_t best = INT64_MAX, result = 0;
    for (int try = 0; try < 4; try++) {
        int64_t before = now(CLOCK_MONOTONIC), wall = now(CLOCK_REALTIME), after = now(CLOCK_MONOTONIC);
        if (after - before < best) {
            best = after - before;
            result = wall - (before + after) / 2;
        }
    }
    return result;
}

static void answer(struct page *p)
{
    uint64_t number = p->ask;
    p->error = p->verb == STEP ? step(p->argument) : p->verb == CLEAR ? clear() : 0;
    if (p->verb != READ) {
        struct timex t = {.modes = 0};
        adjtimex(&t);
        p->frequency = t.freq;
        p->tick = t.tick;
        p->status = t.status;
        p->apart = apart();
    }
    p->realtime = now(CLOCK_REALTIME);
    p->raw = now(CLOCK_MONOTONIC_RAW);
    __sync_synchronize();
    p->answer = number;
}

int main(int argc, char **argv)
{
    int fd = argc == 2 ? open(argv[1], O_RDWR) : -1;
    struct page *p = fd < 0 ? MAP_FAILED : mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) {
        perror("clockprobe");
        return 1;
    }
    printf("clockprobe: ready\n");
    fflush(stdout);
    struct timespec nap = {0, 20000000};
    for (;;) {
        /* A host that went away in the middle must not leave us spinning. */
        int64_t end = now(CLOCK_MONOTONIC) + 2000000000LL;
        while (p->wanted && now(CLOCK_MONOTONIC) < end)
            for (int spin = 0; spin < 2000; spin++)
                if (p->ask != p->answer)
                    answer(p);
        clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, NULL);
    }
}
