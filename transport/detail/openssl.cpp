// SPDX-License-Identifier: Apache-2.0
#include "transport/detail/openssl.hpp"

#include <ctime>

#include <boost/asio/ip/address.hpp>
#include <fmt/format.h>
#include <openssl/err.h>

namespace wherry::transport::detail {

std::string take_openssl_error() {
    const auto first = ERR_get_error();
    ERR_clear_error();
    if (first == 0) {
        return "no reason given";
    }
    const char* reason = ERR_reason_error_string(first);
    return reason != nullptr ? reason : fmt::format("OpenSSL error {:#x}", first);
}

std::unexpected<formats::Error> openssl_failed(std::string_view what, formats::SourceLine origin) {
    return formats::fail(
        formats::ErrorCode::internal, fmt::format("{}: {}", what, take_openssl_error()), origin);
}

std::string name_text(const X509_NAME* name) {
    const BioPtr text{BIO_new(BIO_s_mem())};
    if (X509_NAME_print_ex(text.get(), name, 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) < 0) {
        ERR_clear_error();
        return "an unreadable name";
    }
    char* data = nullptr;
    const auto size = BIO_get_mem_data(text.get(), &data);
    if (size <= 0) {
        return "an empty name";
    }
    // Names come from the peer: what is shown is bounded.
    return std::string{data, std::min<std::size_t>(static_cast<std::size_t>(size), 200)};
}

namespace {

std::string one_name(const GENERAL_NAME* name) {
    int type = 0;
    const auto* value = static_cast<const ASN1_STRING*>(GENERAL_NAME_get0_value(name, &type));
    const auto* bytes =
        type == GEN_DNS || type == GEN_IPADD ? ASN1_STRING_get0_data(value) : nullptr;
    if (bytes == nullptr) {
        return "(other)";
    }
    const auto size = static_cast<std::size_t>(ASN1_STRING_length(value));
    if (type == GEN_DNS) {
        std::string text = "DNS:";
        for (std::size_t i = 0; i < std::min<std::size_t>(size, 253); ++i) {
            text += bytes[i] > 0x20 && bytes[i] < 0x7f ? static_cast<char>(bytes[i]) : '?';
        }
        return text;
    }
    namespace ip = boost::asio::ip;
    ip::address_v4::bytes_type v4{};
    ip::address_v6::bytes_type v6{};
    if (size == v4.size()) {
        std::copy_n(bytes, size, v4.begin());
        return "IP:" + ip::address_v4{v4}.to_string();
    }
    if (size == v6.size()) {
        std::copy_n(bytes, size, v6.begin());
        return "IP:" + ip::address_v6{v6}.to_string();
    }
    return "IP:?";
}

} // namespace

std::string subject_names(const X509* certificate) {
    constexpr int shown = 8;
    const std::unique_ptr<GENERAL_NAMES, FreeWith<&GENERAL_NAMES_free>> names{
        static_cast<GENERAL_NAMES*>(
            X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr))};
    ERR_clear_error();
    const int count = names ? sk_GENERAL_NAME_num(names.get()) : 0;
    if (count <= 0) {
        return "no name at all";
    }
    std::string text;
    for (int i = 0; i < std::min(count, shown); ++i) {
        text += (i == 0 ? "" : ", ") + one_name(sk_GENERAL_NAME_value(names.get(), i));
    }
    return count > shown ? fmt::format("{} and {} more", text, count - shown) : text;
}

std::string time_text(const ASN1_TIME* time) {
    std::tm parts{};
    if (ASN1_TIME_to_tm(time, &parts) != 1) {
        ERR_clear_error();
        return "an unreadable time";
    }
    return fmt::format(
        "{:04}-{:02}-{:02} {:02}:{:02} UTC",
        parts.tm_year + 1900,
        parts.tm_mon + 1,
        parts.tm_mday,
        parts.tm_hour,
        parts.tm_min);
}

namespace {
// -1 earlier, 1 later than `other`; 0 equal; -2 unreadable.
int compare(const ASN1_TIME* time, Time other) {
    return ASN1_TIME_cmp_time_t(time, std::chrono::system_clock::to_time_t(other));
}
} // namespace

bool is_after(const ASN1_TIME* time, Time than) {
    return compare(time, than) == 1;
}
bool is_before(const ASN1_TIME* time, Time than) {
    return compare(time, than) == -1;
}

} // namespace wherry::transport::detail
