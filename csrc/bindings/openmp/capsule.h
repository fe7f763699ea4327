// What the modules _core and _openmp agree on.
#pragma once

namespace pygpt {

constexpr const char* kRegionsCapsule = "pygpt.regions";

}  // namespace pygpt
