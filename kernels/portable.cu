// Everything that runs on compute capability 8.0 and newer, as one PTX module.
#include "arith.cuh"
#include "memory.cuh"
#include "shared.cuh"
#include "tensor.cuh"
#include "time.cuh"
