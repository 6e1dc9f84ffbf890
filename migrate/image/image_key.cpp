// SPDX-License-Identifier: Apache-2.0
#include "migrate/image/image_key.hpp"

#include "formats/little_endian.hpp"
#include "migrate/image/secret_file.hpp"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>

namespace wherry::migrate {

using formats::Bytes;
using formats::ErrorCode;
using formats::fail;
using formats::Result;

namespace {

constexpr std::size_t tag_size = 16;
constexpr std::size_t table_length_size = sizeof(std::uint32_t);
static_assert(tag_size + table_length_size == formats::sealing_overhead);

struct Release {
    void operator()(EVP_CIPHER_CTX* context) const noexcept { ::EVP_CIPHER_CTX_free(context); }
    void operator()(EVP_KDF* function) const noexcept { ::EVP_KDF_free(function); }
    void operator()(EVP_KDF_CTX* context) const noexcept { ::EVP_KDF_CTX_free(context); }
};
using Cipher = std::unique_ptr<EVP_CIPHER_CTX, Release>;

/// OpenSSL fails here for lack of memory only, and where a build leaves AES or HKDF out.
void must_do(int done) {
    formats::invariant(done == 1, "OpenSSL has AES-256-GCM, HKDF and HMAC");
}

unsigned char* raw(std::byte* bytes) {
    return reinterpret_cast<unsigned char*>(bytes);
}
const unsigned char* raw(const std::byte* bytes) {
    return reinterpret_cast<const unsigned char*>(bytes);
}

/// HKDF-SHA256 of the secret, with the image's id as salt.
void derive(
    const ImageSecret& secret,
    const formats::ImageId& id,
    std::string_view purpose,
    std::span<std::byte> into) {
    const std::unique_ptr<EVP_KDF, Release> function{
        ::EVP_KDF_fetch(nullptr, OSSL_KDF_NAME_HKDF, nullptr)};
    const std::unique_ptr<EVP_KDF_CTX, Release> context{::EVP_KDF_CTX_new(function.get())};
    KeyBytes key = secret.bytes();
    formats::ImageId salt = id;
    std::string digest{"SHA256"};
    std::string info{purpose};
    const std::array parameters{
        ::OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest.data(), 0),
        ::OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, key.data(), key.size()),
        ::OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, salt.data(), salt.size()),
        ::OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info.data(), info.size()),
        ::OSSL_PARAM_construct_end()};
    must_do(::EVP_KDF_derive(context.get(), raw(into.data()), into.size(), parameters.data()));
    ::OPENSSL_cleanse(key.data(), key.size());
}

std::array<std::byte, 12> nonce_of(const SealedPlace& place) {
    std::array<std::byte, 12> nonce{};
    formats::store_little(nonce, 0, place.number);
    return nonce;
}

std::array<std::byte, 24> associated_data_of(const formats::ImageId& id, const SealedPlace& place) {
    std::array<std::byte, 24> data{};
    std::ranges::copy(id, data.begin());
    formats::store_little(data, 16, place.number);
    formats::store_little(data, 20, static_cast<std::uint16_t>(place.type));
    formats::store_little(data, 22, place.flags);
    return data;
}

/// Sections are far shorter than an int.
int length_of(std::span<const std::byte> bytes) {
    return static_cast<int>(bytes.size());
}

std::optional<std::byte> digit_of(char letter) {
    constexpr std::string_view digits = "0123456789abcdef";
    const auto at =
        digits.find(static_cast<char>(letter | ('A' <= letter && letter <= 'F' ? 0x20 : 0)));
    return at == std::string_view::npos ? std::nullopt : std::optional{static_cast<std::byte>(at)};
}

std::optional<KeyBytes> key_from(std::string_view text) {
    KeyBytes key{};
    if (text.size() == key.size()) {
        std::ranges::copy(std::as_bytes(std::span{text}), key.begin());
        return key;
    }
    if (text.size() == key.size() * 2 + 1 && text.back() == '\n') {
        text.remove_suffix(1);
    }
    if (text.size() != key.size() * 2) {
        return std::nullopt;
    }
    for (std::size_t at = 0; at < key.size(); ++at) {
        const auto high = digit_of(text[at * 2]);
        const auto low = digit_of(text[at * 2 + 1]);
        if (!high || !low) {
            return std::nullopt;
        }
        key[at] = *high << 4U | *low;
    }
    return key;
}

} // namespace

ImageSecret::~ImageSecret() {
    ::OPENSSL_cleanse(bytes_.data(), bytes_.size());
}

Result<std::shared_ptr<const ImageSecret>> read_key_file(const std::filesystem::path& path) {
    auto text = read_secret_file(path);
    if (!text) {
        return fail(std::move(text).error());
    }
    auto key = key_from(*text);
    ::OPENSSL_cleanse(text->data(), text->size());
    if (!key) {
        return fail(
            ErrorCode::invalid_argument,
            path.string() +
                " holds no key: 32 bytes or 64 hexadecimal digits (openssl rand -hex 32)");
    }
    auto secret = std::make_shared<const ImageSecret>(*key);
    ::OPENSSL_cleanse(key->data(), key->size());
    return secret;
}

ImageKey::ImageKey(const ImageSecret& secret, const formats::ImageId& id) : id_{id} {
    derive(secret, id, "wherry image: sections", sections_);
    derive(secret, id, "wherry image: root", root_);
    derive(secret, id, "wherry image: check", check_);
}

ImageKey::~ImageKey() {
    ::OPENSSL_cleanse(sections_.data(), sections_.size());
    ::OPENSSL_cleanse(root_.data(), root_.size());
}

formats::ImageDigest ImageKey::seal_of(const formats::ImageDigest& root) const {
    formats::ImageDigest seal{};
    unsigned length = 0;
    const auto* done = ::HMAC(
        ::EVP_sha256(),
        root_.data(),
        static_cast<int>(root_.size()),
        raw(root.data()),
        root.size(),
        raw(seal.data()),
        &length);
    must_do(done != nullptr && length == seal.size() ? 1 : 0);
    return seal;
}

Bytes ImageKey::sealed_length(Bytes table, Bytes payload) noexcept {
    return table + payload + Bytes{formats::sealing_overhead};
}

void ImageKey::seal(
    const SealedPlace& place,
    std::span<const std::byte> table,
    std::span<const std::byte> payload,
    std::span<std::byte> into) const {
    formats::invariant(
        Bytes{into.size()} == sealed_length(Bytes{table.size()}, Bytes{payload.size()}),
        "there is room for a ciphertext and its tag");
    const Cipher cipher{::EVP_CIPHER_CTX_new()};
    const auto nonce = nonce_of(place);
    const auto data = associated_data_of(id_, place);
    int length = 0;
    must_do(::EVP_EncryptInit_ex(
        cipher.get(), ::EVP_aes_256_gcm(), nullptr, raw(sections_.data()), raw(nonce.data())));
    must_do(::EVP_EncryptUpdate(cipher.get(), nullptr, &length, raw(data.data()), length_of(data)));
    std::array<std::byte, table_length_size> table_length{};
    formats::store_little(table_length, 0, static_cast<std::uint32_t>(table.size()));
    for (const auto part : {std::span<const std::byte>{table_length}, table, payload}) {
        if (part.empty()) {
            continue; // OpenSSL takes a null pointer for associated data
        }
        must_do(::EVP_EncryptUpdate(
            cipher.get(), raw(into.data()), &length, raw(part.data()), length_of(part)));
        into = into.subspan(part.size());
    }
    must_do(::EVP_EncryptFinal_ex(cipher.get(), raw(into.data()), &length));
    must_do(::EVP_CIPHER_CTX_ctrl(
        cipher.get(), EVP_CTRL_GCM_GET_TAG, static_cast<int>(tag_size), into.data()));
}

Result<ImageKey::Opened>
ImageKey::open(const SealedPlace& place, std::span<const std::byte> sealed) const {
    const auto wrong = [] {
        return fail(ErrorCode::corrupted, "it was not sealed like this with this key");
    };
    if (sealed.size() < formats::sealing_overhead) {
        return wrong();
    }
    const Cipher cipher{::EVP_CIPHER_CTX_new()};
    const auto nonce = nonce_of(place);
    const auto data = associated_data_of(id_, place);
    auto tag = std::array<std::byte, tag_size>{};
    std::ranges::copy(sealed.last(tag_size), tag.begin());
    const auto ciphertext = sealed.first(sealed.size() - tag_size);
    std::vector<std::byte> text(ciphertext.size());
    int length = 0;
    must_do(::EVP_DecryptInit_ex(
        cipher.get(), ::EVP_aes_256_gcm(), nullptr, raw(sections_.data()), raw(nonce.data())));
    must_do(::EVP_DecryptUpdate(cipher.get(), nullptr, &length, raw(data.data()), length_of(data)));
    must_do(::EVP_DecryptUpdate(
        cipher.get(), raw(text.data()), &length, raw(ciphertext.data()), length_of(ciphertext)));
    must_do(::EVP_CIPHER_CTX_ctrl(
        cipher.get(), EVP_CTRL_GCM_SET_TAG, static_cast<int>(tag.size()), tag.data()));
    if (::EVP_DecryptFinal_ex(cipher.get(), raw(text.data()) + length, &length) != 1) {
        return wrong();
    }
    const std::size_t table_length = formats::load_little<std::uint32_t>(text, 0);
    if (table_length > text.size() - table_length_size) {
        return fail(ErrorCode::corrupted, "its table is longer than it is");
    }
    const auto rest = std::span{text}.subspan(table_length_size);
    const auto table = rest.first(table_length);
    const auto payload = rest.subspan(table_length);
    return Opened{
        .table = {table.begin(), table.end()}, .payload = {payload.begin(), payload.end()}};
}

} // namespace wherry::migrate
