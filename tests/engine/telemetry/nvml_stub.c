/* A stand-in for libnvidia-ml.so.1 with NVML's ABI, for tests of the telemetry on machines without a driver.
 *
 * What the cards are is a text, one line a thing: that of DEFAULT, or that of the file which NVML_STUB_STATE names. The
 * file is looked at in every call, so that a test changes cards, processes and errors while a program runs; it is
 * replaced by renaming. A line is a kind, the card's number, and name=value pairs between bars:
 *
 *   card 0 name=Tesla P4|total=7611|used=7069|gpu=97 ...    MiB, percent, mW, MHz, mJ as NVML has them
 *   slice 0 name=...|uuid=...|gi=1|ci=0|total=...|used=...   a MIG device of card 0, which is in MIG mode then
 *   process 0 pid=4242|kind=compute|used=6900|sm=87|gi=1     kind: compute, graphics or mps; no `used`: not available
 *   fault 0 function=nvmlDeviceGetPowerUsage|code=3          one function of one card
 *   lost 0                                                   every question about the card: NVML_ERROR_GPU_IS_LOST
 *   gone 0                                                   the same, and it is in no list of the driver any more
 *
 * NVML's rules hold: nothing answers before nvmlInitWithFlags, starts are counted, and a handle dies with the start
 * that gave it out. stub_fault() makes one function of all cards (or "device", every function that takes a handle)
 * return an error from the n-th call on; stub_calls() counts. -DOLD_DRIVER leaves out what drivers before 510 lack.
 */
#define _DEFAULT_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define MIB (1024ULL * 1024ULL)
#define NONE 0xFFFFFFFFu
#define CARDS 16
#define SLICES 8
#define PROCESSES 256
#define FAULTS 64

enum {
    SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7,
    GPU_IS_LOST = 15, ARGUMENT_VERSION_MISMATCH = 25
};

typedef struct { unsigned long long total, free, used; } memory_v1;
typedef struct { unsigned int version; unsigned long long total, reserved, free, used; } memory_v2;
typedef struct { unsigned int gpu, memory; } utilization;
typedef struct { unsigned int version, sensor; int temperature; } temperature_v1;
typedef struct { unsigned int pid; unsigned long long used; unsigned int gpu_instance, compute_instance; } process_v2;
typedef struct { unsigned int pid; unsigned long long at; unsigned int sm, memory, encoder, decoder; } process_sample;
typedef struct {
    char bus_id_legacy[16];
    unsigned int domain, bus, device, pci_device_id, pci_subsystem_id;
    char bus_id[32];
} pci_info;

typedef struct {
    char name[96], uuid[96], bus[32];
    int is_slice, gone, lost;
    unsigned long long total, used, reserved, energy, throttle, ecc; /* MiB, mJ */
    unsigned int gpu, memory, power, limit, celsius, sm, mem, fan, mode, gi, ci, n_slices;
    int has_fan, has_ecc, has_energy, has_throttle, has_mig;
} gpu_t;
typedef struct { int card; unsigned int pid, gi, sm, has_sm; unsigned long long used; char kind[16]; } process_t;
typedef struct { int card, code; char function[64]; } fault_t;

static gpu_t gpus[CARDS][SLICES + 1]; /* a card, then its slices */
static process_t processes[PROCESSES];
static fault_t faults[FAULTS];
static int n_cards, n_processes, n_faults, is_read, garbled;
static unsigned int extra_pid;
static struct stat read_from;

static const char *DEFAULT =
    "card 0 name=Tesla P4|uuid=GPU-11111111-aaaa-bbbb-cccc-000000000000|bus=00000000:3B:00.0|total=7611|used=7069|"
    "reserved=78|gpu=97|memory=61|power=72500|limit=75000|celsius=61|sm=1113|mem=3003\n"
    "process 0 pid=4242|kind=compute|used=6900\n"
    "process 0 pid=4243|kind=compute\n"
    "card 1 name=NVIDIA H200|uuid=GPU-22222222-aaaa-bbbb-cccc-000000000000|bus=00000000:5E:00.0|total=143771|used=4|"
    "reserved=3|power=71000|limit=700000|celsius=28|sm=345|mem=3201|mig=0\n"
    "slice 1 name=NVIDIA H200 MIG 1g.18gb|uuid=MIG-33333333-aaaa-bbbb-cccc-000000000000|gi=1|ci=0|total=16384|used=15\n";

static void number_to(unsigned int *field, const char *value) { *field = (unsigned int)strtoul(value, NULL, 10); }

static void set_gpu(gpu_t *g, const char *key, const char *value) {
    unsigned long long n = strtoull(value, NULL, 10);
    if (!strcmp(key, "name")) snprintf(g->name, sizeof g->name, "%s", value);
    else if (!strcmp(key, "uuid")) snprintf(g->uuid, sizeof g->uuid, "%s", value);
    else if (!strcmp(key, "bus")) snprintf(g->bus, sizeof g->bus, "%s", value);
    else if (!strcmp(key, "total")) g->total = n;
    else if (!strcmp(key, "used")) g->used = n;
    else if (!strcmp(key, "reserved")) g->reserved = n;
    else if (!strcmp(key, "energy")) g->energy = n, g->has_energy = 1;
    else if (!strcmp(key, "throttle")) g->throttle = n, g->has_throttle = 1;
    else if (!strcmp(key, "ecc")) g->ecc = n, g->has_ecc = 1;
    else if (!strcmp(key, "fan")) g->fan = (unsigned int)n, g->has_fan = 1;
    else if (!strcmp(key, "mig")) g->has_mig = 1 + (int)n; /* mig=0: off, mig=1: on; not given: a card without MIG */
    else if (!strcmp(key, "gpu")) number_to(&g->gpu, value);
    else if (!strcmp(key, "memory")) number_to(&g->memory, value);
    else if (!strcmp(key, "power")) number_to(&g->power, value);
    else if (!strcmp(key, "limit")) number_to(&g->limit, value);
    else if (!strcmp(key, "celsius")) number_to(&g->celsius, value);
    else if (!strcmp(key, "sm")) number_to(&g->sm, value);
    else if (!strcmp(key, "mem")) number_to(&g->mem, value);
    else if (!strcmp(key, "mode")) number_to(&g->mode, value);
    else if (!strcmp(key, "gi")) number_to(&g->gi, value);
    else if (!strcmp(key, "ci")) number_to(&g->ci, value);
}

static void set_process(process_t *p, const char *key, const char *value) {
    if (!strcmp(key, "kind")) snprintf(p->kind, sizeof p->kind, "%s", value);
    else if (!strcmp(key, "pid")) number_to(&p->pid, value);
    else if (!strcmp(key, "gi")) number_to(&p->gi, value);
    else if (!strcmp(key, "sm")) number_to(&p->sm, value), p->has_sm = 1;
    else if (!strcmp(key, "used")) p->used = strtoull(value, NULL, 10) * MIB;
}

static void read_line(char *line) {
    char kind[16] = "", *rest;
    int card = -1, offset = 0;
    if (sscanf(line, "%15s %d %n", kind, &card, &offset) < 2 || card < 0 || card >= CARDS) return;
    gpu_t *gpu = gpus[card];
    process_t *process = NULL;
    fault_t *fault = NULL;
    rest = line + offset;
    if (!strcmp(kind, "card")) { if (card >= n_cards) n_cards = card + 1; }
    else if (!strcmp(kind, "lost")) gpu->lost = 1;
    else if (!strcmp(kind, "gone")) gpu->lost = gpu->gone = 1;
    else if (!strcmp(kind, "slice") && gpu->n_slices < SLICES) {
        if (!gpu->has_mig) gpu->has_mig = 2;
        gpu = gpus[card] + ++gpus[card]->n_slices;
        gpu->is_slice = 1;
    } else if (!strcmp(kind, "process") && n_processes < PROCESSES) {
        process = &processes[n_processes++];
        *process = (process_t){.card = card, .gi = NONE, .used = ~0ULL, .kind = "compute"};
    } else if (!strcmp(kind, "fault") && n_faults < FAULTS) {
        fault = &faults[n_faults++];
        fault->card = card;
    } else return;
    for (char *pair = strtok(rest, "|\n"); pair; pair = strtok(NULL, "|\n")) {
        char *value = strchr(pair, '=');
        if (!value) continue;
        *value++ = 0;
        if (process) set_process(process, pair, value);
        else if (!fault) set_gpu(gpu, pair, value);
        else if (!strcmp(pair, "code")) fault->code = atoi(value);
        else snprintf(fault->function, sizeof fault->function, "%s", value);
    }
}

static void read_text(const char *text) {
    memset(gpus, 0, sizeof gpus);
    n_cards = n_processes = n_faults = 0;
    while (*text) {
        char line[1024];
        size_t n = strcspn(text, "\n");
        snprintf(line, sizeof line, "%.*s", (int)n, text);
        read_line(line);
        text += n + (text[n] == '\n');
    }
}

static void look(void) {
    const char *path = getenv("NVML_STUB_STATE");
    struct stat now;
    if (!path || stat(path, &now)) {
        if (!is_read) read_text(DEFAULT);
        is_read = 1;
        return;
    }
    if (is_read && now.st_ino == read_from.st_ino && now.st_mtim.tv_nsec == read_from.st_mtim.tv_nsec &&
        now.st_mtim.tv_sec == read_from.st_mtim.tv_sec) return;
    FILE *file = fopen(path, "r");
    if (!file) return;
    static char text[65536];
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
    read_text(text);
    read_from = now;
    is_read = 1;
}

/* a handle is the address of one of these: which GPU, and of which start */
typedef struct { int card, slice, start; } handle_t;
static handle_t handles[64][CARDS][SLICES + 1];
static int references, starts;

typedef struct { char function[64]; int code, from_call, calls; } entry;
static entry entries[96];

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
EXPORT void stub_process(unsigned int pid) { extra_pid = pid; }
EXPORT void stub_garble(void) { garbled = 1; }

static int count(const char *function) {
    entry *e = entry_of(function);
    e->calls++;
    return e->code && e->calls >= e->from_call ? e->code : SUCCESS;
}

static int enter_system(const char *function) {
    int code = count(function);
    if (!code) look();
    return code ? code : references ? SUCCESS : UNINITIALIZED;
}

static int fault_of(int card, const char *function) {
    for (int i = 0; i < n_faults; i++)
        if (faults[i].card == card && !strcmp(faults[i].function, function)) return faults[i].code;
    return SUCCESS;
}

static int enter(const char *function, handle_t *handle, gpu_t **gpu) {
    int code = enter_system(function), all = count("device");
    if (code || all) return code ? code : all;
    if (!handle || handle->start != starts) return INVALID_ARGUMENT;
    *gpu = &gpus[handle->card][handle->slice];
    if (gpus[handle->card]->lost) return GPU_IS_LOST;
    return fault_of(handle->card, function);
}

#define SYSTEM() do { int code_ = enter_system(__func__); if (code_) return code_; } while (0)
#define DEVICE(h) gpu_t *gpu; do { int code_ = enter(__func__, h, &gpu); if (code_) return code_; } while (0)
#define NO_MIG() do { if (gpu->is_slice) return NOT_SUPPORTED; } while (0)
#define NEEDS(has) do { if (gpu->is_slice || !(has)) return NOT_SUPPORTED; } while (0)

EXPORT int nvmlInitWithFlags(unsigned int flags) {
    int code = count(__func__);
    (void)flags;
    usleep(10000); /* a real start takes long enough for a second thread to come along */
    if (code) return code;
    look();
    if (!references++) starts++;
    return SUCCESS;
}
EXPORT int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
EXPORT int nvmlShutdown(void) { SYSTEM(); references--; return SUCCESS; }
EXPORT const char *nvmlErrorString(int code) { return code == 888 ? "Stub \xe2\x80\x93 error" : "Error"; }
EXPORT int nvmlSystemGetDriverVersion(char *text, unsigned int n) {
    SYSTEM(); snprintf(text, n, "535.129.03"); return SUCCESS;
}
EXPORT int nvmlSystemGetNVMLVersion(char *text, unsigned int n) {
    SYSTEM(); snprintf(text, n, "12.535.129.03"); return SUCCESS;
}
EXPORT int nvmlSystemGetCudaDriverVersion(int *version) { SYSTEM(); *version = 12020; return SUCCESS; }
EXPORT int nvmlSystemGetCudaDriverVersion_v2(int *version) { return nvmlSystemGetCudaDriverVersion(version); }

/* the driver counts the cards that it still has, so that those behind one that is gone move up */
static int n_listed(void) {
    int n = 0;
    for (int card = 0; card < n_cards; card++) n += !gpus[card]->gone;
    return n;
}
static int card_at(unsigned int index) {
    for (int card = 0; card < n_cards; card++)
        if (!gpus[card]->gone && !index--) return card;
    return -1;
}
EXPORT int nvmlDeviceGetCount_v2(unsigned int *n) { SYSTEM(); *n = (unsigned int)n_listed(); return SUCCESS; }

static int handle_of(int card, int slice, handle_t **handle) {
    *handle = &handles[starts % 64][card][slice];
    **handle = (handle_t){card, slice, starts};
    return SUCCESS;
}
EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned int index, handle_t **handle) {
    SYSTEM();
    int card = card_at(index);
    return card < 0 ? INVALID_ARGUMENT : handle_of(card, 0, handle);
}
EXPORT int nvmlDeviceGetHandleByUUID(const char *uuid, handle_t **handle) {
    SYSTEM();
    for (int card = 0; card < n_cards; card++)
        for (unsigned int i = 0; i <= gpus[card]->n_slices; i++)
            if (!gpus[card]->gone && !strcmp(gpus[card][i].uuid, uuid)) return handle_of(card, (int)i, handle);
    return NOT_FOUND;
}
EXPORT int nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, handle_t **handle) {
    SYSTEM();
    for (int card = 0; card < n_cards; card++)
        if (!gpus[card]->gone && !strcmp(gpus[card]->bus, bus_id)) return handle_of(card, 0, handle);
    return NOT_FOUND;
}
EXPORT int nvmlDeviceGetIndex(handle_t *h, unsigned int *index) {
    DEVICE(h); NO_MIG();
    *index = 0;
    for (int card = 0; card < h->card; card++) *index += !gpus[card]->gone;
    return SUCCESS;
}
EXPORT int nvmlDeviceGetName(handle_t *h, char *text, unsigned int n) {
    DEVICE(h); snprintf(text, n, "%s", garbled && !h->card ? "\xff\xfe" : gpu->name); return SUCCESS;
}
EXPORT int nvmlDeviceGetUUID(handle_t *h, char *text, unsigned int n) {
    DEVICE(h); snprintf(text, n, "%s", gpu->uuid); return SUCCESS;
}
EXPORT int nvmlDeviceGetPciInfo_v3(handle_t *h, pci_info *info) {
    DEVICE(h);
    memset(info, 0, sizeof *info);
    gpu = gpus[h->card];
    snprintf(info->bus_id_legacy, sizeof info->bus_id_legacy, "%.12s", strlen(gpu->bus) > 4 ? gpu->bus + 4 : gpu->bus);
    snprintf(info->bus_id, sizeof info->bus_id, "%s", gpu->bus);
    return SUCCESS;
}
EXPORT int nvmlDeviceGetUtilizationRates(handle_t *h, utilization *u) {
    DEVICE(h); NEEDS(gpu->has_mig != 2); *u = (utilization){gpu->gpu, gpu->memory}; return SUCCESS;
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
EXPORT int nvmlDeviceGetCurrentClocksEventReasons(handle_t *h, unsigned long long *reasons) {
    DEVICE(h); NEEDS(gpu->has_throttle); *reasons = gpu->throttle; return SUCCESS;
}
#endif
EXPORT int nvmlDeviceGetCurrentClocksThrottleReasons(handle_t *h, unsigned long long *reasons) {
    DEVICE(h); NEEDS(gpu->has_throttle); *reasons = gpu->throttle; return SUCCESS;
}
EXPORT int nvmlDeviceGetTemperature(handle_t *h, unsigned int sensor, unsigned int *celsius) {
    DEVICE(h); NO_MIG(); (void)sensor; *celsius = gpu->celsius; return SUCCESS;
}
EXPORT int nvmlDeviceGetPowerUsage(handle_t *h, unsigned int *mw) {
    DEVICE(h); NO_MIG(); *mw = gpu->power; return SUCCESS;
}
EXPORT int nvmlDeviceGetEnforcedPowerLimit(handle_t *h, unsigned int *mw) {
    DEVICE(h); NO_MIG(); *mw = gpu->limit; return SUCCESS;
}
EXPORT int nvmlDeviceGetPowerManagementLimit(handle_t *h, unsigned int *mw) {
    DEVICE(h); NO_MIG(); *mw = gpu->limit - 1000; return SUCCESS;
}
EXPORT int nvmlDeviceGetClockInfo(handle_t *h, unsigned int type, unsigned int *mhz) {
    DEVICE(h); NO_MIG();
    *mhz = type == 2 ? gpu->mem : gpu->sm;
    return SUCCESS;
}
EXPORT int nvmlDeviceGetFanSpeed(handle_t *h, unsigned int *percent) {
    DEVICE(h); NEEDS(gpu->has_fan); *percent = gpu->fan; return SUCCESS;
}
EXPORT int nvmlDeviceGetTotalEnergyConsumption(handle_t *h, unsigned long long *mj) {
    DEVICE(h); NEEDS(gpu->has_energy); *mj = gpu->energy; return SUCCESS;
}
EXPORT int nvmlDeviceGetTotalEccErrors(handle_t *h, unsigned int type, unsigned int counter, unsigned long long *n) {
    DEVICE(h); NEEDS(gpu->has_ecc);
    *n = type == 1 ? gpu->ecc + (counter == 1) * 2 : 0; /* two more over the card's life than since the start */
    return SUCCESS;
}
EXPORT int nvmlDeviceGetComputeMode(handle_t *h, unsigned int *mode) {
    DEVICE(h); NO_MIG(); *mode = gpu->mode; return SUCCESS;
}
EXPORT int nvmlDeviceGetMigMode(handle_t *h, unsigned int *now, unsigned int *pending) {
    DEVICE(h); NEEDS(gpu->has_mig); *now = *pending = gpu->has_mig == 2; return SUCCESS;
}
EXPORT int nvmlDeviceIsMigDeviceHandle(handle_t *h, unsigned int *is) {
    DEVICE(h); *is = (unsigned int)gpu->is_slice; return SUCCESS;
}
EXPORT int nvmlDeviceGetMaxMigDeviceCount(handle_t *h, unsigned int *n) {
    DEVICE(h); NO_MIG(); *n = gpu->has_mig ? SLICES : 0; return SUCCESS;
}
EXPORT int nvmlDeviceGetMigDeviceHandleByIndex(handle_t *h, unsigned int index, handle_t **slice) {
    DEVICE(h); NEEDS(gpu->has_mig);
    return index < gpu->n_slices ? handle_of(h->card, (int)index + 1, slice) : NOT_FOUND;
}
EXPORT int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle_t *h, handle_t **card) {
    DEVICE(h); if (!gpu->is_slice) return INVALID_ARGUMENT; return handle_of(h->card, 0, card);
}
EXPORT int nvmlDeviceGetGpuInstanceId(handle_t *h, unsigned int *id) {
    DEVICE(h); if (!gpu->is_slice) return NOT_SUPPORTED; *id = gpu->gi; return SUCCESS;
}
EXPORT int nvmlDeviceGetComputeInstanceId(handle_t *h, unsigned int *id) {
    DEVICE(h); if (!gpu->is_slice) return NOT_SUPPORTED; *id = gpu->ci; return SUCCESS;
}

static int running(handle_t *h, gpu_t *gpu, const char *kind, unsigned int *n, process_v2 *list) {
    unsigned int room = *n;
    process_v2 found[PROCESSES + 1];
    *n = 0;
    for (int i = 0; i < n_processes; i++) {
        process_t *p = &processes[i];
        if (p->card != h->card || strcmp(p->kind, kind) || (gpu->is_slice && p->gi != gpu->gi)) continue;
        found[(*n)++] = (process_v2){p->pid, p->used, p->gi, p->gi == NONE ? NONE : 0};
    }
    if (extra_pid && !h->card && !strcmp(kind, "compute")) found[(*n)++] = (process_v2){extra_pid, 0, NONE, NONE};
    if (room < *n) return INSUFFICIENT_SIZE;
    if (*n) memcpy(list, found, *n * sizeof *list);
    return SUCCESS;
}
#define RUNNING(name, kind) \
    EXPORT int name(handle_t *h, unsigned int *n, process_v2 *list) { DEVICE(h); return running(h, gpu, kind, n, list); }
RUNNING(nvmlDeviceGetComputeRunningProcesses_v2, "compute")
RUNNING(nvmlDeviceGetGraphicsRunningProcesses_v2, "graphics")
RUNNING(nvmlDeviceGetMPSComputeRunningProcesses_v2, "mps")
#ifndef OLD_DRIVER
RUNNING(nvmlDeviceGetComputeRunningProcesses_v3, "compute")
RUNNING(nvmlDeviceGetGraphicsRunningProcesses_v3, "graphics")
RUNNING(nvmlDeviceGetMPSComputeRunningProcesses_v3, "mps")
#endif

/* two samples a process, the newer with what the state says: NVML keeps a second or so of them */
EXPORT int nvmlDeviceGetProcessUtilization(handle_t *h, process_sample *list, unsigned int *n,
                                           unsigned long long since) {
    DEVICE(h); NEEDS(gpu->has_mig != 2);
    unsigned int room = *n;
    (void)since;
    *n = 0;
    for (int i = 0; i < n_processes; i++) {
        process_t *p = &processes[i];
        if (p->card != h->card || !p->has_sm) continue;
        if (list && *n + 2 <= room) {
            list[*n] = (process_sample){p->pid, 1000, 1, 1, 0, 0};
            list[*n + 1] = (process_sample){p->pid, 2000, p->sm, p->sm / 2, 0, 0};
        }
        *n += 2;
    }
    if (!*n) return NOT_FOUND;
    return list && *n <= room ? SUCCESS : INSUFFICIENT_SIZE;
}
