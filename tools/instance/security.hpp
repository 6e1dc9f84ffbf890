// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "transport/connection.hpp"

#include <string>

namespace wherry::tools {

/// For connecting to a destination, with the certificates of this directory; empty: plain TCP.
formats::Result<transport::Security> client_security(const std::string& tls_directory);
/// The same for listening.
formats::Result<transport::Security> server_security(const std::string& tls_directory);

} // namespace wherry::tools
