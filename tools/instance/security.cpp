// SPDX-License-Identifier: Apache-2.0
#include "tools/instance/security.hpp"

#include <utility>

namespace wherry::tools {

using formats::Result;
using transport::Security;
using transport::TlsContext;

namespace {

Result<Security> as_security(Result<TlsContext> context) {
    if (!context) {
        return formats::fail(std::move(context).error());
    }
    return *std::move(context);
}

} // namespace

Result<Security> client_security(const std::string& tls_directory) {
    return tls_directory.empty() ? Result<Security>{transport::Insecure{}}
                                 : as_security(TlsContext::for_client(tls_directory));
}

Result<Security> server_security(const std::string& tls_directory) {
    return tls_directory.empty() ? Result<Security>{transport::Insecure{}}
                                 : as_security(TlsContext::for_server(tls_directory));
}

} // namespace wherry::tools
