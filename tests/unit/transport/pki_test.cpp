// SPDX-License-Identifier: Apache-2.0
#include "transport/pki.hpp"

#include "tests/unit/transport/support.hpp"
#include "transport/detail/openssl.hpp"

#include <cstdio>
#include <fstream>
#include <sstream>

#include <doctest/doctest.h>
#include <openssl/pem.h>

#include <sys/stat.h>

namespace wherry::transport::test {
namespace {

namespace fs = std::filesystem;

std::string content(const fs::path& path) {
    std::ostringstream text;
    text << std::ifstream{path}.rdbuf();
    return text.str();
}

detail::X509Ptr certificate(const fs::path& path) {
    const detail::BioPtr bio{BIO_new_file(path.c_str(), "r")};
    REQUIRE(bio);
    detail::X509Ptr read{PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr)};
    REQUIRE(read);
    return read;
}

mode_t mode_of(const fs::path& path) {
    struct stat about{};
    REQUIRE(::stat(path.c_str(), &about) == 0);
    return about.st_mode & 07777U;
}

std::size_t files_in(const fs::path& directory) {
    return static_cast<std::size_t>(
        std::distance(fs::directory_iterator{directory}, fs::directory_iterator{}));
}

TEST_SUITE("transport.pki") {

    TEST_CASE("one call makes exactly the six files, keys readable by their owner only") {
        const TempDirectory parent;
        const auto directory = parent.path() / "deep" / "pki";
        const std::vector<std::string> hosts{"host-b", "10.0.0.2", "fd00::2"};
        REQUIRE(make_pki(directory, hosts));
        CHECK(files_in(directory) == 6);
        for (const auto* name : {ca_key_file, server_key_file, client_key_file}) {
            CAPTURE(name);
            CHECK(mode_of(directory / name) == 0600);
        }
        CHECK(mode_of(directory / ca_cert_file) == (0644 & mode_of(directory / ca_cert_file)));
    }

    TEST_CASE("certificates carry the names, the uses and the key kind they should") {
        const Pki pki{"host-b", "10.0.0.2", "fd00::2"};
        const auto server = certificate(pki.path() / server_cert_file);
        const auto client = certificate(pki.path() / client_cert_file);
        const auto ca = certificate(pki.path() / ca_cert_file);
        CHECK(detail::subject_names(server.get()) == "DNS:host-b, IP:10.0.0.2, IP:fd00::2");
        CHECK(detail::name_text(X509_get_subject_name(server.get())) == "CN=host-b");
        CHECK(X509_get_extended_key_usage(server.get()) == XKU_SSL_SERVER);
        CHECK(X509_get_extended_key_usage(client.get()) == XKU_SSL_CLIENT);
        CHECK(X509_check_ca(ca.get()) == 1);
        CHECK(X509_check_ca(server.get()) == 0);
        CHECK(X509_verify(server.get(), X509_get0_pubkey(ca.get())) == 1);
        CHECK(X509_verify(client.get(), X509_get0_pubkey(ca.get())) == 1);
        CHECK(EVP_PKEY_get_bits(X509_get0_pubkey(server.get())) == 256);
        CHECK(X509_get0_authority_key_id(server.get()) != nullptr);
        CHECK(X509_get0_subject_key_id(server.get()) != nullptr);
        CHECK(
            ASN1_INTEGER_cmp(
                X509_get0_serialNumber(server.get()), X509_get0_serialNumber(client.get())) != 0);
    }

    TEST_CASE("validity starts a little before now and lasts as asked") {
        const auto now = std::chrono::system_clock::now();
        const Pki pki{{"h"}, {.host_validity = std::chrono::days{2}, .now = now}};
        const auto server = certificate(pki.path() / server_cert_file);
        const auto* from = X509_get0_notBefore(server.get());
        const auto* until = X509_get0_notAfter(server.get());
        CHECK(detail::is_before(from, now - 1min));
        CHECK(detail::is_after(from, now - 10min));
        CHECK(detail::is_before(until, now + 48h + 1min));
        CHECK(detail::is_after(until, now + 47h));
    }

    TEST_CASE("nothing is ever overwritten") {
        const Pki pki;
        const auto before = content(pki.path() / server_key_file);
        const std::vector<std::string> hosts{"other"};
        const auto again = make_pki(pki.path(), hosts);
        REQUIRE(!again);
        CHECK(again.error().code() == ErrorCode::already_exists);
        CHECK(has(again.error(), server_cert_file));
        CHECK(has(again.error(), "remove it"));
        CHECK(content(pki.path() / server_key_file) == before);
    }

    TEST_CASE("an existing CA is used again") {
        const Pki pki;
        const auto ca = content(pki.path() / ca_cert_file);
        for (const auto* name :
             {server_cert_file, server_key_file, client_cert_file, client_key_file}) {
            REQUIRE(fs::remove(pki.path() / name));
        }
        const std::vector<std::string> hosts{"host-c"};
        REQUIRE(make_pki(pki.path(), hosts));
        CHECK(content(pki.path() / ca_cert_file) == ca);
        const auto server = certificate(pki.path() / server_cert_file);
        const auto issuer = certificate(pki.path() / ca_cert_file);
        CHECK(X509_verify(server.get(), X509_get0_pubkey(issuer.get())) == 1);
    }

    TEST_CASE("a further host gets certificates of the same CA, but not the CA's key") {
        const Pki pki;
        const TempDirectory parent;
        const auto out = parent.path() / "host-c";
        const std::vector<std::string> hosts{"host-c"};
        REQUIRE(issue_host(pki.path(), out, hosts));
        CHECK(files_in(out) == 5);
        CHECK(!fs::exists(out / ca_key_file));
        CHECK(content(out / ca_cert_file) == content(pki.path() / ca_cert_file));
        CHECK(TlsContext::for_server(out));
    }

    TEST_CASE("a lost CA key is named, and no new CA slips in") {
        const Pki pki;
        REQUIRE(fs::remove(pki.path() / ca_key_file));
        for (const auto* name :
             {server_cert_file, server_key_file, client_cert_file, client_key_file}) {
            REQUIRE(fs::remove(pki.path() / name));
        }
        const std::vector<std::string> hosts{"host-c"};
        const auto made = make_pki(pki.path(), hosts);
        REQUIRE(!made);
        CHECK(has(made.error(), ca_key_file));
        CHECK(files_in(pki.path()) == 1);
    }

    TEST_CASE("what is no host name cannot get into a certificate") {
        const TempDirectory directory;
        for (const auto* host : {"", "a,DNS:b", "a b", "a\nb", "fe80::1%eth0", "a/b"}) {
            CAPTURE(host);
            const std::vector<std::string> hosts{"fine", host};
            const auto made = make_pki(directory.path(), hosts);
            REQUIRE(!made);
            CHECK(made.error().code() == ErrorCode::invalid_argument);
            CHECK(files_in(directory.path()) == 0);
        }
        const auto none = make_pki(directory.path(), {});
        REQUIRE(!none);
        CHECK(has(none.error(), "--host"));
    }

} // TEST_SUITE
} // namespace
} // namespace wherry::transport::test
