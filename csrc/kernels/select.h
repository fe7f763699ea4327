// The choice of a kernel table at run time.
#pragma once

#include <string>
#include <vector>

#include "kernels/table.h"

namespace pygpt {

// The tables this machine can run, best first; "scalar" is always the last.
std::vector<const Kernels*> runnable_kernels();

// The table called `name`; with an empty name the one that the environment variable PYGPT_ISA names, else the best.
// InvalidArgument names what is allowed when the name is unknown or this machine cannot run it.
const Kernels& select_kernels(const std::string& name);

}  // namespace pygpt
