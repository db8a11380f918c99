/* A stand-in for libnvidia-ml.so.1 with NVML's ABI, for tests of the telemetry on machines without a driver.
 *
 * Two GPUs with fixed readings and a MIG instance of the second. NVML's rules hold: nothing answers before
 * nvmlInitWithFlags, starts are counted, and a handle dies with the start that gave it out.
 * stub_fault() makes one function (or "device", every function that takes a handle) return an error from the
 * n-th call on; stub_calls() counts. Build with -DOLD_DRIVER to leave out the functions that drivers before 510 lack.
 */
#define _DEFAULT_SOURCE
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define MIB (1024ULL * 1024ULL)

enum {
    SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7,
    ARGUMENT_VERSION_MISMATCH = 25
};

typedef struct { unsigned long long total, free, used; } memory_v1;
typedef struct { unsigned int version; unsigned long long total, reserved, free, used; } memory_v2;
typedef struct { unsigned int gpu, memory; } utilization;
typedef struct { unsigned int version, sensor; int temperature; } temperature_v1;
typedef struct { unsigned int pid; unsigned long long used; unsigned int gpu_instance, compute_instance; } process_v2;
typedef struct {
    char bus_id_legacy[16];
    unsigned int domain, bus, device, pci_device_id, pci_subsystem_id;
    char bus_id[32];
} pci_info;

typedef struct {
    const char *name, *uuid, *bus_id;
    int mig;
    unsigned long long total, used, reserved; /* MiB */
    unsigned int gpu, memory, power_mw, limit_mw, celsius, sm_mhz, memory_mhz;
    unsigned int n_processes;
    process_v2 processes[3];
} gpu_t;

static gpu_t gpus[3] = {
    {"Tesla P4", "GPU-11111111-aaaa-bbbb-cccc-000000000000", "00000000:3B:00.0", 0, 7611, 7069, 78,
     97, 61, 72500, 75000, 61, 1113, 3003, 2, {{4242, 6900 * MIB, 0, 0}, {4243, ~0ULL, 0, 0}}},
    {"NVIDIA H200", "GPU-22222222-aaaa-bbbb-cccc-000000000000", "00000000:5E:00.0", 0, 143771, 4, 3,
     0, 0, 71000, 700000, 28, 345, 3201, 0, {{0}}},
    {"NVIDIA H200 MIG 1g.18gb", "MIG-33333333-aaaa-bbbb-cccc-000000000000", "", 1, 16384, 15, 0,
     0, 0, 0, 0, 0, 0, 0, 0, {{0}}},
};

/* a handle is the address of one of these: which GPU, and of which start */
typedef struct { int index, start; } handle_t;
static handle_t handles[64][3];
static int references, starts;

typedef struct { char function[64]; int code, from_call, calls; } entry;
static entry entries[64];

static entry *entry_of(const char *function) {
    entry *e = entries;
    for (; e->function[0]; e++)
        if (!strcmp(e->function, function)) return e;
    snprintf(e->function, sizeof e->function, "%s", function);
    return e;
}

EXPORT void stub_fault(const char *function, int code, int from_call) {
    entry *e = entry_of(function);
    e->code = code;
    e->from_call = e->calls + from_call;
}
EXPORT int stub_calls(const char *function) { return entry_of(function)->calls; }
EXPORT void stub_process(unsigned int pid) { gpus[0].processes[gpus[0].n_processes++].pid = pid; }
EXPORT void stub_garble(void) { gpus[0].name = "\xff\xfe"; }

static int count(const char *function) {
    entry *e = entry_of(function);
    e->calls++;
    return e->code && e->calls >= e->from_call ? e->code : SUCCESS;
}

static int enter_system(const char *function) {
    int code = count(function);
    return code ? code : references ? SUCCESS : UNINITIALIZED;
}

static int enter(const char *function, handle_t *handle, gpu_t **gpu) {
    int code = enter_system(function), all = count("device");
    if (code || all) return code ? code : all;
    if (!handle || handle->start != starts) return INVALID_ARGUMENT;
    *gpu = &gpus[handle->index];
    return SUCCESS;
}

#define SYSTEM() do { int code_ = enter_system(__func__); if (code_) return code_; } while (0)
#define DEVICE(h) gpu_t *gpu; do { int code_ = enter(__func__, h, &gpu); if (code_) return code_; } while (0)
#define NO_MIG() do { if (gpu->mig) return NOT_SUPPORTED; } while (0)

EXPORT int nvmlInitWithFlags(unsigned int flags) {
    int code = count(__func__);
    (void)flags;
    usleep(10000); /* a real start takes long enough for a second thread to come along */
    if (code) return code;
    if (!references++) starts++;
    return SUCCESS;
}
EXPORT int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
EXPORT int nvmlShutdown(void) { SYSTEM(); references--; return SUCCESS; }
EXPORT const char *nvmlErrorString(int code) { return code == 888 ? "Stub \xe2\x80\x93 error" : "Error"; }
EXPORT int nvmlSystemGetDriverVersion(char *text, unsigned int n) {
    SYSTEM(); snprintf(text, n, "535.129.03"); return SUCCESS;
}
EXPORT int nvmlSystemGetCudaDriverVersion(int *version) { SYSTEM(); *version = 12020; return SUCCESS; }
EXPORT int nvmlDeviceGetCount_v2(unsigned int *n) { SYSTEM(); *n = 2; return SUCCESS; }

static int handle_of(int index, handle_t **handle) {
    *handle = &handles[starts % 64][index];
    **handle = (handle_t){index, starts};
    return SUCCESS;
}
EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned int index, handle_t **handle) {
    SYSTEM();
    return index < 2 ? handle_of((int)index, handle) : INVALID_ARGUMENT;
}
EXPORT int nvmlDeviceGetHandleByUUID(const char *uuid, handle_t **handle) {
    SYSTEM();
    for (int i = 0; i < 3; i++) if (!strcmp(gpus[i].uuid, uuid)) return handle_of(i, handle);
    return NOT_FOUND;
}
EXPORT int nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, handle_t **handle) {
    SYSTEM();
    for (int i = 0; i < 2; i++) if (!strcmp(gpus[i].bus_id, bus_id)) return handle_of(i, handle);
    return NOT_FOUND;
}
EXPORT int nvmlDeviceGetName(handle_t *h, char *text, unsigned int n) {
    DEVICE(h); snprintf(text, n, "%s", gpu->name); return SUCCESS;
}
EXPORT int nvmlDeviceGetUUID(handle_t *h, char *text, unsigned int n) {
    DEVICE(h); snprintf(text, n, "%s", gpu->uuid); return SUCCESS;
}
EXPORT int nvmlDeviceGetPciInfo_v3(handle_t *h, pci_info *info) {
    DEVICE(h);
    memset(info, 0, sizeof *info);
    snprintf(info->bus_id_legacy, sizeof info->bus_id_legacy, "%s", gpu->bus_id + 4);
    snprintf(info->bus_id, sizeof info->bus_id, "%s", gpu->bus_id);
    return SUCCESS;
}
EXPORT int nvmlDeviceGetUtilizationRates(handle_t *h, utilization *u) {
    DEVICE(h); NO_MIG(); *u = (utilization){gpu->gpu, gpu->memory}; return SUCCESS;
}
EXPORT int nvmlDeviceGetMemoryInfo(handle_t *h, memory_v1 *m) {
    DEVICE(h);
    *m = (memory_v1){gpu->total * MIB, (gpu->total - gpu->used) * MIB, gpu->used * MIB};
    return SUCCESS;
}
#ifndef OLD_DRIVER
EXPORT int nvmlDeviceGetMemoryInfo_v2(handle_t *h, memory_v2 *m) {
    DEVICE(h);
    if (m->version != 0x02000028) return ARGUMENT_VERSION_MISMATCH;
    *m = (memory_v2){m->version, gpu->total * MIB, gpu->reserved * MIB, (gpu->total - gpu->used) * MIB,
                     (gpu->used - gpu->reserved) * MIB};
    return SUCCESS;
}
EXPORT int nvmlDeviceGetTemperatureV(handle_t *h, temperature_v1 *t) {
    DEVICE(h); NO_MIG();
    if (t->version != 0x0100000C) return ARGUMENT_VERSION_MISMATCH;
    t->temperature = (int)gpu->celsius;
    return SUCCESS;
}
#endif
EXPORT int nvmlDeviceGetTemperature(handle_t *h, unsigned int sensor, unsigned int *celsius) {
    DEVICE(h); NO_MIG(); (void)sensor; *celsius = gpu->celsius; return SUCCESS;
}
EXPORT int nvmlDeviceGetPowerUsage(handle_t *h, unsigned int *mw) {
    DEVICE(h); NO_MIG(); *mw = gpu->power_mw; return SUCCESS;
}
EXPORT int nvmlDeviceGetEnforcedPowerLimit(handle_t *h, unsigned int *mw) {
    DEVICE(h); NO_MIG(); *mw = gpu->limit_mw; return SUCCESS;
}
EXPORT int nvmlDeviceGetPowerManagementLimit(handle_t *h, unsigned int *mw) {
    DEVICE(h); NO_MIG(); *mw = gpu->limit_mw - 1000; return SUCCESS;
}
EXPORT int nvmlDeviceGetClockInfo(handle_t *h, unsigned int type, unsigned int *mhz) {
    DEVICE(h); NO_MIG();
    *mhz = type == 2 ? gpu->memory_mhz : gpu->sm_mhz;
    return SUCCESS;
}

static int processes(gpu_t *gpu, unsigned int *n, process_v2 *list) {
    unsigned int room = *n;
    *n = gpu->n_processes;
    if (room < gpu->n_processes) return INSUFFICIENT_SIZE;
    if (gpu->n_processes) memcpy(list, gpu->processes, gpu->n_processes * sizeof *list);
    return SUCCESS;
}
EXPORT int nvmlDeviceGetComputeRunningProcesses_v2(handle_t *h, unsigned int *n, process_v2 *list) {
    DEVICE(h); NO_MIG(); return processes(gpu, n, list);
}
#ifndef OLD_DRIVER
EXPORT int nvmlDeviceGetComputeRunningProcesses_v3(handle_t *h, unsigned int *n, process_v2 *list) {
    DEVICE(h); NO_MIG(); return processes(gpu, n, list);
}
#endif
