// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/ownership/arbiter.hpp"
#include "transport/endpoint.hpp"
#include "transport/http_connection.hpp"

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/io_context.hpp>

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
/// --client-cert-auth; `wherry pki init` makes one. They are read for each connection, so that
/// they can be renewed. Without it nothing protects the connection: who can reach the endpoints can
/// decide who owns a VM. A name (not an address) whose server does not answer can hold a call
/// beyond its limit.
///
/// A connection is kept for the next call for ten seconds, since a guest may stand still for it,
/// and no longer, for what lies between may have forgotten it.
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
    formats::Result<transport::HttpAnswer>
    post(std::size_t endpoint, const transport::HttpPost& what, Deadline deadline);
    formats::Result<transport::HttpAnswer>
    post_on_kept(const transport::HttpPost& what, Deadline deadline);
    /// Within the deadline, on this thread. Error{timed_out} names the endpoint.
    template <typename T>
    formats::Result<T> run(std::size_t endpoint, transport::Task<T> task, Deadline deadline);

    struct Kept {
        std::size_t endpoint = 0;
        std::unique_ptr<transport::HttpConnection> connection;
        Deadline used;
    };

    std::vector<transport::Endpoint> endpoints_;
    std::filesystem::path tls_directory_;
    std::size_t first_ = 0; ///< that answered last
    boost::asio::io_context io_{1};
    std::optional<Kept> kept_;
};

} // namespace wherry::migrate
