// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"

namespace wherry::vmm::soft {

/// unsupported where libunicorn is not the version that this folder is made for.
formats::Status check_version();

} // namespace wherry::vmm::soft
