// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/proto/api.pb.h"
#include "tools/cli/output.hpp"

#include <string>

namespace wherry::tools {

/// `wherry resolve` for a VM whose process is gone: decides in its journal, and at the arbiter that
/// it names. Whoever starts the VM again finds the decision. Prints what came of it.
ExitCode resolve_offline(const std::string& name, const api::ResolveRequest& request);

} // namespace wherry::tools
