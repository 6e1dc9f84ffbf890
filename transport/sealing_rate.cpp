// SPDX-License-Identifier: Apache-2.0
#include "transport/sealing_rate.hpp"

#include "transport/detail/openssl.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <vector>

namespace wherry::transport {

namespace {

using detail::openssl_failed;
using Clock = std::chrono::steady_clock;
using CipherPtr = std::unique_ptr<EVP_CIPHER_CTX, detail::FreeWith<&EVP_CIPHER_CTX_free>>;

constexpr std::size_t record_size = 16 * 1024;
constexpr int measurements = 5;

/// Seals records that nobody sees, under a key that protects nothing.
class Sealer {
public:
    Sealer() : context_{EVP_CIPHER_CTX_new()}, plain_(record_size), sealed_(record_size) {}

    formats::Status seal() {
        static constexpr std::array<unsigned char, 32> key{};
        std::array<unsigned char, 12> nonce{};
        ++count_;
        std::copy_n(reinterpret_cast<const unsigned char*>(&count_), sizeof(count_), nonce.begin());
        std::array<unsigned char, 16> tag{};
        int length = 0;
        int rest = 0;
        const bool done =
            context_ &&
            EVP_EncryptInit_ex(
                context_.get(), EVP_aes_256_gcm(), nullptr, key.data(), nonce.data()) == 1 &&
            EVP_EncryptUpdate(
                context_.get(),
                sealed_.data(),
                &length,
                plain_.data(),
                static_cast<int>(plain_.size())) == 1 &&
            EVP_EncryptFinal_ex(context_.get(), sealed_.data() + length, &rest) == 1 &&
            EVP_CIPHER_CTX_ctrl(
                context_.get(), EVP_CTRL_GCM_GET_TAG, static_cast<int>(tag.size()), tag.data()) ==
                1;
        if (!done) {
            return openssl_failed("AES-256-GCM");
        }
        return {};
    }

private:
    CipherPtr context_;
    std::vector<unsigned char> plain_;
    std::vector<unsigned char> sealed_;
    std::uint64_t count_ = 0;
};

} // namespace

formats::Result<SealingRate> measure_sealing(std::chrono::milliseconds for_time) {
    Sealer sealer;
    std::array<BytesPerSecond, measurements> rates;
    for (BytesPerSecond& rate : rates) {
        const auto begun = Clock::now();
        const auto end = begun + for_time / measurements;
        std::uint64_t sealed = 0;
        Clock::duration took{};
        do {
            if (auto done = sealer.seal(); !done) {
                return formats::fail(std::move(done).error());
            }
            sealed += record_size;
            took = Clock::now() - begun;
        } while (begun + took < end || took <= Clock::duration::zero());
        rate = BytesPerSecond{static_cast<std::uint64_t>(
            static_cast<double>(sealed) / std::chrono::duration<double>(took).count())};
    }
    std::ranges::sort(rates);
    return SealingRate{.usual = rates[measurements / 2], .low = rates.front()};
}

} // namespace wherry::transport
