// A library that answers as NVML for two GPUs, one of them with MIG on and two instances: what tests have in place of
// a machine with MIG. Only the functions that `cotenant_gpu::nvml` calls are here.
//
//   cc -shared -fPIC -o libfake.so fake_nvml.c          everything
//   -DTHROTTLE=0x4c                                      throttle reasons in force on GPU 0
//   -DBARE                                               only what names a GPU: an old driver
//   -DREFUSING                                           all functions, and each says "not supported"
//   -DBROKEN                                             initialisation fails as without a driver
//   -DMIG_OFF                                            GPU 0 has MIG off, and so its counters tell of all of it
//   -DGPM_REFUSED                                        GPM is there and snapshots are not permitted
//
// GPM's counters are renewed every 100 ms, as on an H100, and every metric of GPU 0 reads its own number in percent but
// for DFMA (6), which this GPU lacks. Power now is 50 W, and the energy counter runs at 100 W.
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef int nvmlReturn_t;
typedef struct device *nvmlDevice_t;
enum { SUCCESS = 0, INVALID = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6, SMALL = 7, DRIVER_NOT_LOADED = 9 };

struct device {
    const char *name, *uuid;
    unsigned long long memory;
    int mig; // 0 off, 1 on, -1 not known to this GPU
    struct device *instances[7];
};

static struct device small = {"NVIDIA H100 80GB HBM3 MIG 1g.10gb", "MIG-11111111-aaaa-5bbb-8ccc-000000000001",
                              10ull << 30, -1, {0}};
static struct device large = {"NVIDIA H100 80GB HBM3 MIG 3g.40gb", "MIG-11111111-aaaa-5bbb-8ccc-000000000002",
                              40ull << 30, -1, {0}};
// Instances need not stand at the first indices.
#ifdef MIG_OFF
#define MIG 0
#else
#define MIG 1
#endif
static struct device gpus[2] = {
    {"NVIDIA H100 80GB HBM3", "GPU-00000000-0000-0000-0000-00000000000a", 80ull << 30, MIG, {0, &small, 0, &large}},
    {"NVIDIA L4", "GPU-00000000-0000-0000-0000-00000000000b", 24ull << 30, -1, {0}},
};

#ifndef THROTTLE
#define THROTTLE 0x1ull
#endif
#ifdef REFUSING
#define MAYBE return NOT_SUPPORTED;
#else
#define MAYBE
#endif

static nvmlReturn_t text(char *out, unsigned int size, const char *words) {
    if (strlen(words) >= size) return SMALL;
    strcpy(out, words);
    return SUCCESS;
}

nvmlReturn_t nvmlInit_v2(void) {
#ifdef BROKEN
    return DRIVER_NOT_LOADED;
#else
    return SUCCESS;
#endif
}
nvmlReturn_t nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(nvmlReturn_t r) { return r == DRIVER_NOT_LOADED ? "driver not loaded" : "an error"; }
nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *n) {
    *n = 2;
    return SUCCESS;
}
nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int i, nvmlDevice_t *d) {
    if (i >= 2) return INVALID;
    *d = &gpus[i];
    return SUCCESS;
}
nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t d, char *out, unsigned int size) { return text(out, size, d->name); }
nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t d, char *out, unsigned int size) { return text(out, size, d->uuid); }

#ifndef BARE
nvmlReturn_t nvmlSystemGetDriverVersion(char *out, unsigned int size) {
    MAYBE
    return text(out, size, "999.42.07");
}
nvmlReturn_t nvmlSystemGetProcessName(unsigned int pid, char *out, unsigned int size) {
    MAYBE
    if (pid != 4242) return NOT_FOUND;
    return text(out, size, "/usr/bin/neighbour");
}
// Clock types: 0 graphics, 1 SM, 2 memory.
nvmlReturn_t nvmlDeviceGetMaxClockInfo(nvmlDevice_t d, unsigned int type, unsigned int *mhz) {
    MAYBE
    *mhz = type == 1 ? 1980 : type == 2 ? 2619 : 7;
    return SUCCESS;
}
nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t d, unsigned int type, unsigned int *mhz) {
    MAYBE
    *mhz = type == 1 ? 1755 : type == 2 ? 2619 : 7;
    return SUCCESS;
}
nvmlReturn_t nvmlDeviceGetEnforcedPowerLimit(nvmlDevice_t d, unsigned int *mw) {
    MAYBE
    *mw = 700000;
    return SUCCESS;
}
nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t d, unsigned int *mw) {
    MAYBE
    *mw = 123456;
    return SUCCESS;
}
nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t d, unsigned int sensor, unsigned int *celsius) {
    MAYBE
    if (sensor != 0) return INVALID;
    *celsius = 41;
    return SUCCESS;
}
nvmlReturn_t nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t d, unsigned long long *reasons) {
    MAYBE
    *reasons = d == &gpus[0] ? THROTTLE : 0;
    return SUCCESS;
}
nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t d, unsigned int both[2]) {
    MAYBE
    both[0] = 77;
    both[1] = 33;
    return SUCCESS;
}
struct memory {
    unsigned int version;
    unsigned long long total, reserved, free, used;
};
nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t d, struct memory *m) {
    MAYBE
    m->total = d->memory;
    m->reserved = 0;
    m->used = 1ull << 30;
    m->free = m->total - m->used;
    return SUCCESS;
}
nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t d, unsigned int *current, unsigned int *pending) {
    MAYBE
    if (d->mig < 0) return NOT_SUPPORTED;
    *current = *pending = (unsigned int)d->mig;
    return SUCCESS;
}
nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t d, unsigned int *n) {
    MAYBE
    *n = d->mig == 1 ? 7 : 0;
    return SUCCESS;
}
nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t d, unsigned int i, nvmlDevice_t *out) {
    MAYBE
    if (i >= 7 || d->instances[i] == NULL) return NOT_FOUND;
    *out = d->instances[i];
    return SUCCESS;
}
nvmlReturn_t nvmlGpmQueryDeviceSupport(nvmlDevice_t d, unsigned int both[2]) {
    MAYBE
    both[1] = d == &gpus[0];
    return SUCCESS;
}
static unsigned long long now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000ull + t.tv_nsec / 1000000;
}
nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t d, unsigned long long *mj) {
    MAYBE
    *mj = 100 * now_ms();
    return SUCCESS;
}
struct field {
    unsigned int id, scope;
    long long timestamp, latency;
    unsigned int type; // 1: unsigned int
    nvmlReturn_t result;
    union {
        unsigned int u32;
        unsigned long long u64;
    } value;
};
nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t d, int n, struct field *fields) {
    MAYBE
    for (int i = 0; i < n; i++) {
        fields[i].type = 1;
        fields[i].value.u32 = 50000;
        fields[i].result = fields[i].id == 186 ? SUCCESS : NOT_SUPPORTED;
    }
    return SUCCESS;
}
struct sample {
    unsigned long long tick;
};
nvmlReturn_t nvmlGpmSampleAlloc(struct sample **s) {
    MAYBE
    *s = calloc(1, sizeof **s);
    return SUCCESS;
}
nvmlReturn_t nvmlGpmSampleFree(struct sample *s) {
    free(s);
    return SUCCESS;
}
nvmlReturn_t nvmlGpmSampleGet(nvmlDevice_t d, struct sample *s) {
    MAYBE
#ifdef GPM_REFUSED
    return NO_PERMISSION;
#endif
    s->tick = now_ms() / 100;
    return SUCCESS;
}
struct metrics {
    unsigned int version, n;
    struct sample *from, *to;
    struct {
        unsigned int id;
        nvmlReturn_t result;
        double value;
        char *names[3];
    } metrics[];
};
nvmlReturn_t nvmlGpmMetricsGet(struct metrics *m) {
    MAYBE
    double renewed = m->to->tick != m->from->tick;
    for (unsigned int i = 0; i < m->n; i++) {
        unsigned int id = m->metrics[i].id;
        // 10 is DRAM: a quotient, and so not a number where nothing was counted.
        m->metrics[i].value = id == 10 ? id * renewed / renewed : id * renewed;
        m->metrics[i].result = id == 6 ? NOT_SUPPORTED : SUCCESS;
    }
    return SUCCESS;
}
nvmlReturn_t nvmlDeviceGetComputeMode(nvmlDevice_t d, unsigned int *mode) {
    MAYBE
    *mode = 3;
    return SUCCESS;
}
nvmlReturn_t nvmlDeviceGetPersistenceMode(nvmlDevice_t d, unsigned int *mode) {
    MAYBE
    *mode = 1;
    return SUCCESS;
}
struct process {
    unsigned int pid;
    unsigned long long memory;
    unsigned int gpu_instance, compute_instance;
};
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t d, unsigned int *n, struct process *out) {
    MAYBE
    unsigned int room = *n;
    *n = d == &gpus[0] ? 1 : 0;
    if (*n > room) return SMALL;
    if (*n == 1 && out != NULL) {
        memset(out, 0, sizeof *out);
        out->pid = 4242;
        out->memory = 3ull << 20;
    }
    return SUCCESS;
}
#endif
