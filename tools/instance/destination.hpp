// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/proto/api.pb.h"
#include "formats/result.hpp"
#include "migrate/source_session.hpp"

#include <string>

namespace wherry::tools {

/// The host that a request names, and how it is reached.
struct Destination {
    std::string endpoint;
    migrate::Connector connect;
};

/// `invalid_argument` where it does not say enough. Reads the certificates; warns on the console
/// where there are to be none.
formats::Result<Destination> destination_from(const api::MigrateRequest& request);
formats::Result<Destination> destination_from(const api::EstimateRequest& request);

} // namespace wherry::tools
