// SPDX-License-Identifier: Apache-2.0
#include "transport/detail/tls_verify.hpp"

#include "tests/unit/transport/support.hpp"
#include "transport/detail/tls_error.hpp"

#include <thread>

#include <boost/asio/ip/tcp.hpp>
#include <doctest/doctest.h>

namespace wherry::transport::test {
namespace {

namespace fs = std::filesystem;
using boost::asio::ip::tcp;

void check(const std::optional<Error>& error, ErrorCode code, std::string_view cause) {
    REQUIRE(error);
    CAPTURE(error->text());
    CHECK(error->code() == code);
    CHECK_MESSAGE(has(*error, cause), error->text());
}

void check_refused(const Meeting& met, std::string_view at_server, std::string_view at_client) {
    check(met.server_error, ErrorCode::authentication, at_server);
    check(met.client_error, ErrorCode::authentication, at_client);
}

// What an unbending foreign TLS peer is made of.
struct Foreign {
    explicit Foreign(const SSL_METHOD* method) : context{SSL_CTX_new(method)} {}
    std::unique_ptr<SSL_CTX, detail::FreeWith<&SSL_CTX_free>> context;
};

// A blocking TLS client on a thread of its own; ends when the server is done with it.
std::jthread foreign_client(const Foreign& foreign, std::uint16_t port) {
    return std::jthread{[&foreign, port] {
        asio::io_context own;
        tcp::socket socket{own};
        socket.connect({asio::ip::address_v4::loopback(), port});
        const detail::SslPtr ssl{SSL_new(foreign.context.get())};
        SSL_set_fd(ssl.get(), socket.native_handle());
        SSL_connect(ssl.get());
        char byte = 0;
        SSL_read(ssl.get(), &byte, 1);
    }};
}

Task<Accepted> next(Listener& listener) {
    co_return co_await listener.accept();
}

Error refused_foreign_client(const Pki& pki, const Foreign& foreign) {
    asio::io_context io;
    auto listener = Listener::open(io.get_executor(), {"127.0.0.1", 0}, pki.server());
    REQUIRE(listener);
    const auto client = foreign_client(foreign, listener->local().port);
    auto accepted = run(io, next(*listener));
    REQUIRE(accepted);
    REQUIRE(!accepted->stream);
    return accepted->stream.error();
}

TEST_SUITE("transport.tls_verify") {

    TEST_CASE("both sides accept each other by address and by name") {
        asio::io_context io;
        const Pki pki;
        meet(io, pki.server(), pki.client(), "127.0.0.1");
        meet(io, pki.server(), pki.client(), "localhost");
    }

    TEST_CASE("a second host with certificates of the same CA is accepted") {
        asio::io_context io;
        const Pki pki;
        const TempDirectory parent;
        const auto other = parent.path() / "other";
        const std::vector<std::string> hosts{"elsewhere"};
        REQUIRE(issue_host(pki.path(), other, hosts));
        auto client = TlsContext::for_client(other);
        REQUIRE(client);
        meet(io, pki.server(), *client, "localhost");
    }

    TEST_CASE("wrong CA: a server of another CA is refused") {
        asio::io_context io;
        const Pki ours;
        const Pki theirs;
        const auto met = clash(io, theirs.server(), ours.client(), "localhost");
        check_refused(met, "not signed by the CA it trusts", "was not signed by our CA");
        CHECK(has(*met.server_error, server_cert_file));
        CHECK(has(*met.client_error, ca_cert_file));
    }

    TEST_CASE("wrong CA: a client of another CA is refused, and told so on its first read") {
        asio::io_context io;
        const Pki ours;
        const Pki theirs;
        fs::copy_file(
            ours.path() / ca_cert_file,
            theirs.path() / ca_cert_file,
            fs::copy_options::overwrite_existing);
        const auto met = clash(io, ours.server(), theirs.client(), "localhost");
        check_refused(met, "was not signed by our CA", "not signed by the CA it trusts");
        CHECK(has(*met.client_error, client_cert_file));
    }

    // Certificates of a CA that is valid for long, and host certificates for the day after `made`.
    // Each side judges by a clock of its own, so that one may hold valid what the other does not.
    struct Times {
        std::chrono::system_clock::time_point made = std::chrono::system_clock::now() - 100h;
        Pki pki{{"localhost"}, {.host_validity = std::chrono::days{1}, .now = made}};
        TlsOptions before{.now = made - 1h};
        TlsOptions during{.now = made + 1h};
        TlsOptions after{.now = made + 50h};
        /// A client or server whose own certificate is valid at any of these times.
        TempDirectory lasting;
        Times() {
            const auto from = lasting.path() / "pki";
            const std::vector<std::string> hosts{"localhost"};
            auto issued = issue_host(
                pki.path(),
                from,
                hosts,
                {.host_validity = std::chrono::days{30}, .now = made - 48h});
            REQUIRE(issued);
        }
        [[nodiscard]] TlsContext lasting_server(TlsOptions at) const {
            auto context = TlsContext::for_server(lasting.path() / "pki", at);
            REQUIRE(context);
            return *context;
        }
        [[nodiscard]] TlsContext lasting_client(TlsOptions at) const {
            auto context = TlsContext::for_client(lasting.path() / "pki", at);
            REQUIRE(context);
            return *context;
        }
    };

    TEST_CASE("expired: the certificate of either side") {
        asio::io_context io;
        const Times at;
        check_refused(
            clash(io, at.pki.server(at.during), at.lasting_client(at.after), "localhost"),
            "expired by its clock",
            "expired on ");
        check_refused(
            clash(io, at.lasting_server(at.after), at.pki.client(at.during), "localhost"),
            "expired on ",
            "expired by its clock");
    }

    TEST_CASE("not yet valid: the certificate of either side") {
        asio::io_context io;
        const Times at;
        check_refused(
            clash(io, at.pki.server(at.during), at.lasting_client(at.before), "localhost"),
            "not yet valid by its clock",
            "is not yet valid");
        check_refused(
            clash(io, at.lasting_server(at.before), at.pki.client(at.during), "localhost"),
            "is not yet valid",
            "not yet valid by its clock");
    }

    TEST_CASE("wrong name: the certificate's names and the one we asked for are shown") {
        asio::io_context io;
        const Pki pki{"host-b", "10.1.2.3"};
        for (const auto* host : {"localhost", "127.0.0.1"}) {
            CAPTURE(host);
            const auto met = clash(io, pki.server(), pki.client(), host);
            check_refused(
                met,
                "it is for DNS:host-b, IP:10.1.2.3, not for the name",
                std::string{"is for DNS:host-b, IP:10.1.2.3, not for "} + host);
        }
    }

    TEST_CASE("a common name does not count as a name") {
        asio::io_context io;
        // The first host is the common name; the only address is not the one we connect to.
        const Pki pki{"localhost.example", "10.1.2.3"};
        const auto met = clash(io, pki.server(), pki.client(), "localhost");
        check_refused(met, "not for the name", "not for localhost");
    }

    TEST_CASE("wrong use: a client certificate in the server's place, and the reverse") {
        asio::io_context io;
        const Pki pki;
        const TempDirectory parent;
        const auto swapped = parent.path() / "swapped";
        const std::vector<std::string> hosts{"localhost"};
        REQUIRE(issue_host(pki.path(), swapped, hosts, {.use = KeyUse::swapped}));
        auto server = TlsContext::for_server(swapped);
        auto client = TlsContext::for_client(swapped);
        REQUIRE(server);
        REQUIRE(client);
        check_refused(
            clash(io, *server, pki.client(), "localhost"),
            "it is not for a TLS server",
            "serverAuth is missing");
        check_refused(
            clash(io, pki.server(), *client, "localhost"),
            "clientAuth is missing",
            "it is not for a TLS client");
    }

    TEST_CASE("self-signed: a certificate that vouches for itself") {
        asio::io_context io;
        const Pki ours;
        const Pki theirs;
        for (const auto& [from, to] :
             {std::pair{ca_cert_file, server_cert_file}, std::pair{ca_key_file, server_key_file}}) {
            fs::copy_file(
                theirs.path() / from, theirs.path() / to, fs::copy_options::overwrite_existing);
        }
        const auto met = clash(io, theirs.server(), ours.client(), "localhost");
        check_refused(met, "not self-signed ones", "is self-signed");
    }

    TEST_CASE("no client certificate: the server says what is missing") {
        const Pki pki;
        const Foreign foreign{TLS_client_method()};
        const auto error = refused_foreign_client(pki, foreign);
        CHECK(error.code() == ErrorCode::authentication);
        CHECK(has(error, "presented no client certificate"));
        CHECK(has(error, client_cert_file));
    }

    TEST_CASE("TLS 1.2: a peer that knows nothing newer is refused by version") {
        const Pki pki;
        const Foreign foreign{TLS_client_method()};
        REQUIRE(SSL_CTX_set_max_proto_version(foreign.context.get(), TLS1_2_VERSION) == 1);
        const auto error = refused_foreign_client(pki, foreign);
        CHECK(error.code() == ErrorCode::version_mismatch);
        CHECK(has(error, "TLS 1.3"));
    }

    TEST_CASE("every alert that tells of a certificate says why, and names our file") {
        const Pki pki{"host-b"};
        const auto client = pki.client();
        struct Row {
            int alert;
            const char* says;
        };
        for (const auto& row :
             {Row{42, "not yet valid"},
              Row{43, "extended key usage"},
              Row{44, "revoked"},
              Row{45, "expired"},
              Row{46, "DNS:host-b"},
              Row{48, "CA it trusts"},
              Row{116, "demands a client certificate"}}) {
            CAPTURE(row.alert);
            const auto error = detail::describe_alert(row.alert, client, "10.0.0.1:1");
            CHECK(error.code() == ErrorCode::authentication);
            CHECK(has(error, row.says));
            CHECK(has(error, "10.0.0.1:1"));
            CHECK(has(error, client_cert_file) == (row.alert != 116));
        }
        CHECK(detail::describe_alert(70, client, "p").code() == ErrorCode::version_mismatch);
    }

} // TEST_SUITE
} // namespace
} // namespace wherry::transport::test
