// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>

#include <dlfcn.h>

namespace wherry::mshvsim_preload {

/// The function of this name that the program would have had without us.
template <typename Function>
Function* real(const char* name) {
    void* const found = ::dlsym(RTLD_NEXT, name);
    if (found == nullptr) {
        std::abort(); // a libc without it: the program could not have been linked either
    }
    return reinterpret_cast<Function*>(found);
}

} // namespace wherry::mshvsim_preload
