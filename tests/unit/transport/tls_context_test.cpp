// SPDX-License-Identifier: Apache-2.0
#include "transport/tls_context.hpp"

#include "tests/unit/transport/support.hpp"

#include <fstream>

#include <doctest/doctest.h>

namespace wherry::transport::test {
namespace {

namespace fs = std::filesystem;

Error refusal(const Pki& pki, TlsOptions options = {}) {
    auto context = TlsContext::for_server(pki.path(), options);
    REQUIRE(!context);
    return context.error();
}

TEST_SUITE("transport.tls_context") {

    TEST_CASE("a good directory is accepted and described") {
        const Pki pki{"host-b", "10.0.0.2"};
        const auto server = pki.server();
        CHECK(server.role() == TlsContext::Role::server);
        CHECK(server.certificate_file() == (pki.path() / server_cert_file).string());
        CHECK(server.certificate_names() == "DNS:host-b, IP:10.0.0.2");
        CHECK(pki.client().certificate_file() == (pki.path() / client_cert_file).string());
    }

    TEST_CASE("a key that others may read is refused with its mode and the remedy") {
        for (const auto extra :
             {fs::perms::group_read, fs::perms::others_read, fs::perms::group_write}) {
            const Pki pki;
            const auto key = pki.path() / server_key_file;
            fs::permissions(key, extra, fs::perm_options::add);
            const auto error = refusal(pki);
            CHECK(error.code() == ErrorCode::permission);
            CHECK(has(error, "chmod 600 " + key.string()));
            CHECK(has(error, "(mode 06"));
            CHECK(TlsContext::for_client(pki.path()));
        }
    }

    TEST_CASE("each missing file is named") {
        for (const auto* name : {ca_cert_file, server_cert_file, server_key_file}) {
            CAPTURE(name);
            const Pki pki;
            REQUIRE(fs::remove(pki.path() / name));
            const auto error = refusal(pki);
            CHECK(error.code() == ErrorCode::not_found);
            CHECK(has(error, (pki.path() / name).string()));
            CHECK(has(error, "wherry pki init"));
        }
    }

    TEST_CASE("files that hold something else are named") {
        for (const auto* name : {ca_cert_file, server_cert_file, server_key_file}) {
            CAPTURE(name);
            const Pki pki;
            std::ofstream{pki.path() / name} << "hello\n";
            const auto error = refusal(pki);
            CHECK(error.code() == ErrorCode::invalid_argument);
            CHECK(has(error, name));
        }
    }

    TEST_CASE("a key of another certificate is refused, naming both") {
        const Pki pki;
        fs::copy_file(
            pki.path() / client_key_file,
            pki.path() / server_key_file,
            fs::copy_options::overwrite_existing);
        const auto error = refusal(pki);
        CHECK(error.code() == ErrorCode::invalid_argument);
        CHECK(has(error, server_key_file));
        CHECK(has(error, server_cert_file));
    }

    TEST_CASE("our own certificate must be valid now") {
        const auto now = std::chrono::system_clock::now();
        const Pki old{{"h"}, {.host_validity = std::chrono::days{1}, .now = now - 48h}};
        const auto expired = refusal(old);
        CHECK(expired.code() == ErrorCode::authentication);
        CHECK(has(expired, "expired on "));
        CHECK(has(expired, server_cert_file));
        CHECK(has(expired, "wherry pki init"));
        const Pki early{{"h"}, {.now = now + 48h}};
        CHECK(has(refusal(early), "not valid before"));
    }

} // TEST_SUITE
} // namespace
} // namespace wherry::transport::test
