// The kernels of AMX over emulated tiles, for processors that have the vectors but no tiles.
#include "emulated_tiles.h"

#define linear_int8_amx linear_int8_emulated_amx
#define attention_int8_amx attention_int8_emulated_amx
#include "kernels/isa/amx.cpp"
#include "kernels/isa/amx_attention.cpp"
