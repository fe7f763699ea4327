// ModelConfig from pygpt.config.ModelConfig.
#pragma once

#include <string>

#include "bindings/module.h"
#include "model/config.h"

namespace pygpt {

// ValueError for values that the core has no place for; pygpt.config has checked the others.
ModelConfig read_config(const py::object& config);

}  // namespace pygpt
