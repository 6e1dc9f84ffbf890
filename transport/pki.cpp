// SPDX-License-Identifier: Apache-2.0
#include "transport/pki.hpp"

#include "transport/detail/certificate.hpp"
#include "transport/detail/new_file.hpp"

#include <array>
#include <random>

#include <fmt/format.h>
#include <openssl/pem.h>

namespace wherry::transport {

using detail::CertificateKind;
using detail::Issued;
using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::Status;
namespace fs = std::filesystem;

namespace {

constexpr mode_t key_mode = 0600;
constexpr mode_t certificate_mode = 0644;
constexpr std::chrono::minutes clock_slack{5};

Status check_absent(const fs::path& directory, std::span<const char* const> names) {
    for (const auto* name : names) {
        const auto path = directory / name;
        std::error_code ignored; // an unreadable directory shows when the file is made
        if (fs::exists(path, ignored)) {
            return fail(
                ErrorCode::already_exists,
                fmt::format(
                    "{} already exists: remove it to replace it, or choose another directory",
                    path.string()));
        }
    }
    return Status{};
}

Status make_directory(const fs::path& directory) {
    std::error_code error;
    fs::create_directories(directory, error);
    if (error) {
        return fail(
            formats::system_error(error.value(), "cannot make directory " + directory.string()));
    }
    return Status{};
}

// The key first: a certificate without its key is of no use to anybody.
Status write_pair(
    const fs::path& directory,
    const char* key_name,
    const char* certificate_name,
    const Issued& issued) {
    auto written =
        detail::write_new_file(directory / key_name, detail::to_pem(issued.key.get()), key_mode);
    if (!written) {
        return written;
    }
    return detail::write_new_file(
        directory / certificate_name, detail::to_pem(issued.certificate.get()), certificate_mode);
}

detail::BioPtr open_file(const fs::path& path) {
    return detail::BioPtr{BIO_new_file(path.c_str(), "r")};
}

Result<Issued> load_ca(const fs::path& directory) {
    const auto certificate_path = directory / ca_cert_file;
    const auto key_path = directory / ca_key_file;
    Issued authority;
    if (const auto bio = open_file(certificate_path)) {
        authority.certificate.reset(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
    }
    if (!authority.certificate) {
        return fail(
            ErrorCode::io,
            fmt::format(
                "cannot read the CA certificate {}: {}",
                certificate_path.string(),
                detail::take_openssl_error()));
    }
    if (const auto bio = open_file(key_path)) {
        char no_password[] = "";
        authority.key.reset(PEM_read_bio_PrivateKey(bio.get(), nullptr, nullptr, no_password));
    }
    if (!authority.key) {
        return fail(
            ErrorCode::io,
            fmt::format(
                "cannot read the CA's key {}: {}",
                key_path.string(),
                detail::take_openssl_error()));
    }
    if (X509_check_private_key(authority.certificate.get(), authority.key.get()) != 1) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format("{} is not the key of {}", key_path.string(), certificate_path.string()));
    }
    return authority;
}

Result<Issued> make_ca(const fs::path& directory, const PkiOptions& options) {
    // CAs get names of their own, so that a mix-up of two shows in messages.
    const auto id = std::random_device{}();
    auto authority = detail::issue_certificate(
        {.common_name = fmt::format("wherry CA {:08x}", id),
         .kind = CertificateKind::authority,
         .hosts = {},
         .not_before = options.now - clock_slack,
         .not_after = options.now + options.ca_validity},
        nullptr);
    if (!authority) {
        return authority;
    }
    auto written = write_pair(directory, ca_key_file, ca_cert_file, *authority);
    if (!written) {
        return fail(std::move(written).error());
    }
    return authority;
}

Status check_hosts(std::span<const std::string> hosts) {
    if (hosts.empty()) {
        return fail(
            ErrorCode::invalid_argument,
            "no host is named: --host NAME,IP,... must list what peers connect to");
    }
    for (const auto& host : hosts) {
        auto checked = detail::check_host(host);
        if (!checked) {
            return checked;
        }
    }
    return Status{};
}

struct HostKinds {
    CertificateKind server;
    CertificateKind client;
};

HostKinds kinds_for(KeyUse use) {
    switch (use) {
    case KeyUse::proper:
        break;
    case KeyUse::swapped:
        return {.server = CertificateKind::client, .client = CertificateKind::server};
    case KeyUse::both:
        return {.server = CertificateKind::both, .client = CertificateKind::both};
    }
    return {.server = CertificateKind::server, .client = CertificateKind::client};
}

Status write_host(
    const fs::path& directory,
    const Issued& authority,
    std::span<const std::string> hosts,
    const PkiOptions& options) {
    const auto kinds = kinds_for(options.use);
    struct Wanted {
        CertificateKind kind;
        const char* key_name;
        const char* certificate_name;
    };
    const std::array wanted{
        Wanted{kinds.server, server_key_file, server_cert_file},
        Wanted{kinds.client, client_key_file, client_cert_file},
    };
    for (const auto& [kind, key_name, certificate_name] : wanted) {
        auto issued = detail::issue_certificate(
            {.common_name = hosts.front(),
             .kind = kind,
             .hosts = hosts,
             .not_before = options.now - clock_slack,
             .not_after = options.now + options.host_validity},
            &authority);
        if (!issued) {
            return fail(std::move(issued).error());
        }
        auto written = write_pair(directory, key_name, certificate_name, *issued);
        if (!written) {
            return written;
        }
    }
    return Status{};
}

constexpr std::array files_with_ca{
    server_cert_file, server_key_file, client_cert_file, client_key_file, ca_cert_file};
constexpr auto host_files = std::span<const char* const>{files_with_ca}.first(4);

Status check_request(
    const fs::path& directory,
    std::span<const std::string> hosts,
    std::span<const char* const> files) {
    auto checked = check_hosts(hosts);
    return checked ? check_absent(directory, files) : checked;
}

} // namespace

Status
make_pki(const fs::path& directory, std::span<const std::string> hosts, const PkiOptions& options) {
    auto ready = check_request(directory, hosts, host_files);
    if (ready) {
        ready = make_directory(directory);
    }
    if (!ready) {
        return ready;
    }
    std::error_code ignored; // load_ca() reports what cannot be read
    const bool has_ca = fs::exists(directory / ca_cert_file, ignored) ||
                        fs::exists(directory / ca_key_file, ignored);
    auto authority = has_ca ? load_ca(directory) : make_ca(directory, options);
    if (!authority) {
        return fail(std::move(authority).error());
    }
    return write_host(directory, *authority, hosts, options);
}

Status issue_host(
    const fs::path& ca_directory,
    const fs::path& out_directory,
    std::span<const std::string> hosts,
    const PkiOptions& options) {
    std::error_code ignored; // two unreadable directories are not the same
    const bool in_place = fs::equivalent(ca_directory, out_directory, ignored);
    const auto files = std::span<const char* const>{files_with_ca};
    auto ready = check_request(out_directory, hosts, in_place ? host_files : files);
    if (ready) {
        ready = make_directory(out_directory);
    }
    if (!ready) {
        return ready;
    }
    auto authority = load_ca(ca_directory);
    if (!authority) {
        return fail(std::move(authority).error());
    }
    if (!in_place) {
        auto copied = detail::write_new_file(
            out_directory / ca_cert_file,
            detail::to_pem(authority->certificate.get()),
            certificate_mode);
        if (!copied) {
            return copied;
        }
    }
    return write_host(out_directory, *authority, hosts, options);
}

} // namespace wherry::transport
