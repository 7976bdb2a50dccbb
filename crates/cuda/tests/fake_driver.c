/* A CUDA driver with one device in host memory, enough of it to run NvidiaDriver without a GPU. Compiled against the toolkit's cuda.h, so
   that names and signatures are those of the real one. Copies from the host are done as late as allowed, when something waits. Variable
   FAKE_CUDA makes it behave badly. */
#include <cuda.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static int is(const char *what) {
    const char *mood = getenv("FAKE_CUDA");
    return mood && strcmp(mood, what) == 0;
}

static struct { char *to; const char *from; size_t bytes; } pending[4096];
static unsigned pending_count;
static uint64_t recorded, done, used, reserved;

static void finish(void) {
    for (unsigned i = 0; i < pending_count; i++) memcpy(pending[i].to, pending[i].from, pending[i].bytes);
    pending_count = 0;
    done = recorded;
}

CUresult cuDriverGetVersion(int *version) {
    *version = is("old") ? 12040 : 13000;
    return is("stub") ? CUDA_ERROR_STUB_LIBRARY : CUDA_SUCCESS;
}
CUresult cuInit(unsigned flags) { return is("none") ? CUDA_ERROR_NO_DEVICE : CUDA_SUCCESS; }
CUresult cuGetErrorName(CUresult error, const char **text) { return *text = "CUDA_ERROR_FAKE", CUDA_SUCCESS; }
CUresult cuGetErrorString(CUresult error, const char **text) { return *text = "made up", CUDA_SUCCESS; }

CUresult cuDeviceGetCount(int *count) { return *count = 1, CUDA_SUCCESS; }
CUresult cuDeviceGet(CUdevice *device, int ordinal) { return *device = ordinal, CUDA_SUCCESS; }
CUresult cuDeviceGetName(char *name, int length, CUdevice device) { return strncpy(name, "Fake", length), CUDA_SUCCESS; }
CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
    switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = 9; break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = 0; break;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *value = 2; break;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: *value = 227 << 10; break;
    case CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE: *value = 50 << 20; break;
    default: return CUDA_ERROR_INVALID_VALUE;
    }
    return CUDA_SUCCESS;
}
static __thread int current;
static int retained;
CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
    *context = (CUcontext)&retained;
    return retained++, CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRelease(CUdevice device) { return retained-- > 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT; }
CUresult cuCtxSetCurrent(CUcontext context) { return current = context != NULL, CUDA_SUCCESS; }
#define REQUIRE_CONTEXT if (!current || retained <= 0) return CUDA_ERROR_INVALID_CONTEXT

CUresult cuMemPoolCreate(CUmemoryPool *pool, const CUmemPoolProps *properties) {
    if (properties->allocType != CU_MEM_ALLOCATION_TYPE_PINNED || properties->location.type != CU_MEM_LOCATION_TYPE_DEVICE
        || properties->location.id != 0 || properties->handleTypes != CU_MEM_HANDLE_TYPE_NONE)
        return CUDA_ERROR_INVALID_VALUE;
    return *pool = (CUmemoryPool)&used, CUDA_SUCCESS;
}
CUresult cuMemPoolDestroy(CUmemoryPool pool) { return CUDA_SUCCESS; }
CUresult cuMemPoolSetAttribute(CUmemoryPool pool, CUmemPool_attribute attribute, void *value) {
    return attribute == CU_MEMPOOL_ATTR_RELEASE_THRESHOLD && *(uint64_t *)value == UINT64_MAX ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
CUresult cuMemPoolGetAttribute(CUmemoryPool pool, CUmemPool_attribute attribute, void *value) {
    *(uint64_t *)value = attribute == CU_MEMPOOL_ATTR_USED_MEM_CURRENT ? used : reserved;
    return CUDA_SUCCESS;
}
CUresult cuMemAllocFromPoolAsync(CUdeviceptr *pointer, size_t bytes, CUmemoryPool pool, CUstream stream) {
    REQUIRE_CONTEXT;
    if (is("full")) return CUDA_ERROR_OUT_OF_MEMORY;
    uint64_t *block = malloc(bytes + 16);
    *block = bytes;
    used += bytes;
    reserved = used > reserved ? used : reserved;
    *pointer = (CUdeviceptr)(block + 2);
    return CUDA_SUCCESS;
}
CUresult cuMemFreeAsync(CUdeviceptr pointer, CUstream stream) {
    REQUIRE_CONTEXT;
    finish();
    uint64_t *block = (uint64_t *)pointer - 2;
    used -= *block;
    free(block);
    return CUDA_SUCCESS;
}
CUresult cuMemGetInfo(size_t *available, size_t *total) { return *available = (1 << 30) - reserved, *total = 1 << 30, CUDA_SUCCESS; }
CUresult cuMemHostAlloc(void **pointer, size_t bytes, unsigned flags) { return *pointer = malloc(bytes), CUDA_SUCCESS; }
CUresult cuMemFreeHost(void *pointer) { return finish(), free(pointer), CUDA_SUCCESS; }
CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char byte, size_t bytes, CUstream stream) {
    return finish(), memset((void *)to, byte, bytes), CUDA_SUCCESS;
}
CUresult cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
    return finish(), memcpy((void *)to, (void *)from, bytes), CUDA_SUCCESS;
}
CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, size_t bytes, CUstream stream) {
    REQUIRE_CONTEXT;
    if (pending_count == sizeof pending / sizeof *pending) finish();
    pending[pending_count].to = (char *)to;
    pending[pending_count].from = from;
    pending[pending_count++].bytes = bytes;
    return CUDA_SUCCESS;
}
CUresult cuMemcpyDtoHAsync(void *to, CUdeviceptr from, size_t bytes, CUstream stream) {
    return finish(), memcpy(to, (void *)from, bytes), CUDA_SUCCESS;
}

static int capturing;
CUresult cuStreamCreate(CUstream *stream, unsigned flags) {
    *stream = malloc(1);
    return flags == CU_STREAM_NON_BLOCKING ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
CUresult cuStreamDestroy(CUstream stream) { return free(stream), CUDA_SUCCESS; }
CUresult cuStreamSynchronize(CUstream stream) { return finish(), CUDA_SUCCESS; }
CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned flags) { return CUDA_SUCCESS; }
CUresult cuStreamBeginCapture(CUstream stream, CUstreamCaptureMode mode) { return capturing = 1, CUDA_SUCCESS; }
CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph) { return capturing = 0, *graph = malloc(1), CUDA_SUCCESS; }
CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus *status) {
    *status = capturing ? CU_STREAM_CAPTURE_STATUS_ACTIVE : CU_STREAM_CAPTURE_STATUS_NONE;
    return CUDA_SUCCESS;
}

/* An event is the count of events at its record; it has passed once something has waited since. */
CUresult cuEventCreate(CUevent *event, unsigned flags) { return *event = calloc(1, 8), CUDA_SUCCESS; }
CUresult cuEventRecord(CUevent event, CUstream stream) { return *(uint64_t *)event = ++recorded, CUDA_SUCCESS; }
CUresult cuEventQuery(CUevent event) { return *(uint64_t *)event <= done ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY; }
CUresult cuEventSynchronize(CUevent event) { return finish(), CUDA_SUCCESS; }
CUresult cuEventElapsedTime(float *milliseconds, CUevent from, CUevent to) { return *milliseconds = 0.5f, CUDA_SUCCESS; }
CUresult cuEventDestroy(CUevent event) { return free(event), CUDA_SUCCESS; }

/* One module with one kernel, which doubles `count` words at `words`. */
struct Arguments { uint64_t *words; uint64_t count; };
CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned count, CUjit_option *options, void **values) {
    if (is("architecture")) return CUDA_ERROR_NO_BINARY_FOR_GPU;
    if ((uintptr_t)image % 8 || strcmp(image, "image")) {
        strncpy(values[0], "line 1: nonsense", (size_t)values[1]);
        return CUDA_ERROR_INVALID_PTX;
    }
    return *module = (CUmodule)&capturing, CUDA_SUCCESS;
}
CUresult cuModuleUnload(CUmodule module) { return CUDA_SUCCESS; }
CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
    return *function = (CUfunction)&done, strcmp(name, "twice") ? CUDA_ERROR_NOT_FOUND : CUDA_SUCCESS;
}
CUresult cuFuncGetParamInfo(CUfunction function, size_t index, size_t *offset, size_t *bytes) {
    return *offset = 0, *bytes = sizeof(struct Arguments), CUDA_SUCCESS;
}
CUresult cuFuncGetAttribute(int *value, CUfunction_attribute attribute, CUfunction function) { return *value = attribute, CUDA_SUCCESS; }
CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value) {
    return attribute == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES && value <= 227 << 10 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
CUresult cuFuncGetName(const char **name, CUfunction function) { return *name = "twice", CUDA_SUCCESS; }
static struct Arguments last;
static CUresult twice(void) {
    finish();
    for (uint64_t i = 0; i < last.count; i++) last.words[i] *= 2;
    return CUDA_SUCCESS;
}
CUresult cuLaunchKernel(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                        CUstream stream, void **parameters, void **extra) {
    REQUIRE_CONTEXT;
    if (is("lost")) return CUDA_ERROR_ILLEGAL_ADDRESS;
    memcpy(&last, parameters[0], sizeof last);
    return capturing ? CUDA_SUCCESS : twice();
}
CUresult cuGraphInstantiateWithFlags(CUgraphExec *executable, CUgraph graph, unsigned long long flags) {
    return *executable = malloc(1), CUDA_SUCCESS;
}
CUresult cuGraphDestroy(CUgraph graph) { return free(graph), CUDA_SUCCESS; }
CUresult cuGraphLaunch(CUgraphExec graph, CUstream stream) { return twice(); }
CUresult cuGraphExecDestroy(CUgraphExec graph) { return free(graph), CUDA_SUCCESS; }
