// A library that answers as NVML for two GPUs, one of them with MIG on and two instances: what tests have in place of
// a machine with MIG. Only the functions that `cotenant_gpu::nvml` calls are here.
//
//   cc -shared -fPIC -o libfake.so fake_nvml.c          everything
//   -DTHROTTLE=0x4c                                      throttle reasons in force on GPU 0
//   -DBARE                                               only what names a GPU: an old driver
//   -DREFUSING                                           all functions, and each says "not supported"
//   -DBROKEN                                             initialisation fails as without a driver
#include <string.h>

typedef int nvmlReturn_t;
typedef struct device *nvmlDevice_t;
enum { SUCCESS = 0, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, SMALL = 7, DRIVER_NOT_LOADED = 9 };

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
static struct device gpus[2] = {
    {"NVIDIA H100 80GB HBM3", "GPU-00000000-0000-0000-0000-00000000000a", 80ull << 30, 1, {0, &small, 0, &large}},
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
    }
    return SUCCESS;
}
#endif
