// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/proto/api.pb.h"
#include "formats/result.hpp"
#include "tools/api_client.hpp"

#include <cstdio>
#include <optional>
#include <string>

namespace wherry::tools {

/// How the job of a VM is followed: with a progress line where `out` is a terminal, or as one JSON
/// object a line.
struct Following {
    std::string name; ///< the VM's
    bool json = false;
    std::FILE* out = stdout;
};

/// Until the job is over: its last form. An interrupt from the terminal cancels it, a second one
/// leaves it to itself: nothing, and it was said how to follow it.
formats::Result<std::optional<api::Job>>
follow(ApiClient& client, const api::Job& job, const Following& how);

} // namespace wherry::tools
