// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "transport/detail/tls_session.hpp"
#include "transport/tls_context.hpp"

#include <string>

namespace wherry::transport::detail {

enum class TlsStage { handshake, stream };

/// One sentence for what ended a TLS connection: our refusal of the peer, the peer's of us (an
/// alert), or a broken or foreign connection. `peer` is an address.
formats::Error describe_failure(
    const TlsFailure& failure,
    const PeerPolicy& policy,
    const TlsContext& ours,
    const std::string& peer,
    TlsStage stage);

/// The meaning of a fatal alert that the peer sent: RFC 8446, 6.2.
formats::Error describe_alert(int alert, const TlsContext& ours, const std::string& peer);

/// The peer speaks TLS, but another protocol inside.
formats::Error wrong_protocol(const std::string& peer);

} // namespace wherry::transport::detail
