// SPDX-License-Identifier: Apache-2.0
#include "migrate/image/image_signature.hpp"

#include "formats/hexadecimal.hpp"
#include "migrate/image/secret_file.hpp"
#include "migrate/image/sha256.hpp"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

namespace wherry::migrate {

using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::Status;

namespace {

/// In front of what is signed, so that no signature for something else is one for an image.
constexpr std::string_view label = "wherry image, version 1";

struct ReleaseDigest {
    void operator()(EVP_MD_CTX* context) const noexcept { ::EVP_MD_CTX_free(context); }
};
struct ReleaseFile {
    void operator()(BIO* file) const noexcept { ::BIO_free(file); }
};
using DigestContext = std::unique_ptr<EVP_MD_CTX, ReleaseDigest>;
using MemoryFile = std::unique_ptr<BIO, ReleaseFile>;

constexpr std::size_t message_size =
    label.size() + sizeof(formats::ImageId) + sizeof(formats::ImageDigest);

std::array<unsigned char, message_size>
message_of(const formats::ImageId& id, const formats::ImageDigest& root) {
    std::array<unsigned char, message_size> message{};
    const auto to_char = [](std::byte byte) {
        return std::to_integer<unsigned char>(byte);
    };
    auto at = std::ranges::copy(label, message.begin()).out;
    at = std::ranges::transform(id, at, to_char).out;
    std::ranges::transform(root, at, to_char);
    return message;
}

/// Refuses to ask for a password on the terminal.
int no_password(char* /*into*/, int /*size*/, int /*writing*/, void* /*user*/) {
    return -1;
}

Result<std::shared_ptr<const SigningKey>>
key_from(SigningKey::Handle key, const std::filesystem::path& path, std::string_view kind) {
    if (!key || ::EVP_PKEY_get_id(key.get()) != EVP_PKEY_ED25519) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format("{} holds no {} Ed25519 key in PEM form", path.string(), kind));
    }
    return std::make_shared<const SigningKey>(std::move(key));
}

MemoryFile memory_file(const std::string& text) {
    return MemoryFile{::BIO_new_mem_buf(text.data(), static_cast<int>(text.size()))};
}

} // namespace

std::string short_name_of(const formats::ImageDigest& digest) {
    return fmt::format("sha256:{}...", formats::hexadecimal(std::span{digest}.first<8>()));
}

void SigningKey::Release::operator()(evp_pkey_st* key) const noexcept {
    ::EVP_PKEY_free(key);
}

SigningKey::SigningKey(Handle key) : key_{std::move(key)} {
    std::array<std::byte, 32> bytes{};
    std::size_t length = bytes.size();
    const int got = ::EVP_PKEY_get_raw_public_key(
        key_.get(), reinterpret_cast<unsigned char*>(bytes.data()), &length);
    formats::invariant(got == 1 && length == bytes.size(), "an Ed25519 key has 32 public bytes");
    signer_ = Sha256{}.update(bytes).finish();
}

formats::ImageSignature
SigningKey::sign(const formats::ImageId& id, const formats::ImageDigest& root) const {
    const DigestContext context{::EVP_MD_CTX_new()};
    const auto message = message_of(id, root);
    formats::ImageSignature signature;
    signature.signer = signer_;
    std::size_t length = signature.bytes.size();
    const bool done =
        ::EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, key_.get()) == 1 &&
        ::EVP_DigestSign(
            context.get(),
            reinterpret_cast<unsigned char*>(signature.bytes.data()),
            &length,
            message.data(),
            message.size()) == 1;
    formats::invariant(done && length == signature.bytes.size(), "a private Ed25519 key signs");
    return signature;
}

Status SigningKey::check(
    const formats::ImageId& id,
    const formats::ImageDigest& root,
    const formats::ImageSignature& signature) const {
    if (signature.signer != signer_) {
        return fail(
            ErrorCode::authentication,
            fmt::format(
                "it is signed by another key, {}, and trusted is {}",
                short_name_of(signature.signer),
                short_name_of(signer_)));
    }
    const DigestContext context{::EVP_MD_CTX_new()};
    const auto message = message_of(id, root);
    const bool is_right =
        ::EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, key_.get()) == 1 &&
        ::EVP_DigestVerify(
            context.get(),
            reinterpret_cast<const unsigned char*>(signature.bytes.data()),
            signature.bytes.size(),
            message.data(),
            message.size()) == 1;
    return is_right ? Status{} : fail(ErrorCode::authentication, "its signature is wrong");
}

Result<std::shared_ptr<const SigningKey>> read_signing_key(const std::filesystem::path& path) {
    auto text = read_secret_file(path);
    if (!text) {
        return fail(std::move(text).error());
    }
    SigningKey::Handle key{
        ::PEM_read_bio_PrivateKey(memory_file(*text).get(), nullptr, &no_password, nullptr)};
    ::OPENSSL_cleanse(text->data(), text->size());
    return key_from(std::move(key), path, "private");
}

Result<std::shared_ptr<const SigningKey>> read_trusted_key(const std::filesystem::path& path) {
    const auto text = read_small_file(path);
    if (!text) {
        return fail(text.error());
    }
    SigningKey::Handle key{
        ::PEM_read_bio_PUBKEY(memory_file(*text).get(), nullptr, &no_password, nullptr)};
    return key_from(std::move(key), path, "public");
}

} // namespace wherry::migrate
