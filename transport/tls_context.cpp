// SPDX-License-Identifier: Apache-2.0
#include "transport/tls_context.hpp"

#include "transport/detail/openssl.hpp"
#include "transport/detail/tls_verify.hpp"
#include "transport/pki.hpp"

#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/pem.h>

#include <fcntl.h>
#include <sys/stat.h>

namespace wherry::transport {

using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::Status;
namespace fs = std::filesystem;

namespace {

// AES-128 first: fewer rounds for a strength that is enough.
constexpr const char* suites =
    "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
// One system call takes in two records. More would not help: OpenSSL moves all that it has read
// ahead each time it begins a record.
constexpr std::size_t read_ahead_bytes = std::size_t{40} << 10U;

struct CloseFile {
    void operator()(std::FILE* file) const { std::fclose(file); }
};
using FilePtr = std::unique_ptr<std::FILE, CloseFile>;

Result<FilePtr> open_file(const fs::path& path, std::string_view what) {
    FilePtr file{std::fopen(path.c_str(), "re")};
    if (!file) {
        const int number = errno;
        return fail(
            number == ENOENT ? ErrorCode::not_found : ErrorCode::permission,
            fmt::format(
                "cannot read {} {}: {}; `wherry pki init` makes such a directory",
                what,
                path.string(),
                std::strerror(number)));
    }
    return file;
}

// A key with a password would make OpenSSL ask on the terminal.
int no_password(char*, int, int, void*) {
    return -1;
}

Result<detail::X509Ptr> load_certificate(const fs::path& path, std::string_view what) {
    auto file = open_file(path, what);
    if (!file) {
        return fail(std::move(file).error());
    }
    detail::X509Ptr certificate{PEM_read_X509(file->get(), nullptr, &no_password, nullptr)};
    if (!certificate) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format(
                "{} holds no certificate in PEM form: {}",
                path.string(),
                detail::take_openssl_error()));
    }
    return certificate;
}

Result<detail::KeyPtr> load_key(const fs::path& path) {
    auto file = open_file(path, "the key");
    if (!file) {
        return fail(std::move(file).error());
    }
    struct stat about{};
    if (::fstat(::fileno(file->get()), &about) != 0) {
        return fail(formats::system_error(errno, "cannot examine " + path.string()));
    }
    if ((about.st_mode & 077U) != 0) {
        return fail(
            ErrorCode::permission,
            fmt::format(
                "the key {} is open to others (mode {:04o}): chmod 600 {}",
                path.string(),
                about.st_mode & 07777U,
                path.string()));
    }
    detail::KeyPtr key{PEM_read_PrivateKey(file->get(), nullptr, &no_password, nullptr)};
    if (!key) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format(
                "{} holds no private key in PEM form without a password: {}",
                path.string(),
                detail::take_openssl_error()));
    }
    return key;
}

Status check_validity(const X509* certificate, const fs::path& path, detail::Time now) {
    const auto* from = X509_get0_notBefore(certificate);
    const auto* until = X509_get0_notAfter(certificate);
    if (detail::is_before(until, now)) {
        return fail(
            ErrorCode::authentication,
            fmt::format(
                "our certificate {} expired on {}: issue a new one with `wherry pki init`",
                path.string(),
                detail::time_text(until)));
    }
    if (detail::is_after(from, now)) {
        return fail(
            ErrorCode::authentication,
            fmt::format(
                "our certificate {} is not valid before {}: check the clock of this host",
                path.string(),
                detail::time_text(from)));
    }
    return Status{};
}

struct Identity {
    detail::X509Ptr certificate;
    detail::KeyPtr key;
};

Result<Identity>
load_identity(const fs::path& certificate_path, const fs::path& key_path, detail::Time now) {
    auto certificate = load_certificate(certificate_path, "the certificate");
    if (!certificate) {
        return fail(std::move(certificate).error());
    }
    auto key = load_key(key_path);
    if (!key) {
        return fail(std::move(key).error());
    }
    auto valid = check_validity(certificate->get(), certificate_path, now);
    if (!valid) {
        return fail(std::move(valid).error());
    }
    if (X509_check_private_key(certificate->get(), key->get()) != 1) {
        ERR_clear_error();
        return fail(
            ErrorCode::invalid_argument,
            fmt::format(
                "{} is not the key of {}: copy both from one `wherry pki init`",
                key_path.string(),
                certificate_path.string()));
    }
    return Identity{.certificate = *std::move(certificate), .key = *std::move(key)};
}

int choose_protocol(
    SSL*,
    const unsigned char** chosen,
    unsigned char* chosen_size,
    const unsigned char* offered,
    unsigned offered_size,
    void*) {
    for (unsigned at = 0; at < offered_size; at += 1U + offered[at]) {
        const unsigned size = offered[at];
        const auto* name = offered + at + 1;
        if (at + 1 + size <= offered_size && size == alpn_protocol.size() &&
            std::memcmp(name, alpn_protocol.data(), size) == 0) {
            *chosen = name;
            *chosen_size = static_cast<unsigned char>(size);
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

bool set_protocol(SSL_CTX* context, TlsContext::Role role, std::string_view protocol) {
    if (role == TlsContext::Role::server) {
        SSL_CTX_set_alpn_select_cb(context, &choose_protocol, nullptr);
        return true;
    }
    std::vector<unsigned char> wire{protocol.begin(), protocol.end()};
    if (!wire.empty()) {
        wire.insert(wire.begin(), static_cast<unsigned char>(protocol.size()));
    }
    return SSL_CTX_set_alpn_protos(context, wire.data(), static_cast<unsigned>(wire.size())) == 0;
}

bool set_policy(SSL_CTX* context, TlsContext::Role role, std::string_view protocol) {
    SSL_CTX_set_options(
        context,
        SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
            SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_clear_mode(context, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_default_read_buffer_len(context, read_ahead_bytes);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
    SSL_CTX_set_verify_depth(context, 4);
    SSL_CTX_set_cert_verify_callback(context, &detail::verify_peer, nullptr);
    std::array groups{NID_X25519, NID_X9_62_prime256v1};
    return SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) == 1 &&
           SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) == 1 &&
           SSL_CTX_set_ciphersuites(context, suites) == 1 &&
           SSL_CTX_set1_groups(context, groups.data(), std::ssize(groups)) == 1 &&
           SSL_CTX_set_num_tickets(context, 0) == 1 &&
           SSL_CTX_set_max_early_data(context, 0) == 1 && set_protocol(context, role, protocol);
}

} // namespace

Result<TlsContext> TlsContext::for_server(const fs::path& directory, TlsOptions options) {
    return load(directory, Role::server, options);
}

Result<TlsContext> TlsContext::for_client(const fs::path& directory, TlsOptions options) {
    return load(directory, Role::client, options);
}

Result<TlsContext>
TlsContext::load(const fs::path& directory, Role role, const TlsOptions& options) {
    const bool is_server = role == Role::server;
    formats::invariant(
        !is_server || options.protocol == alpn_protocol, "a server takes wherry's protocol only");
    const auto ca_path = directory / ca_cert_file;
    const auto certificate_path = directory / (is_server ? server_cert_file : client_cert_file);
    const auto key_path = directory / (is_server ? server_key_file : client_key_file);
    ERR_clear_error();

    // Only so that a bad CA file is told apart from the rest; OpenSSL reads it again below.
    auto ca = load_certificate(ca_path, "the CA certificate");
    if (!ca) {
        return fail(std::move(ca).error());
    }
    auto own = load_identity(
        certificate_path, key_path, options.now.value_or(std::chrono::system_clock::now()));
    if (!own) {
        return fail(std::move(own).error());
    }
    const auto* certificate = own->certificate.get();
    TlsContext made;
    made.context_ = {
        SSL_CTX_new(is_server ? TLS_server_method() : TLS_client_method()), &SSL_CTX_free};
    auto* context = made.context_.get();
    // The file is read again for the chain that may follow the certificate in it.
    const bool done = context != nullptr && set_policy(context, role, options.protocol) &&
                      SSL_CTX_use_certificate_chain_file(context, certificate_path.c_str()) == 1 &&
                      SSL_CTX_use_PrivateKey(context, own->key.get()) == 1 &&
                      SSL_CTX_load_verify_file(context, ca_path.c_str()) == 1;
    if (!done) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format(
                "cannot use the certificates in {}: {}",
                directory.string(),
                detail::take_openssl_error()));
    }
    if (options.now) {
        X509_VERIFY_PARAM_set_time(
            SSL_CTX_get0_param(context), std::chrono::system_clock::to_time_t(*options.now));
    }
    made.role_ = role;
    made.protocol_ = options.protocol;
    made.ca_file_ = ca_path.string();
    made.certificate_file_ = certificate_path.string();
    made.certificate_names_ = detail::subject_names(certificate);
    made.certificate_validity_ = fmt::format(
        "from {} to {}",
        detail::time_text(X509_get0_notBefore(certificate)),
        detail::time_text(X509_get0_notAfter(certificate)));
    return made;
}

} // namespace wherry::transport
