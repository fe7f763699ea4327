// OpenMP's parallel regions. Not part of the core's library, which is to load where there is no OpenMP runtime.
#pragma once

#include "threads/regions.h"

namespace pygpt {

extern const Regions kOpenMpRegions;

}  // namespace pygpt
