// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/ownership/arbiter.hpp"
#include "transport/connection.hpp"
#include "transport/endpoint.hpp"

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace google::protobuf {
class Message;
}

namespace wherry::migrate {

/// `etcd:HOST:PORT[,HOST:PORT...][?tls=DIR]`: the endpoints of one etcd cluster (3.4 or newer), by
/// its JSON gateway. The record of a VM is the value of `wherry/vm/VM-ID`: look at it with
/// `etcdctl get wherry/vm/VM-ID`. Reads are linearizable; a change is one transaction that compares
/// the key's revision. Endpoints are tried one after another, each for its share of the time,
/// beginning with the one that answered last; a transaction that was carried out without
/// an answer makes its repetition fail, and is then found.
///
/// With `?tls=DIR` over TLS 1.3, mutually authenticated: in DIR, the same on each host, are
/// ca-cert.pem, which signed etcd's certificate, and client-cert.pem and client-key.pem, for etcd's
/// --client-cert-auth; `wherry pki init` makes one. They are read at each call, so that they can be
/// renewed. Without it nothing protects the connection: who can reach the endpoints can decide who
/// owns a VM. A name (not an address) whose server does not answer can hold a call beyond its
/// limit.
class EtcdArbiter final : public Arbiter {
public:
    /// At least one. `tls_directory`: empty without TLS.
    EtcdArbiter(std::vector<transport::Endpoint> endpoints, std::filesystem::path tls_directory);

    [[nodiscard]] std::string name() const override;

private:
    formats::Result<Seen> look(const VmId& vm, Deadline deadline) override;
    formats::Result<bool>
    replace(const VmId& vm, const Seen& seen, std::string text, Deadline deadline) override;
    formats::Status call(
        std::string_view path,
        const google::protobuf::Message& request,
        google::protobuf::Message& response,
        Deadline deadline);

    [[nodiscard]] formats::Result<transport::Security> security() const;

    std::vector<transport::Endpoint> endpoints_;
    std::filesystem::path tls_directory_;
    std::size_t first_ = 0; ///< that answered last
};

} // namespace wherry::migrate
