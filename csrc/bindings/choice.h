// Names of enum values, as Python gives them.
#pragma once

#include <initializer_list>
#include <string>
#include <vector>

#include "base/error.h"
#include "bindings/module.h"

namespace pygpt {

// The place that `name` has among `names`; an unknown name is a ValueError that says what is allowed.
template <class Names>
std::size_t choose(const char* argument, const std::string& name, const Names& names) {
    std::string allowed;
    std::size_t i = 0;
    for (const char* known : names) {
        if (name == known) return i;
        allowed += (i++ == 0 ? "'" : ", '") + std::string(known) + "'";
    }
    throw InvalidArgument(std::string(argument) + "='" + name + "' is not one of " + allowed);
}

template <class Enum>
Enum choose(const char* argument, const std::string& name) {
    return static_cast<Enum>(choose(argument, name, enum_names(Enum{})));
}

// One of the types that are allowed here.
inline DType choose(const char* argument, const std::string& name, std::initializer_list<DType> allowed) {
    std::vector<const char*> names;
    for (const DType type : allowed) names.push_back(name_of(type));
    return allowed.begin()[choose(argument, name, names)];
}

}  // namespace pygpt
