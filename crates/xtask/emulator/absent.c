// A driver with no GPU behind it, as far as cuDNN asks one while it plans: kernels that it has compiled are taken, and nothing runs.

#define TAKEN(name) int name() { return 0; }
#define MADE(name) int name(void **made) { *made = (void *)8; return 0; }
#define NUMBER(name, number) int name(int *to) { *to = number; return 0; }
#define ABSENT(name) int name() { return 100; }

int cuGetErrorString(int error, const char **text) { *text = "there is no GPU"; return 0; }
NUMBER(cuDriverGetVersion, 13000)
NUMBER(cuFuncGetAttribute, 0)
NUMBER(cuKernelGetAttribute, 0)
NUMBER(cuOccupancyMaxPotentialClusterSize, 8)
MADE(cuLibraryLoadData)
MADE(cuLibraryGetKernel)
MADE(cuKernelGetFunction)
MADE(cuModuleLoadData)
MADE(cuModuleGetFunction)
TAKEN(cuLibraryUnload)
TAKEN(cuModuleUnload)
TAKEN(cuKernelSetAttribute)
TAKEN(cuFuncSetAttribute)
ABSENT(cuCtxGetCurrent)
ABSENT(cuCtxGetLimit)
ABSENT(cuCtxPopCurrent)
ABSENT(cuCtxPushCurrent)
ABSENT(cuDeviceGet)
ABSENT(cuDeviceGetCount)
ABSENT(cuGetErrorName)
ABSENT(cuLaunchCooperativeKernel)
ABSENT(cuLaunchKernel)
ABSENT(cuLaunchKernelEx)
ABSENT(cuLibraryLoadFromFile)
ABSENT(cuLinkAddData)
ABSENT(cuLinkComplete)
ABSENT(cuLinkCreate)
ABSENT(cuLinkDestroy)
ABSENT(cuStreamGetCtx)
ABSENT(cuTensorMapEncodeIm2col)
ABSENT(cuTensorMapEncodeTiled)
